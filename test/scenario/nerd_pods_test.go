package scenario_test

import (
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// TestNerdPods looks at containers that a client of the CRI has made in pods.
func TestNerdPods(t *testing.T) {
	if testenv.CRIRuntime(t) != "minid" {
		t.Skip("needs minid: its native API is asked for what its CRI has made")
	}
	s := testenv.StartCRI(t, testenv.CRIOptions{})
	n := nerd{t, testenv.Binary(t, "mininerd"), []string{"--address", s.Socket, "-n", "k8s.io"}}
	pod := s.RunPod("web")
	id := pod.Run("main", "sh", "-c", "echo to the log; sleep 600")
	const name = "k8s://tests/web/main"
	if out := n.do("ps", "--format", "{{.Names}} {{.ID}} {{.State}}"); !strings.Contains(out, name+" "+id[:12]+" running\n") {
		t.Errorf("ps printed %q", out)
	}
	if out := n.do("ps", "-q", "--filter", "name=web/main"); out != id[:12]+"\n" {
		t.Errorf("ps by name printed %q", out)
	}
	testenv.Eventually(t, 10*time.Second, "the log is read", func() bool { return n.do("logs", name) == "to the log\n" })
	if out := n.do("exec", name, "echo", "inside"); out != "inside\n" {
		t.Errorf("exec printed %q", out)
	}
	if out := n.do("inspect", "-f", "{{.Name}} {{.State.Running}}", id[:8]); out != "/"+name+" true\n" {
		t.Errorf("inspect printed %q", out)
	}
	if out := n.do("inspect", "--mode", "native", "-f", "{{.member.pod}} {{.member.pod_namespace}}", name); out != "web tests\n" {
		t.Errorf("native inspect printed %q", out)
	}
	refused(t, n.try(nil, "rm", name), "belongs to pod tests/web", "--force")
	refused(t, n.try(nil, "logs", "k8s://tests/other/main"), "No such container: k8s://tests/other/main")
	refused(t, n.try(nil, "logs", "k8s://tests"), "k8s://NAMESPACE/POD/CONTAINER")
	if o := n.try(nil, "stop", "-t0", name); o.Code != 0 || !strings.Contains(o.Stderr, "WARNING: container "+name+" belongs to pod tests/web") {
		t.Errorf("stop: %+v", o)
	}
	if out := n.do("container", "prune", "-f"); strings.Contains(out, id) {
		t.Errorf("prune took a pod's container: %s", out)
	}
	if o := n.try(nil, "rm", "-f", name); o.Code != 0 || !strings.Contains(o.Stderr, "WARNING") {
		t.Errorf("rm -f: %+v", o)
	}
	if out := n.do("ps", "-aq", "--filter", "name=web/main"); out != "" {
		t.Errorf("left: %q", out)
	}
}

package scenario_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// runcBehind makes a program of the test that runs runc, after the lines given.
func runcBehind(t *testing.T, dir, name, lines string) string {
	t.Helper()
	path := write(t, dir, name, "#!/bin/sh\n"+lines+"\nexec /usr/sbin/runc \"$@\"\n")
	check(t, os.Chmod(path, 0o755))
	return path
}

// TestCRIRowsKeys: keys of the configuration that change how a runtime is called, what a pod publishes, and where devices
// are described.
func TestCRIRowsKeys(t *testing.T) {
	dir := testenv.Dir(t)
	calls := filepath.Join(dir, "calls")
	write(t, dir, "cdi/tests.yaml", "cdiVersion: 0.6.0\nkind: tests.example/thing\ndevices:\n- name: one\n  containerEdits:\n    env: [\"FROM_CDI=yes\"]\n")
	s := testenv.StartCRI(t, testenv.CRIOptions{Runtime: "minid", Config: fmt.Sprintf(`[cri]
no_pivot = true
disable_hostport_mapping = true
[oci]
cdi_spec_dirs = [%q]
[runtimes.here]
path = "/no/such/runtime"
platform_runtime_paths = {%q = %q}
[runtimes.late]
path = %q
container_create_timeout = "1s"
`, filepath.Join(dir, "cdi"), goruntime.GOOS+"/"+goruntime.GOARCH, runcBehind(t, dir, "noted", `echo "$@" >>`+calls),
		runcBehind(t, dir, "late", `case " $* " in *" create "*) exec sleep 30;; esac`))})
	c := s.CRI.In(t)

	plain := mustHandled(t, s, "", nil, func(c *runtimeapi.PodSandboxConfig) {
		c.PortMappings = []*runtimeapi.PortMapping{{ContainerPort: 80, HostPort: 12089}}
	})
	id := started(plain, sleeper(func(c *runtimeapi.ContainerConfig) {
		c.CDIDevices = []*runtimeapi.CDIDevice{{Name: "tests.example/thing=one"}}
	}))
	if got := strings.TrimSpace(c.Exec(id, "sh", "-c", "echo $FROM_CDI; ls / | grep -c proc")); got != "yes\n1" {
		t.Errorf("a container whose root was not pivoted, with a device of the directory: %q", got)
	}
	second := mustHandled(t, s, "", nil, func(c *runtimeapi.PodSandboxConfig) {
		c.Metadata.Name = "second" // with ports of pods published, this one would be refused
		c.PortMappings = []*runtimeapi.PortMapping{{ContainerPort: 80, HostPort: 12089}}
	})
	second.Remove()

	here := mustHandled(t, s, "here", nil, func(c *runtimeapi.PodSandboxConfig) { c.Metadata.Name = "here" })
	id = started(here, sleeper())
	c.Exec(id, "true")
	noted, err := os.ReadFile(calls)
	check(t, err)
	if !strings.Contains(string(noted), " create ") || !strings.Contains(string(noted), " --no-pivot ") {
		t.Errorf("the platform's runtime was called with: %s", noted)
	}

	late := mustHandled(t, s, "late", nil, func(c *runtimeapi.PodSandboxConfig) { c.Metadata.Name = "late" })
	began := time.Now()
	_, err = s.Runtime.StartContainer(t.Context(), &runtimeapi.StartContainerRequest{ContainerId: late.Create(sleeper())})
	declined(t, "a runtime that takes too long", err, codes.DeadlineExceeded, "container_create_timeout")
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s to say so", took)
	}
}

// TestCRIRowsLogs: a pod that asks for its logs in one of its volumes.
func TestCRIRowsLogs(t *testing.T) {
	kubelet := testenv.Dir(t)
	s := testenv.StartCRI(t, testenv.CRIOptions{Runtime: "minid", Config: fmt.Sprintf(`[cri]
kubelet_dir = %q
[runtimes.told]
inherit_default_runtime = true
allowed_annotations = ["link-logs.crio.io"]
`, kubelet)})
	c := s.CRI.In(t)
	ask := func(volume string) map[string]string {
		return map[string]string{"io.kubernetes.cri-o.LinkLogs": volume}
	}
	_, err := handled(t, s, "told", ask("logging"))
	declined(t, "a volume that is not there", err, codes.InvalidArgument, "emptyDir volume logging", "cri.kubelet_dir")
	_, err = handled(t, s, "told", ask("../../x"))
	declined(t, "no name of a volume", err, codes.InvalidArgument, "no name of a volume")

	pods := func(uid string) string {
		dir := filepath.Join(kubelet, "pods", uid, "volumes/kubernetes.io~empty-dir/logging")
		check(t, os.MkdirAll(dir, 0o777))
		return dir
	}
	var volume string
	pod := mustHandled(t, s, "told", ask("logging"), func(c *runtimeapi.PodSandboxConfig) { volume = pods(c.Metadata.Uid) })
	talker := sleeper(func(c *runtimeapi.ContainerConfig) {
		c.Metadata.Name, c.LogPath = "talker", "talker/0.log"
		c.Command = []string{"sh", "-c", "echo spoken; sleep 600"}
		c.Args = nil
	})
	check(t, os.MkdirAll(filepath.Join(pod.Config.LogDirectory, "talker"), 0o755))
	id := started(pod, talker)
	reader := started(pod, sleeper(func(c *runtimeapi.ContainerConfig) {
		c.Metadata.Name = "reader"
		c.Mounts = []*runtimeapi.Mount{{ContainerPath: "/logging", HostPath: volume}}
	}))
	for _, script := range []string{
		"until grep -q spoken /logging/logs/talker/0.log; do sleep 0.1; done",
		"grep spoken /logging/logs/" + id + ".log",
		"! touch /logging/logs/x",
		"touch /logging/x",
	} {
		c.Exec(reader, "sh", "-c", script)
	}
	s.Daemon.Kill9()
	s.Daemon.Start()
	_, err = s.Runtime.StopPodSandbox(context.Background(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: pod.ID})
	check(t, err)
	if left, err := os.ReadDir(filepath.Join(volume, "logs")); err != nil || len(left) > 0 {
		t.Errorf("in the volume of a pod that is stopped: %v %v", left, err)
	}
	check(t, os.RemoveAll(volume))
	pod.Remove()
	if data, err := os.ReadFile(filepath.Join(pod.Config.LogDirectory, "talker/0.log")); err != nil || !strings.Contains(string(data), "spoken") {
		t.Errorf("the log afterwards: %q %v", data, err)
	}
	if _, err := os.Lstat(filepath.Join(pod.Config.LogDirectory, id+".log")); !os.IsNotExist(err) {
		t.Errorf("the link is left: %v", err)
	}
}

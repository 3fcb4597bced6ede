package scenario_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// node is upstream's API server, kubelet and kubectl, unchanged, with minid as the runtime.
type node struct {
	*testenv.Kubernetes
	t *testing.T
	c *testenv.CRIServer
}

// TestKubernetes uses a cluster as its users do: by kubectl. The parts are no subtests, because the network is the
// goroutine's.
func TestKubernetes(t *testing.T) {
	onlyMinid(t)
	c := testenv.StartCRI(t, testenv.CRIOptions{})
	k := &node{testenv.StartKubernetes(t, c.Daemon.Address), t, c}
	t.Cleanup(func() {
		if t.Failed() {
			k.StopKubelet()
			c.RemoveAll()
			t.Logf("the end of the kubelet's log:\n%s", lastLines(k.Log("kubelet"), 60))
		}
	})
	k.describesItself()
	k.runsPods()
	k.streams()
	k.probes()
	k.survives()
	k.static()
	k.forgets()
}

// describesItself: what the node says of its runtime.
func (k *node) describesItself() {
	k.t.Helper()
	info := k.Kubectl("get", "node", k.Node, "-o", "jsonpath={.status.nodeInfo.containerRuntimeVersion} {.status.runtimeHandlers} {.status.features}")
	if !strings.HasPrefix(info, "minid://") || !strings.Contains(info, `"recursiveReadOnlyMounts":true`) || !strings.Contains(info, `"supplementalGroupsPolicy":true`) {
		k.t.Errorf("the node says of its runtime: %s", info)
	}
}

// runsPods: an init container, files of every kind, limits, a user, and all of it in one pod.
func (k *node) runsPods() {
	k.t.Helper()
	k.Kubectl("create", "configmap", "settings", "--from-literal=greeting=hello")
	k.Kubectl("create", "secret", "generic", "key", "--from-literal=word=sesame")
	k.Apply("whole", k.pod("whole", `
  initContainers:
  - name: before
    image: `+testenv.SuiteBusybox+`
    command: [sh, -c, "echo made > /shared/before"]
    volumeMounts: [{name: shared, mountPath: /shared}]
  - name: beside
    image: `+testenv.SuiteBusybox+`
    restartPolicy: Always
    command: [sh, -c, "while :; do date > /shared/beside; sleep 1; done"]
    volumeMounts: [{name: shared, mountPath: /shared}]
  containers:
  - name: main
    image: `+testenv.SuiteBusybox+`
    command: [sh, -c, "trap 'exit 7' TERM; cat /shared/before /etc/settings/greeting /etc/key/word; echo \"$POD_IP as $(id -u)\"; while :; do sleep 0.1; done"]
    env: [{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
    resources: {limits: {cpu: 500m, memory: 64Mi}}
    securityContext: {runAsUser: 1000, readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}
    volumeMounts:
    - {name: shared, mountPath: /shared}
    - {name: settings, mountPath: /etc/settings}
    - {name: key, mountPath: /etc/key}
  volumes:
  - {name: shared, emptyDir: {medium: Memory}}
  - {name: settings, configMap: {name: settings}}
  - {name: key, secret: {secretName: key}}
`))
	k.ready("whole")
	ip := k.Kubectl("get", "pod", "whole", "-o", "jsonpath={.status.podIP}")
	k.shows(ip+" as 1000", "logs", "whole", "-c", "main")
	k.shows("made", "logs", "whole", "-c", "main")
	k.shows("hello", "exec", "whole", "-c", "main", "--", "cat", "/etc/settings/greeting")
	k.shows("Read-only file system", "exec", "whole", "-c", "main", "--", "sh", "-c", "touch /x 2>&1; true")
	k.shows("67108864", "exec", "whole", "-c", "main", "--", "cat", memoryLimitFile())
}

// streams: exec, attach, port-forward, cp, logs and debug, as kubectl has them reach a container.
func (k *node) streams() {
	k.t.Helper()
	k.Apply("web", k.pod("web", `
  containers:
  - name: main
    image: `+testenv.SuiteBusybox+`
    command: [sh, -c, "mkdir /www; echo page > /www/index.html; httpd -p 8080 -h /www; while read -r line; do echo got $line; done; sleep 1000"]
    stdin: true
    ports: [{containerPort: 8080, hostPort: 18080, hostIP: 127.0.0.1}]
`))
	k.ready("web")
	if out, err := k.Try("exec", "web", "--", "sh", "-c", "echo told; exit 3"); err == nil || !strings.Contains(out, "told") || !strings.Contains(out, "exit code 3") {
		k.t.Errorf("exec with an exit code: %v\n%s", err, out)
	}
	stop := k.Background("forward.log", "port-forward", "--address", "127.0.0.1", "pod/web", "19090:8080")
	k.answers("127.0.0.1:19090")
	stop()
	k.answers("127.0.0.1:18080")
	k.answers(k.Kubectl("get", "pod", "web", "-o", "jsonpath={.status.podIP}") + ":8080")
	file := filepath.Join(testenv.Dir(k.t), "index.html")
	k.Kubectl("cp", "web:/www/index.html", file)
	if data, err := os.ReadFile(file); err != nil || string(data) != "page\n" {
		k.t.Errorf("kubectl cp: %q, %v", data, err)
	}
	k.Kubectl("debug", "web", "--image="+testenv.SuiteBusybox, "--container=look", "--target=main", "--", "sh", "-c", "ps; echo looked; sleep 1000")
	k.eventually("the ephemeral container sees the processes of its target", func() bool {
		out, _ := k.Try("logs", "web", "-c", "look")
		return strings.Contains(out, "looked") && strings.Contains(out, "httpd")
	})
	k.eventually("the summary of resources has the pod", func() bool {
		out, _ := k.Try("get", "--raw", "/api/v1/nodes/"+k.Node+"/proxy/stats/summary")
		return regexp.MustCompile(`(?s)"name": "web".*"workingSetBytes": [1-9]`).MatchString(out)
	})
}

// probes: a readiness probe that fails and does well again, a liveness probe whose failure restarts, a hook before the end.
func (k *node) probes() {
	k.t.Helper()
	k.Apply("probed", k.pod("probed", `
  containers:
  - name: main
    image: `+testenv.SuiteBusybox+`
    command: [sh, -c, "touch /tmp/live; sleep 1000"]
    readinessProbe: {exec: {command: [cat, /tmp/ready]}, periodSeconds: 1}
    livenessProbe: {exec: {command: [cat, /tmp/live]}, periodSeconds: 1, failureThreshold: 1}
`))
	k.eventually("it runs", func() bool { return k.field("probed", ".status.phase") == "Running" })
	k.Kubectl("exec", "probed", "--", "touch", "/tmp/ready")
	k.ready("probed")
	k.Kubectl("exec", "probed", "--", "rm", "/tmp/live")
	k.eventually("the container is started again", func() bool {
		return k.field("probed", ".status.containerStatuses[0].restartCount") == "1"
	})
}

// survives: minid is killed while the kubelet works.
func (k *node) survives() {
	k.t.Helper()
	before := k.field("web", ".status.containerStatuses[0].containerID") + k.field("whole", ".status.containerStatuses[0].containerID")
	k.c.Daemon.Kill9()
	k.answers("127.0.0.1:18080")
	k.c.Daemon.Launch()
	k.eventually("exec works again", func() bool {
		out, err := k.Try("exec", "web", "-c", "main", "--", "echo", "again")
		return err == nil && out == "again"
	})
	k.eventually("the node is ready", func() bool {
		out, _ := k.Try("get", "node", k.Node, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		return out == "True"
	})
	after := k.field("web", ".status.containerStatuses[0].containerID") + k.field("whole", ".status.containerStatuses[0].containerID")
	if before != after || k.field("web", ".status.containerStatuses[0].restartCount") != "0" {
		k.t.Errorf("containers were started again: %s, now %s", before, after)
	}
}

// static: a pod from a file of the node.
func (k *node) static() {
	k.t.Helper()
	file := k.Manifest("fixed.yaml")
	if err := os.WriteFile(file, []byte(strings.Replace(k.pod("fixed", `
  hostNetwork: true
  containers: [{name: main, image: `+testenv.SuiteBusybox+`, command: [sleep, "1000"]}]
`), "  nodeName: "+k.Node+"\n", "", 1)), 0o600); err != nil {
		k.t.Fatal(err)
	}
	k.eventually("the static pod runs", func() bool { return k.field("fixed-"+k.Node, ".status.phase") == "Running" })
	if err := os.Remove(file); err != nil {
		k.t.Fatal(err)
	}
	k.eventually("it is gone", func() bool {
		out, _ := k.Try("get", "pods", "-o", "name")
		return !strings.Contains(out, "fixed")
	})
}

// forgets: pods that are deleted leave nothing, and their last words are known.
func (k *node) forgets() {
	k.t.Helper()
	k.Kubectl("delete", "pod", "--all", "--wait", "--timeout=60s")
	k.eventually("the runtime has no pod", func() bool {
		return strings.TrimSpace(k.c.Daemon.Minictr("-n", "k8s.io", "containers", "ls", "-q")) == ""
	})
}

// pod is a manifest of a pod on the node.
func (k *node) pod(name, spec string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata:\n  name: %s\nspec:\n  nodeName: %s\n  automountServiceAccountToken: false\n  terminationGracePeriodSeconds: 1\n%s", name, k.Node, strings.TrimPrefix(spec, "\n"))
}

func (k *node) ready(pod string) {
	k.t.Helper()
	k.Kubectl("wait", "--for=condition=Ready", "--timeout=60s", "pod/"+pod)
}

func (k *node) field(pod, path string) string {
	out, _ := k.Try("get", "pod", pod, "-o", "jsonpath={"+path+"}")
	return out
}

func (k *node) shows(want string, args ...string) {
	k.t.Helper()
	if out := k.Kubectl(args...); !strings.Contains(out, want) {
		k.t.Errorf("kubectl %s: no %q in\n%s", strings.Join(args, " "), want, out)
	}
}

func (k *node) answers(address string) {
	k.t.Helper()
	k.eventually(address+" answers", func() bool {
		page, err := testenv.Get(address)
		return err == nil && page == "page\n"
	})
}

func (k *node) eventually(what string, ask func() bool) {
	k.t.Helper()
	testenv.Eventually(k.t, 60*time.Second, what, ask)
}

// memoryLimitFile is where a container finds its own limit.
func memoryLimitFile() string {
	if _, err := os.Stat("/sys/fs/cgroup/memory"); err == nil {
		return "/sys/fs/cgroup/memory/memory.limit_in_bytes"
	}
	return "/sys/fs/cgroup/memory.max"
}

func lastLines(text string, n int) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

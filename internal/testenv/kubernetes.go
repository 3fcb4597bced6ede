package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Kubernetes is upstream's API server and kubelet, with Debian's etcd, on a runtime: a cluster of one node without
// controllers and scheduler, so that pods name their node. All of it is in the network namespace of the test.
type Kubernetes struct {
	Node string // its name

	t       testing.TB
	dir     string
	program string
	kubelet *background
}

const nodeAddress = "10.254.0.1"

// background is a program that runs until it is ended.
type background struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// kubernetesProgram is what "make kubernetes" builds.
func kubernetesProgram(t testing.TB) string {
	t.Helper()
	path := filepath.Join(Repository(t), ".cache/kubernetes/kubernetes")
	if !executable(path) {
		t.Skip("needs upstream's kubelet, API server and kubectl, which are not built (make kubernetes)")
	}
	return path
}

// StartKubernetes starts a cluster whose node is the runtime at a socket. The node has registered itself and is ready.
func StartKubernetes(t testing.TB, socket string) *Kubernetes {
	t.Helper()
	Root(t)
	Need(t, "etcd", "openssl")
	k := &Kubernetes{Node: "node1", t: t, dir: Dir(t), program: kubernetesProgram(t)}
	Leftovers(t, filepath.Base(k.dir))
	k.keepSettings("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes")
	// The node's address is none of the loopback's, which a kubelet does not take.
	Run(t, "ip", "addr", "add", nodeAddress+"/32", "dev", "lo")
	// What the kubelet mounts for the pods' volumes goes when the pods have gone; of a test that failed, here.
	t.Cleanup(func() { unmountBelow(k.dir) })
	etcd := []string{"--data-dir", k.file("etcd"), "--listen-client-urls", "http://127.0.0.1:2379", "--advertise-client-urls", "http://127.0.0.1:2379",
		"--listen-peer-urls", "http://127.0.0.1:2380", "--initial-advertise-peer-urls", "http://127.0.0.1:2380", "--initial-cluster", "default=http://127.0.0.1:2380", "--unsafe-no-fsync"}
	k.start("etcd.log", "etcd", etcd...)
	Run(t, "openssl", "genrsa", "-out", k.file("key.pem"), "2048")
	k.write("tokens.csv", "secret,admin,admin,system:masters\n")
	k.start("apiserver.log", k.program, "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", "--bind-address=127.0.0.1",
		"--advertise-address="+nodeAddress, "--cert-dir="+k.file("certs"), "--token-auth-file="+k.file("tokens.csv"), "--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes", "--service-account-key-file="+k.file("key.pem"), "--service-account-signing-key-file="+k.file("key.pem"),
		"--disable-admission-plugins=ServiceAccount", "--kubelet-preferred-address-types=InternalIP", "--endpoint-reconciler-type=none")
	k.write("kubeconfig", `apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://127.0.0.1:6443", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: secret}}]
contexts: [{name: test, context: {cluster: test, user: admin}}]
current-context: test
`)
	Eventually(t, time.Minute, "the API server answers: "+k.file("apiserver.log"), func() bool {
		_, err := k.Try("get", "--raw", "/readyz")
		return err == nil
	})
	k.startKubelet(socket)
	Eventually(t, time.Minute, "the node is ready: "+k.file("kubelet.log"), func() bool {
		out, _ := k.Try("get", "node", k.Node, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		return out == "True"
	})
	return k
}

// startKubelet starts upstream's kubelet on the runtime, as an owner of a node would but for what a test may not have: the
// host's cgroups and directories.
func (k *Kubernetes) startKubelet(socket string) {
	k.t.Helper()
	root := "/" + filepath.Base(k.dir)
	k.makeCgroups(root)
	k.write("kubelet.yaml", fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://%s
address: %s
failSwapOn: false
failCgroupV1: false
cgroupRoot: %s
enforceNodeAllocatable: []
podLogsDir: %s
staticPodPath: %s
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
makeIPTablesUtilChains: false
oomScoreAdj: 0
nodeStatusUpdateFrequency: 2s
syncFrequency: 1s
fileCheckFrequency: 1s
evictionHard: {memory.available: "0%%", nodefs.available: "0%%", nodefs.inodesFree: "0%%", imagefs.available: "0%%", imagefs.inodesFree: "0%%"}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
featureGates: {PodAndContainerStatsFromCRI: true}
`, socket, nodeAddress, root, k.file("logs"), k.file("manifests")))
	if err := os.MkdirAll(k.file("manifests"), 0o755); err != nil {
		k.t.Fatal(err)
	}
	k.kubelet = k.start("kubelet.log", k.program, "kubelet", "--config="+k.file("kubelet.yaml"), "--kubeconfig="+k.file("kubeconfig"),
		"--root-dir="+k.file("kubelet"), "--cert-dir="+k.file("kubelet-certs"), "--hostname-override="+k.Node, "--node-ip="+nodeAddress, "--v=2")
}

// keepSettings keeps the kernel's settings that a kubelet changes for good as they are now.
func (k *Kubernetes) keepSettings(names ...string) {
	k.t.Helper()
	for _, name := range names {
		file := filepath.Join("/proc/sys", name)
		now, err := os.ReadFile(file)
		if err != nil {
			k.t.Fatal(err)
		}
		k.t.Cleanup(func() {
			if err := os.WriteFile(file, now, 0o644); err != nil {
				k.t.Errorf("give %s back: %v", file, err)
			}
		})
	}
}

// makeCgroups makes a group in every hierarchy, for the node's pods; a kubelet neither makes it nor takes it away.
func (k *Kubernetes) makeCgroups(root string) {
	k.t.Helper()
	hierarchies, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil || len(hierarchies) == 0 {
		hierarchies = []string{"/sys/fs/cgroup/cgroup.procs"}
	}
	for _, file := range hierarchies {
		group := filepath.Join(filepath.Dir(file), root)
		if err := os.MkdirAll(group, 0o755); err != nil {
			k.t.Fatal(err)
		}
		k.t.Cleanup(func() { removeGroups(group) })
	}
}

// removeGroups removes a cgroup with those below it. What is still in use is reported as left over.
func removeGroups(group string) {
	below, _ := os.ReadDir(group) // gone, perhaps
	for _, entry := range below {
		if entry.IsDir() {
			removeGroups(filepath.Join(group, entry.Name()))
		}
	}
	_ = os.Remove(group)
}

// StopKubelet ends the kubelet, so that nobody makes the pods again.
func (k *Kubernetes) StopKubelet() { k.kubelet.end() }

// Try runs upstream's kubectl and returns what it printed on both streams.
func (k *Kubernetes) Try(args ...string) (string, error) {
	cmd := exec.Command(k.program, append([]string{"kubectl", "--kubeconfig", k.file("kubeconfig"), "--cache-dir", k.file("cache")}, args...)...)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// Kubectl runs kubectl, which has to do well.
func (k *Kubernetes) Kubectl(args ...string) string {
	k.t.Helper()
	out, err := k.Try(args...)
	if err != nil {
		k.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// Background starts kubectl, which ends with the test at the latest; stop ends it before.
func (k *Kubernetes) Background(log string, args ...string) (stop func()) {
	k.t.Helper()
	return k.start(log, k.program, append([]string{"kubectl", "--kubeconfig", k.file("kubeconfig"), "--cache-dir", k.file("cache")}, args...)...).end
}

// Apply makes what a manifest says.
func (k *Kubernetes) Apply(name, manifest string) {
	k.t.Helper()
	k.Kubectl("apply", "-f", k.write(name+".yaml", manifest))
}

// Manifest is the path of a static pod's file.
func (k *Kubernetes) Manifest(name string) string { return filepath.Join(k.file("manifests"), name) }

// Log is what one of the programs has written: kubelet, apiserver or etcd; or a background kubectl.
func (k *Kubernetes) Log(name string) string {
	data, err := os.ReadFile(k.file(name + ".log"))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func (k *Kubernetes) file(name string) string { return filepath.Join(k.dir, name) }

func (k *Kubernetes) write(name, text string) string {
	k.t.Helper()
	if err := os.WriteFile(k.file(name), []byte(text), 0o600); err != nil {
		k.t.Fatal(err)
	}
	return k.file(name)
}

func (k *Kubernetes) start(log, program string, args ...string) *background {
	k.t.Helper()
	out, err := os.Create(k.file(log))
	if err != nil {
		k.t.Fatal(err)
	}
	defer out.Close()
	b := &background{cmd: exec.Command(program, args...), log: out.Name(), done: make(chan struct{})}
	b.cmd.Stdout, b.cmd.Stderr = out, out
	if err := b.cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	go func() {
		_ = b.cmd.Wait() // that it ended is what counts
		close(b.done)
	}()
	k.t.Cleanup(b.end)
	return b
}

// end ends the program: by a word, and if it does not hear, by force.
func (b *background) end() {
	_ = b.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-b.done:
	case <-time.After(10 * time.Second):
		_ = b.cmd.Process.Kill()
		<-b.done
	}
}

package guest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// fileLabel is a file's label.
func fileLabel(t *testing.T, path string) string {
	t.Helper()
	value := make([]byte, 256)
	n, err := unix.Lgetxattr(path, "security.selinux", value)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return strings.TrimRight(string(value[:n]), "\x00")
}

// TestSELinux: each container has a label of its own; the kernel keeps it from the host's files and from those of others.
func TestSELinux(t *testing.T) {
	if read(t, "/sys/fs/selinux/enforce") != "1" {
		t.Fatal("the policy is to be enforced")
	}
	d := start(t)
	current := func(args ...string) string {
		t.Helper()
		return strings.Trim(nerd(t, d, args...), "\x00\n")
	}
	run := func(args ...string) string {
		t.Helper()
		return current(append([]string{"run", "--rm", "--network", "none"}, args...)...)
	}
	attribute := []string{toolbox, "sh", "-c", "cat /proc/self/attr/current"}
	own := regexp.MustCompile(`^system_u:system_r:container_t:s0:c\d+,c\d+$`)
	first := run(attribute...)
	if second := run(attribute...); !own.MatchString(first) || !own.MatchString(second) || first == second {
		t.Errorf("labels of two containers: %q, %q", first, second)
	}
	for flags, want := range map[string]string{
		"--privileged": "system_u:system_r:kernel_t:s0", "--security-opt label=disable": "system_u:system_r:kernel_t:s0", "--pid host": "system_u:system_r:kernel_t:s0",
		"--security-opt label=level:s0:c1,c2": "system_u:system_r:container_t:s0:c1,c2",
	} {
		if got := run(append(strings.Fields(flags), attribute...)...); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q", flags, got)
		}
	}
	data := testenv.Dir(t)
	file := filepath.Join(data, "file")
	if err := os.WriteFile(file, []byte("the host's"), 0o644); err != nil {
		t.Fatal(err)
	}
	nerd(t, d, "run", "-d", "--name", "kept", "--network", "none", "-v", data+":/data", "-v", "named:/named", toolbox, "sleep", "600")
	if text := nerd(t, d, "exec", "kept", "sh", "-c", "cat /data/file; echo x > /data/new; echo y > /named/y; echo z > /z; echo w > /dev/shm/w; cat /named/y /z; cat /proc/self/attr/current"); strings.Contains(text, "the host's") ||
		strings.Count(text, "ermission denied") != 2 || !strings.Contains(text, "y\nz\n") || !strings.Contains(text, "container_t:s0:c") {
		t.Errorf("in a container: %q", text)
	}
	if got := run("-t", "--tmpfs", "/scratch", "-v", "filled:/etc", toolbox, "sh", "-c", "echo x > /scratch/x; cat /etc/passwd > /scratch/y; test -t 1 && cat /scratch/x && echo terminal"); !strings.HasSuffix(strings.ReplaceAll(got, "\r", ""), "x\nterminal") {
		t.Errorf("on a terminal: %q", got)
	}
	if label := fileLabel(t, file); label != "system_u:object_r:host_file_t:s0" {
		t.Errorf("a file that nobody relabelled: %s", label)
	}
	if got := run("-v", data+":/data:z", toolbox, "cat", "/data/file"); got != "the host's" {
		t.Errorf("what is shared: %q", got)
	}
	if label := fileLabel(t, file); label != "system_u:object_r:container_file_t:s0" {
		t.Errorf("a shared file: %s", label)
	}
	if got := current("exec", "kept", "cat", "/data/file"); got != "the host's" {
		t.Errorf("what is shared with another: %q", got)
	}
	nerd(t, d, "run", "-d", "--name", "private", "--network", "none", "-v", data+":/data:Z", toolbox, "sleep", "600")
	if got := current("exec", "private", "cat", "/data/file"); got != "the host's" {
		t.Errorf("a container's own: %q", got)
	}
	if got := nerd(t, d, "exec", "kept", "sh", "-c", "cat /data/file; true"); !strings.Contains(got, "ermission denied") {
		t.Errorf("what is another's: %q", got)
	}
	before := current("exec", "private", "cat", "/proc/self/attr/current")
	d.Kill9()
	d.Start()
	if after := current("exec", "private", "cat", "/proc/self/attr/current"); after != before {
		t.Errorf("after the daemon's death: %q, before %q", after, before)
	}
	nerd(t, d, "restart", "-t", "0", "private")
	if after := current("exec", "private", "cat", "/proc/self/attr/current"); after != before {
		t.Errorf("after a restart: %q, before %q", after, before)
	}
	if got := current("exec", "private", "cat", "/data/file", "/etc/hostname"); !strings.Contains(got, "the host's") {
		t.Errorf("after a restart: %q", got)
	}
	wide := exec.Command(testenv.Binary(t, "mininerd"), "--address", d.Address, "run", "--rm", "--network", "none", "-v", "/usr:/usr2:z", toolbox, "true")
	if out, err := wide.CombinedOutput(); err == nil || !strings.Contains(string(out), "/usr") || !strings.Contains(string(out), "not allowed") {
		t.Errorf("a directory of the system is relabelled: %v, %s", err, out)
	}
}

// TestSELinuxPods: the containers of a pod share their level, and a volume that the kubelet wants relabelled is theirs.
func TestSELinuxPods(t *testing.T) {
	d := start(t)
	c := testenv.DialCRI(t, d.Address)
	t.Cleanup(c.RemoveAll)
	data := testenv.Dir(t)
	if err := os.WriteFile(filepath.Join(data, "file"), []byte("the pod's"), 0o644); err != nil {
		t.Fatal(err)
	}
	// The network of pods has no uplink here.
	pod := func(name string, changes ...func(*runtimeapi.PodSandboxConfig)) *testenv.CRIPod {
		return c.RunPod(name, append(changes, testenv.HostNetwork)...)
	}
	container := func(p *testenv.CRIPod, name string, relabel bool, options *runtimeapi.SELinuxOption) string {
		config := testenv.ContainerConfig(name, toolbox, "sleep", "600")
		config.Mounts = []*runtimeapi.Mount{{HostPath: data, ContainerPath: "/data", SelinuxRelabel: relabel}}
		config.Linux.SecurityContext.SelinuxOptions = options
		id := p.Create(config)
		c.Start(id)
		return id
	}
	say := func(id string) string {
		return strings.ReplaceAll(strings.TrimSpace(c.Exec(id, "sh", "-c", "cat /proc/self/attr/current; echo; cat /data/file; true")), "\x00", "")
	}
	one := pod("one")
	if got := say(container(one, "plain", false, nil)); strings.Contains(got, "container_t") || !strings.Contains(got, "the pod's") {
		t.Errorf("a pod with the host's network (hostnetwork_disable_selinux): %q", got)
	}
	d.Stop()
	config, err := os.ReadFile(d.Config)
	if err == nil {
		err = os.WriteFile(d.Config, append(config, "\n[cri]\nhostnetwork_disable_selinux = false\n[default_runtime]\nallowed_annotations = [\"try-skip-volume-selinux-label.crio.io\"]\n"...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	d.Start()
	two := pod("two")
	first, second := container(two, "first", true, nil), container(two, "second", false, nil)
	a, b := say(first), say(second)
	if level := regexp.MustCompile(`container_t:s0:c\d+,c\d+`); level.FindString(a) == "" || level.FindString(a) != level.FindString(b) || !strings.Contains(a, "the pod's") || !strings.Contains(b, "the pod's") {
		t.Errorf("containers of a pod: %q, %q", a, b)
	}
	if other := say(container(pod("three"), "other", false, nil)); strings.Contains(other, "the pod's") {
		t.Errorf("a container of another pod: %q", other)
	}
	four := pod("four", func(c *runtimeapi.PodSandboxConfig) {
		c.Linux.SecurityContext.SelinuxOptions = &runtimeapi.SELinuxOption{Level: "s0:c5,c6"}
	})
	if got := say(container(four, "said", false, nil)); !strings.Contains(got, "system_u:system_r:container_t:s0:c5,c6") {
		t.Errorf("a level that is said: %q", got)
	}
	if got := say(container(four, "own", false, &runtimeapi.SELinuxOption{Level: "s0:c7,c8"})); !strings.Contains(got, "container_t:s0:c7,c8") {
		t.Errorf("a level of the container's own: %q", got)
	}
	container(four, "relabels", true, nil)
	another, file := "system_u:object_r:container_file_t:s0:c1,c2", filepath.Join(data, "file")
	if err := unix.Lsetxattr(file, "security.selinux", []byte(another), 0); err != nil {
		t.Fatal(err)
	}
	five := pod("five", func(c *runtimeapi.PodSandboxConfig) {
		c.Linux.SecurityContext.SelinuxOptions = &runtimeapi.SELinuxOption{Level: "s0:c5,c6"}
		c.Annotations = map[string]string{"try-skip-volume-selinux-label.crio.io": "true"}
	})
	container(five, "skips", true, nil)
	if got := fileLabel(t, file); got != another {
		t.Errorf("below a directory that has the label: %q, want %q", got, another)
	}
	container(four, "again", true, nil)
	if got := fileLabel(t, file); got == another {
		t.Errorf("without the annotation: still %q", got)
	}
}

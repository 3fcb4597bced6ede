package spec_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/internal/cgroup"
	"github.com/minirt/mini/oci/bundle"
	"github.com/minirt/mini/oci/spec"
)

// busyboxRootfs makes a root filesystem of a static busybox.
func busyboxRootfs(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	for _, tool := range []string{"runc", "busybox"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
	root := t.TempDir()
	if err := os.Chmod(filepath.Dir(root), 0o755); err != nil { // a user namespace's root must pass
		t.Fatal(err)
	}
	for _, dir := range []string{"bin", "etc", "proc", "sys", "dev", "tmp"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	box, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(box)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, content string, perm os.FileMode) {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), perm); err != nil {
			t.Fatal(err)
		}
	}
	write("bin/busybox", string(data), 0o755)
	write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n", 0o644)
	write("etc/group", "root:x:0:\napp:x:1001:\nextra:x:2000:app\n", 0o644)
	return root
}

// run executes a document with runc and returns its output.
func run(t *testing.T, id string, s *specs.Spec) string {
	t.Helper()
	dir := t.TempDir()
	if err := bundle.Validate(s); err != nil {
		t.Fatalf("validate: %v", err)
	}
	if err := bundle.Write(dir, s); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("runc", "--root", filepath.Join(dir, "state"), "run", "--bundle", dir, id)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("runc: %v\n%s", err, out)
	}
	return string(out)
}

// removeGroups removes the parent groups, which runc leaves.
func removeGroups(t *testing.T, name string) {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(cgroup.Root, "*", name))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range append(dirs, filepath.Join(cgroup.Root, name)) {
		if err := cgroup.Remove(dir); err != nil {
			t.Error(err)
		}
	}
}

func TestRuncExecutesWhatBuildMakes(t *testing.T) {
	root := busyboxRootfs(t)
	host := spec.ProbeHost()
	daemon := fmt.Sprintf("spectest%d", os.Getpid())
	t.Cleanup(func() { removeGroups(t, daemon) })
	limit, pids := int64(64<<20), int64(100)
	for name, c := range map[string]struct {
		request spec.Request
		want    string
	}{
		"plain":    {spec.Request{Args: []string{"/bin/busybox", "sh", "-c", "echo $HOSTNAME $HOME $(/bin/busybox hostname)"}}, "runc-plain /root runc-plain"},
		"user":     {spec.Request{User: "app", Args: []string{"/bin/busybox", "id"}}, "uid=1000(app) gid=1001(app) groups=1001(app),2000(extra)"},
		"no caps":  {spec.Request{CapDrop: []string{"ALL"}, Args: []string{"/bin/busybox", "grep", "CapEff", "/proc/self/status"}}, "0000000000000000"},
		"limits":   {spec.Request{Resources: &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}, Pids: &specs.LinuxPids{Limit: &pids}}, Args: []string{"/bin/busybox", "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}}, "67108864"},
		"readonly": {spec.Request{ReadOnly: true, Args: []string{"/bin/busybox", "sh", "-c", "echo x > /f || echo refused"}}, "refused"},
		"tmpfs":    {spec.Request{Tmpfs: map[string]string{"/run/x": "size=1m,mode=700"}, Args: []string{"/bin/busybox", "grep", "/run/x", "/proc/mounts"}}, "size=1024k,mode=700"},
		"sysctl":   {spec.Request{Sysctls: map[string]string{"net/ipv4/ip_unprivileged_port_start": "0"}, Args: []string{"/bin/busybox", "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"}}, "0"},
		"privileged": {spec.Request{Privileged: true, Args: []string{"/bin/busybox", "sh", "-c",
			"/bin/busybox grep Seccomp: /proc/self/status; /bin/busybox ls -l /dev/full; /bin/busybox mount -t tmpfs x /tmp && echo mounted"}}, "mounted"},
		"userns": {spec.Request{UIDMap: []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}, GIDMap: []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}},
			Args: []string{"/bin/busybox", "cat", "/proc/self/uid_map"}}, "100000"},
		"host namespaces": {spec.Request{Namespaces: map[string]string{"net": "host", "pid": "host", "ipc": "host", "uts": "host"},
			Args: []string{"/bin/busybox", "hostname"}}, host.Hostname},
		"cgroup namespace": {spec.Request{Namespaces: map[string]string{"cgroup": "private"}, Args: []string{"/bin/busybox", "cat", "/proc/self/cgroup"}}, "memory:/\n"},
		"scheduling": {spec.Request{Rlimits: []specs.POSIXRlimit{{Type: "nofile", Soft: 1 << 40, Hard: 1 << 40}}, OOMScoreAdj: new(-500),
			Args: []string{"/bin/busybox", "cat", "/proc/self/oom_score_adj"}}, ""},
		"device": {spec.Request{Devices: []spec.Device{{Source: "/dev/fuse", Target: "/dev/other", Permissions: "rw"}}, Args: []string{"/bin/busybox", "ls", "-l", "/dev/other"}}, "10, 229"},
	} {
		t.Run(name, func(t *testing.T) {
			id := "runc-" + strings.ReplaceAll(name, " ", "-")
			s, warnings, err := spec.Build(spec.Input{ID: id, Name: daemon, Request: c.request, Rootfs: root, Image: ocispec.ImageConfig{}, Host: host})
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range warnings {
				t.Log("warning:", w)
			}
			if out := run(t, id, s); !strings.Contains(out, c.want) {
				t.Errorf("got %q, want %q in it", out, c.want)
			}
		})
	}
}

package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

const (
	mountsV1 = `25 20 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 / /sys/fs/cgroup/memory rw,relatime shared:10 master:2 - cgroup cgroup rw,memory
28 25 0:25 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
99 25 0:24 /docker/abc /var/lib/x/memory rw - cgroup cgroup rw,memory
`
	mountUnified = "29 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n"
	mountsV2     = "30 20 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
	mountsInside = `40 20 0:24 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
41 20 0:26 /docker/abc /sys/fs/cgroup/uni\040fied ro - cgroup2 cgroup2 rw
`
)

func TestPathsOfAProcess(t *testing.T) {
	for name, c := range map[string]struct {
		mounts, groups string
		want           map[string]string
	}{
		"v1": {mountsV1, "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n0::/x\n", map[string]string{
			"memory": "/sys/fs/cgroup/memory/docker/abc", "cpu": "/sys/fs/cgroup/cpu,cpuacct/docker/abc",
			"cpuacct": "/sys/fs/cgroup/cpu,cpuacct/docker/abc", "name=systemd": "/sys/fs/cgroup/systemd"}},
		"hybrid": {mountsV1 + mountUnified, "4:memory:/a\n0::/a\n", map[string]string{
			"memory": "/sys/fs/cgroup/memory/a", "": "/sys/fs/cgroup/unified/a"}},
		"v2": {mountsV2, "0::/system.slice/a:b.scope\n", map[string]string{"": "/sys/fs/cgroup/system.slice/a:b.scope"}},
		"seen from a container": {mountsInside, "4:memory:/docker/abc/sub\n0::/docker/abc\n", map[string]string{
			"memory": "/sys/fs/cgroup/memory/sub", "": "/sys/fs/cgroup/uni fied"}},
		"outside of the mount":     {mountsInside, "4:memory:/docker/abcdef\n0::/../other\n", map[string]string{}},
		"removed":                  {mountsV2, "0::/gone (deleted)\n", map[string]string{"": "/sys/fs/cgroup/gone"}},
		"not the format":           {mountsV2, "x\n0:\n::/\nx::/a\n0::relative\n", map[string]string{}},
		"a controller not mounted": {mountsV2, "4:memory:/a\n", map[string]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			got := parseMountInfo([]byte(c.mounts)).resolve(parseProcCgroup([]byte(c.groups)))
			if !maps.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestPath(t *testing.T) {
	for _, c := range []struct {
		driver         Driver
		parent, ns, id string
		want           string
	}{
		{Cgroupfs, "minid", "default", "a", "/minid/default/a"},
		{Cgroupfs, "/x/minid", "k8s.io", "a", "/x/minid/k8s.io/a"},
		{Cgroupfs, "minid", "../..", "../a", "/minid/a"},
		{Systemd, "minid", "default", "a", "minid-default.slice:minid-default:a"},
		{Systemd, "mini-d", "a-b", "c", `mini\x2dd-a\x2db.slice:mini\x2dd-a\x2db:c`},
		{Systemd, "machine.slice", "default", "a", "machine.slice:machine-default:a"},
	} {
		if got := Path(c.driver, c.parent, c.ns, c.id); got != c.want {
			t.Errorf("%s %s: got %s, want %s", c.driver, c.parent, got, c.want)
		}
	}
}

func TestBelow(t *testing.T) {
	for _, c := range []struct {
		driver       Driver
		parent, want string
	}{
		{Cgroupfs, "/kubepods/pod1", "/kubepods/pod1/a"},
		{Cgroupfs, "kubepods", "/kubepods/a"},
		{Cgroupfs, "/machine.slice", "/machine.slice/a"},
		{Cgroupfs, "machine.slice", ""},
		{Cgroupfs, "/x/../..", ""},
		{Systemd, "/kubepods.slice/kubepods-pod1.slice", "kubepods-pod1.slice:minid-default:a"},
		{Systemd, "/kubepods", ""},
		{Systemd, "a:b.slice", ""},
	} {
		got, err := Below(c.driver, c.parent, "minid", "default", "a")
		if got != c.want || (c.want == "") != errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s %s: got %q, %v; want %q", c.driver, c.parent, got, err, c.want)
		}
	}
}

// liveGroups makes a group in each hierarchy of this host.
func liveGroups(t *testing.T) map[string]string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	mounts, err := readMounts("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string]string{}
	if Mode() != V2 {
		for _, c := range mounts.names() {
			paths[c] = mounts.controllers[c].dir
		}
	}
	if len(mounts.unified) > 0 {
		paths[""] = mounts.unified[0].dir
	}
	for c, dir := range paths {
		paths[c] = filepath.Join(dir, fmt.Sprintf("cgrouptest-%d", os.Getpid()))
		if err := os.Mkdir(paths[c], 0o755); err != nil {
			t.Skipf("cgroups can't be made here: %v", err)
		}
		t.Cleanup(func() {
			if err := Remove(paths[c]); err != nil {
				t.Error(err)
			}
		})
	}
	return paths
}

func join(t *testing.T, dir string, pid int) {
	t.Helper()
	for _, f := range []string{"cpuset.cpus", "cpuset.mems"} { // a v1 cpuset takes no process before it has both
		if data, err := os.ReadFile(filepath.Join(filepath.Dir(dir), f)); err == nil {
			_ = os.WriteFile(filepath.Join(dir, f), bytes.TrimSpace(data), 0o600)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(fmt.Sprint(pid)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestKillAndRemoveLive(t *testing.T) {
	paths := liveGroups(t)
	cmd := exec.Command("sh", "-c", "trap '' TERM; echo ready; read x; while :; do sh -c 'sleep 100' & sleep 100; done")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	if _, err := stdout.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	for _, dir := range paths {
		join(t, dir, cmd.Process.Pid)
	}
	own, err := Paths(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for c, dir := range paths {
		if own[c] != dir {
			t.Errorf("controller %q: Paths says %s, and it is in %s", c, own[c], dir)
		}
	}
	if pids, err := Procs(paths); err != nil || !slices.Contains(pids, cmd.Process.Pid) {
		t.Errorf("Procs says %v, %v", pids, err)
	}
	stdin.Close()
	go func() { waited <- cmd.Wait() }()
	if err := Kill(paths); err != nil {
		t.Error(err)
	}
	if err := <-waited; err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("it ended with %v", err)
	}
	for _, dir := range paths {
		if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := Remove(dir); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", dir, err)
		}
	}
}

func TestKillRefusesItsOwnGroup(t *testing.T) {
	paths, err := Paths(os.Getpid())
	if err != nil || len(paths) == 0 {
		t.Skip("no cgroups here")
	}
	if err := Kill(paths); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("got %v, want a failed precondition", err)
	}
}

func TestGoneIsNoError(t *testing.T) {
	if err := Remove(Root + "/cgrouptest/that/never/was"); err != nil {
		t.Error(err)
	}
	if err := Remove("/etc"); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("got %v, want a refusal", err)
	}
	if pids, err := Procs(map[string]string{"memory": Root + "/memory/never"}); err != nil || len(pids) != 0 {
		t.Errorf("got %v, %v", pids, err)
	}
	if _, err := Paths(1 << 30); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
}

func TestModeAgreesWithTheMounts(t *testing.T) {
	mode := Mode()
	if !slices.Contains([]Layout{V1, Hybrid, V2}, mode) {
		t.Errorf("mode %q", mode)
	}
	if _, err := os.Stat(Root + "/cgroup.controllers"); (err == nil) != (mode == V2) {
		t.Errorf("mode %s, and cgroup.controllers: %v", mode, err)
	}
	t.Log(mode, DetectDriver(), Controllers(mode))
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(mountsV1+mountUnified), []byte("4:memory:/docker/abc\n0::/x\n"))
	f.Add([]byte(mountsInside), []byte("0::/docker/abc/../..\n"))
	f.Fuzz(func(t *testing.T, mounts, groups []byte) {
		table := parseMountInfo(mounts)
		for c, dir := range table.resolve(parseProcCgroup(groups)) {
			m, ok := table.controllers[c]
			if c == "" {
				m, ok = table.unified[0], true
			}
			if root := filepath.Clean(m.dir); !ok || (dir != root && !strings.HasPrefix(dir, strings.TrimSuffix(root, "/")+"/") && root != ".") {
				t.Errorf("%q is outside of %q", dir, m.dir)
			}
		}
		for _, pid := range parsePIDs(groups) {
			if pid <= 0 {
				t.Errorf("pid %d", pid)
			}
		}
	})
}

func TestRemoveEmptySparesProcesses(t *testing.T) {
	paths := liveGroups(t)
	sleeper := exec.Command("sleep", "100")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = sleeper.Process.Kill()
		_ = sleeper.Wait()
	}()
	name := ""
	for _, dir := range paths {
		name = filepath.Base(dir)
		for _, below := range []string{"empty/deep", "used"} {
			if err := os.MkdirAll(filepath.Join(dir, below), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		join(t, dir, sleeper.Process.Pid) // its cpuset has CPUs then, for the one below to take
		join(t, filepath.Join(dir, "used"), sleeper.Process.Pid)
	}
	for _, refused := range []string{"", "/", ".", "../" + name} {
		RemoveEmpty(refused)
	}
	RemoveEmpty(name)
	for _, dir := range paths {
		if _, err := os.Stat(filepath.Join(dir, "empty")); !os.IsNotExist(err) {
			t.Errorf("%s: the empty group is still there: %v", dir, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "used")); err != nil {
			t.Errorf("%s: the group with a process is gone: %v", dir, err)
		}
	}
}

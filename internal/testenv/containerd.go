package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ContainerdOptions says what kind of containerd a test wants.
type ContainerdOptions struct {
	CRI      bool   // with its CRI, and the sandbox image registry.k8s.io/pause:3.9
	HostsDir string // certs.d
	CNIDir   string // the networks of pods
}

// Containerd is Debian's, with root, state and socket of its own.
type Containerd struct {
	Dir, Address string

	t    testing.TB
	done chan struct{}
	cmd  *exec.Cmd
}

// StartContainerd starts a containerd, and ends it and its containers with the test.
func StartContainerd(t testing.TB, o ContainerdOptions) *Containerd {
	t.Helper()
	Root(t)
	Need(t, "containerd", "ctr", "runc")
	dir := Dir(t)
	c := &Containerd{Dir: dir, Address: filepath.Join(dir, "containerd.sock"), t: t, done: make(chan struct{})}
	file := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(file, []byte(c.config(o)), 0o644); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "containerd.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c.cmd = exec.Command("containerd", "--config", file)
	c.cmd.Stdout, c.cmd.Stderr = log, log
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = c.cmd.Wait() // that it ended is what counts
		close(c.done)
	}()
	Leftovers(t, filepath.Base(dir))
	t.Cleanup(c.end)
	Eventually(t, 20*time.Second, "containerd answers", func() bool { return c.Try("version") == nil })
	return c
}

func (c *Containerd) config(o ContainerdOptions) string {
	text := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\n", filepath.Join(c.Dir, "root"), filepath.Join(c.Dir, "state"))
	if !o.CRI {
		text += "disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n"
	}
	text += fmt.Sprintf("[grpc]\naddress = %q\n[ttrpc]\naddress = %q\n", c.Address, c.Address+".ttrpc")
	if o.CRI {
		text += fmt.Sprintf(`[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "registry.k8s.io/pause:3.9"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = %q
conf_dir = %q
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = %q
`, CNIBinDir, o.CNIDir, o.HostsDir)
	}
	return text
}

// PID is the daemon's.
func (c *Containerd) PID() int { return c.cmd.Process.Pid }

// Shims lists the processes that parent its containers.
func (c *Containerd) Shims() []int {
	return processes(func(p process) bool {
		return strings.HasPrefix(filepath.Base(p.args[0]), "containerd-shim") && slices.Contains(p.args, c.Address)
	})
}

// Pauses lists the processes of the sandbox image in the pods below a cgroup.
func (c *Containerd) Pauses(parent string) []int {
	return processes(func(p process) bool { return p.args[0] == "/pause" && strings.Contains(p.cgroup, parent+"/") })
}

// Log is what the daemon has written.
func (c *Containerd) Log() string {
	data, err := os.ReadFile(filepath.Join(c.Dir, "containerd.log"))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func (c *Containerd) command(args ...string) *exec.Cmd {
	return exec.Command("ctr", append([]string{"--address", c.Address}, args...)...)
}

// Try runs ctr against this containerd.
func (c *Containerd) Try(args ...string) error { return c.command(args...).Run() }

// Ctr runs ctr and returns what it prints; the test fails when it fails.
func (c *Containerd) Ctr(args ...string) string {
	c.t.Helper()
	out, err := c.command(args...).CombinedOutput()
	if err != nil {
		c.t.Fatalf("ctr %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// end removes the containers, ends the daemon, and unmounts what it has left in its directories.
func (c *Containerd) end() {
	for _, ns := range []string{"default", "k8s.io"} {
		out, err := c.command("-n", ns, "containers", "ls", "-q").Output()
		if err != nil {
			c.t.Logf("ctr containers ls: %v", err)
		}
		for _, id := range strings.Fields(string(out)) {
			_ = c.Try("-n", ns, "tasks", "kill", "-s", "KILL", id)
			_ = c.Try("-n", ns, "tasks", "rm", "-f", id)
			_ = c.Try("-n", ns, "containers", "rm", id)
		}
	}
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	<-c.done
	unmountBelow(c.Dir)
	// A client's cgroup_parent is the client's to remove.
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		dirs, err := filepath.Glob(pattern + filepath.Base(c.Dir))
		if err != nil {
			c.t.Error(err)
		}
		for _, dir := range dirs {
			_ = os.Remove(dir) // what is still in use is reported as left over
		}
	}
}

func unmountBelow(dir string) {
	data, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			_ = syscall.Unmount(fields[1], syscall.MNT_DETACH)
		}
	}
}

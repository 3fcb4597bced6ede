package scenario_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// plainUser is somebody who is not root, made for the test with ids of its own in /etc/subuid and /etc/subgid.
type plainUser struct {
	t        *testing.T
	uid, gid int
	home     string
	env      []string
}

func newPlainUser(t *testing.T) *plainUser {
	t.Helper()
	const name = "mini-test-user"
	testenv.Need(t, "useradd", "userdel")
	home := testenv.Dir(t)
	testenv.Run(t, "useradd", "--no-create-home", "--home-dir", home, "--add-subids-for-system", "--system", "--shell", "/bin/sh", name)
	t.Cleanup(func() { check(t, exec.Command("userdel", name).Run()) })
	who, err := user.Lookup(name)
	check(t, err)
	u := &plainUser{t: t, home: home}
	u.uid, err = strconv.Atoi(who.Uid)
	check(t, err)
	u.gid, err = strconv.Atoi(who.Gid)
	check(t, err)
	run := filepath.Join(home, "run")
	check(t, os.Mkdir(run, 0o700))
	for _, dir := range []string{home, run} {
		check(t, os.Chown(dir, u.uid, u.gid))
	}
	u.env = []string{"HOME=" + home, "XDG_RUNTIME_DIR=" + run, "PATH=" + os.Getenv("PATH"), "MININERD_TOML=" + os.DevNull}
	// The user may not get to where they were built.
	check(t, os.Mkdir(filepath.Join(home, "bin"), 0o755))
	for _, program := range []string{"minid", "minid-supervisor", "mininerd", "minicrictl"} {
		data, err := os.ReadFile(testenv.Binary(t, program))
		check(t, err)
		check(t, os.WriteFile(u.program(program), data, 0o755))
	}
	return u
}

func (u *plainUser) program(name string) string { return filepath.Join(u.home, "bin", name) }

func (u *plainUser) command(program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(u.t.Context(), program, args...)
	cmd.Env, cmd.Dir = u.env, u.home
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.gid)}}
	return cmd
}

func (u *plainUser) try(program string, args ...string) (string, error) {
	u.t.Helper()
	out, err := u.command(u.program(program), args...).CombinedOutput()
	return string(out), err
}

func (u *plainUser) do(program string, args ...string) string {
	u.t.Helper()
	out, err := u.try(program, args...)
	if err != nil {
		u.t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return out
}

// serve starts minid rootless, and ends it with the test.
func (u *plainUser) serve() {
	u.t.Helper()
	var log bytes.Buffer
	cmd := u.command(u.program("minid"), "rootless")
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &log, &log, 10*time.Second
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	check(u.t, cmd.Start())
	u.t.Cleanup(func() {
		check(u.t, cmd.Process.Signal(syscall.SIGTERM))
		_ = cmd.Wait() // rootlesskit tells of the signal
		if u.t.Failed() {
			u.t.Log(log.String())
		}
		testenv.Eventually(u.t, 10*time.Second, "no process of the user is left", func() bool { return len(u.processes("")) == 0 })
	})
	testenv.Eventually(u.t, 20*time.Second, "the daemon answers", func() bool {
		_, err := u.try("mininerd", "version")
		return err == nil
	})
}

// processes are those of the user, and of the ids that it has, whose command line has the words.
func (u *plainUser) processes(words string) (found []int) {
	u.t.Helper()
	entries, err := os.ReadDir("/proc")
	check(u.t, err)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		info, err := os.Stat("/proc/" + e.Name())
		line, lineErr := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err != nil || lineErr != nil || len(line) == 0 {
			continue
		}
		owner := int(info.Sys().(*syscall.Stat_t).Uid)
		if owner == u.uid && strings.Contains(strings.ReplaceAll(string(line), "\x00", " "), words) {
			found = append(found, pid)
		}
	}
	return found
}

// openTun lets everybody open the device of which slirp4netns makes interfaces, as most machines do.
func openTun(t *testing.T) {
	t.Helper()
	const tun = "/dev/net/tun"
	info, err := os.Stat(tun)
	if err != nil {
		t.Skipf("needs %s: %v", tun, err)
	}
	check(t, os.Chmod(tun, 0o666))
	t.Cleanup(func() { check(t, os.Chmod(tun, info.Mode().Perm())) })
}

// TestRootless has a daemon that nobody's root has started: containers, published ports, pods, and the death of the daemon.
func TestRootless(t *testing.T) {
	testenv.Need(t, "rootlesskit", "slirp4netns", "newuidmap", "newgidmap")
	openTun(t)
	u := newPlainUser(t)
	if out, err := u.try("minid"); err == nil || !strings.Contains(out, "minid rootless") {
		t.Errorf("a daemon without rights: %v, %s", err, out)
	}
	u.serve()

	ids := strings.Fields(u.do("mininerd", "run", "--rm", "-m", "64m", toolbox, "sh", "-c", "id -u; cat /proc/self/uid_map"))
	if len(ids) < 7 || ids[len(ids)-7] != "0" || ids[len(ids)-5] != strconv.Itoa(u.uid) {
		t.Errorf("ids in a container: %v", ids)
	}
	u.do("mininerd", "network", "create", "own")
	u.do("mininerd", "run", "-d", "--name", "web", "--network", "own", "-p", "127.0.0.1:18080:80", "-v", "data:/www", toolbox, "sh", "-c", "echo served > /www/index.html; exec httpd -f -p 0.0.0.0:80 -h /www")
	answers := func(when string) {
		t.Helper()
		testenv.Eventually(t, 15*time.Second, when+", the port answers on the machine", func() bool {
			page, err := testenv.Get("127.0.0.1:18080")
			return err == nil && page == "served\n"
		})
	}
	answers("at first")
	if out := u.do("mininerd", "run", "--rm", "--network", "own", toolbox, "wget", "-O", "-", "http://web/"); !strings.Contains(out, "served") {
		t.Errorf("by its name: %q", out)
	}
	if out := u.do("mininerd", "top", "web"); !strings.Contains(out, "httpd") {
		t.Errorf("top printed %q", out)
	}
	if out, err := u.try("mininerd", "pause", "web"); err == nil || !strings.Contains(out, "cgroup driver none") {
		t.Errorf("pause: %v, %s", err, out)
	}

	t.Log("files, users, commits and terminals")
	if out := u.do("mininerd", "run", "--rm", "-u", "1000:1000", "--cap-drop", "ALL", "--read-only", "--tmpfs", "/tmp", toolbox, "sh", "-c", "id -u; echo x > /tmp/x && stat -c %u /tmp/x"); !strings.HasSuffix(out, "1000\n1000\n") {
		t.Errorf("another user: %q", out)
	}
	u.do("mininerd", "run", "--name", "maker", "-v", "data:/data", toolbox, "sh", "-c", "echo made > /made; echo kept > /data/kept")
	u.do("mininerd", "commit", "maker", "made:1")
	u.do("mininerd", "cp", "maker:/made", filepath.Join(u.home, "copied"))
	if data, err := os.ReadFile(filepath.Join(u.home, "copied")); err != nil || string(data) != "made\n" {
		t.Errorf("cp: %q, %v", data, err)
	}
	if out := u.do("mininerd", "run", "--rm", "-t", "--privileged", "-v", "data:/data:ro", "made:1", "sh", "-c", "cat /made /data/kept; test -t 1 && echo terminal"); !strings.HasSuffix(strings.ReplaceAll(out, "\r", ""), "made\nkept\nterminal\n") {
		t.Errorf("of the commit: %q", out)
	}
	u.do("mininerd", "rm", "maker")
	u.do("mininerd", "save", "-o", filepath.Join(u.home, "saved.tar"), "made:1")
	u.do("mininerd", "rmi", "made:1")
	u.do("mininerd", "load", "-i", filepath.Join(u.home, "saved.tar"))

	t.Log("a pod, with streams")
	pod, container := filepath.Join(u.home, "pod.json"), filepath.Join(u.home, "container.json")
	for file, v := range map[string]any{
		pod: map[string]any{"metadata": map[string]any{"name": "p", "namespace": "d", "uid": "u"}, "log_directory": filepath.Join(u.home, "logs"), "linux": map[string]any{}},
		container: map[string]any{
			"metadata": map[string]any{"name": "c"}, "image": map[string]any{"image": toolbox}, "command": []string{"sh", "-c", "echo begun; sleep 600"}, "log_path": "c.log",
			"linux": map[string]any{"resources": map[string]any{"memory_limit_in_bytes": 64 << 20}},
		},
	} {
		data, err := json.Marshal(v)
		check(t, err)
		check(t, os.WriteFile(file, data, 0o644))
	}
	u.do("mininerd", "-n", "k8s.io", "pull", "-q", toolbox)
	u.do("minicrictl", "run", container, pod)
	lines := strings.Fields(u.do("minicrictl", "ps", "-q"))
	id := lines[len(lines)-1]
	if out := u.do("minicrictl", "exec", id, "sh", "-c", "cat /proc/self/uid_map"); !strings.Contains(out, strconv.Itoa(u.uid)) {
		t.Errorf("exec by a stream: %q", out)
	}

	t.Log("the daemon is killed: it comes back, and the containers have noticed nothing")
	before := u.do("mininerd", "inspect", "-f", "{{.State.StartedAt}} {{.RestartCount}}", "web")
	daemon := u.processes("minid --root")
	if len(daemon) != 1 {
		t.Fatalf("daemons: %v", daemon)
	}
	check(t, syscall.Kill(daemon[0], syscall.SIGKILL))
	testenv.Eventually(t, 15*time.Second, "another daemon answers", func() bool {
		now := u.processes("minid --root")
		out, err := u.try("mininerd", "inspect", "-f", "{{.State.StartedAt}} {{.RestartCount}}", "web")
		return len(now) == 1 && !slices.Equal(now, daemon) && err == nil && out == before
	})
	answers("after the daemon's death")
	u.do("mininerd", "rm", "-f", "web")
	if !silent("127.0.0.1:18080") {
		t.Error("the port answers after its container is gone")
	}
}

package scenario_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// TestWholeSpec runs containers from a config.json, with an image and with a directory.
func TestWholeSpec(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	rootfs := probeRootfs(t)
	config := filepath.Join(testenv.Dir(t), "config.json")
	write := func(change func(spec, process map[string]any)) {
		t.Helper()
		spec := decode[map[string]any](t, d.Minictr("oci", "spec"))
		process := spec["process"].(map[string]any)
		process["terminal"] = false
		change(spec, process)
		data, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(config, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(func(spec, process map[string]any) {
		spec["hostname"] = "by-spec"
		process["args"] = []string{"sh", "-c", "hostname; id -u; pwd; grep CapEff /proc/self/status | cut -f2"}
		process["cwd"] = "/tmp"
		process["user"] = map[string]any{"uid": 33, "gid": 33}
		process["capabilities"] = map[string]any{"bounding": []string{"CAP_CHOWN"}, "ambient": []string{"CAP_CHOWN"},
			"inheritable": []string{"CAP_CHOWN"}, "permitted": []string{"CAP_CHOWN"}, "effective": []string{"CAP_CHOWN"}}
	})
	if out := d.Minictr("run", "--rm", "--config", config, toolbox, "imaged"); out != "by-spec\n33\n/tmp\n0000000000000001\n" {
		t.Errorf("with an image: %q", out)
	}
	write(func(spec, process map[string]any) {
		spec["root"] = map[string]any{"path": rootfs, "readonly": true}
		process["args"] = []string{"/probe", "lines", "2"}
	})
	if out := d.Minictr("run", "--rm", "--config", config, "rooted"); out != "0000000\n0000001\n" {
		t.Errorf("with a directory: %q", out)
	}
	for _, bad := range []struct {
		change func(spec, process map[string]any)
		texts  []string
	}{
		{func(spec, _ map[string]any) { delete(spec, "process") }, []string{"process"}},
		{func(spec, process map[string]any) { process["args"] = []string{} }, []string{"args"}},
		{func(spec, process map[string]any) { process["cwd"] = "relative" }, []string{"cwd", "relative"}},
		{func(spec, _ map[string]any) { delete(spec, "root") }, []string{"root"}},
		{func(spec, _ map[string]any) { spec["root"] = map[string]any{"path": "/no/such/root"} }, []string{"/no/such/root"}},
		{func(spec, _ map[string]any) {
			spec["mounts"] = []any{map[string]any{"type": "tmpfs", "destination": "m"}}
		}, []string{"mounts", "m"}},
		{func(spec, _ map[string]any) {
			spec["linux"] = map[string]any{"namespaces": []any{map[string]any{"type": "colour"}}}
		}, []string{"colour"}},
		{func(spec, _ map[string]any) { spec["ociVersion"] = "9.0.0" }, []string{"9.0.0"}},
	} {
		write(func(spec, process map[string]any) {
			spec["root"] = map[string]any{"path": rootfs}
			process["args"] = []string{"/probe", "lines", "2"}
			bad.change(spec, process)
		})
		refused(t, d.Try("run", "--rm", "--config", config, "bad"), bad.texts...)
	}
	if err := os.WriteFile(config, []byte(`{"process": `), 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, d.Try("run", "--rm", "--config", config, "bad"), config, "runtime-spec")
	refused(t, d.Try("run", "--rm", "--config", "/no/such/file", "bad"), "/no/such/file")
	if all := containers(t, d); len(all) != 0 {
		t.Errorf("left: %v", all)
	}
}

// TestDirectoryAsRoot runs a container on a directory of the host, which it changes and which stays.
func TestDirectoryAsRoot(t *testing.T) {
	testenv.Need(t, "busybox")
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	rootfs := probeRootfs(t)
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "cp", busybox, filepath.Join(rootfs, "sh"))
	if out := d.Minictr("run", "--rm", "--rootfs", rootfs, "rooted", "/sh", "-c", "echo made >/tmp/made; echo $$"); out != "1\n" {
		t.Errorf("wrote %q", out)
	}
	if data, err := os.ReadFile(filepath.Join(rootfs, "tmp/made")); err != nil || string(data) != "made\n" {
		t.Errorf("in the directory: %q %v", data, err)
	}
	refused(t, d.Try("run", "--rm", "--rootfs", "/no/such/root", "none", "true"), "/no/such/root")
	refused(t, d.Try("run", "--rm", "--rootfs", filepath.Join(rootfs, "probe"), "file", "true"), "probe")
}

// TestRestartOfContainers starts one that has exited: its files are there, its log goes on, its code is a new one.
func TestRestartOfContainers(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	script := "echo again >>/runs; cat /runs; exit $(wc -l </runs)"
	if o := d.Try("run", toolbox, "again", "sh", "-c", script); o.Code != 1 || o.Stdout != "again\n" {
		t.Errorf("first: code %d: %q %s", o.Code, o.Stdout, o.Stderr)
	}
	if o := d.Try("tasks", "start", "again"); o.Code != 2 || o.Stdout != "again\nagain\n" {
		t.Errorf("second: code %d: %q %s", o.Code, o.Stdout, o.Stderr)
	}
	d.Restart()
	d.Minictr("tasks", "start", "-d", "again")
	if code := waitExit(t, d, "again"); code != 3 {
		t.Errorf("third: code %d", code)
	}
	if log := d.Minictr("logs", "again"); len(lines(log)) != 6 {
		t.Errorf("the log of three runs:\n%s", log)
	}
}

// TestRemovedWhenExited looks that run --rm leaves nothing, however the container ends.
func TestRemovedWhenExited(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	d.Minictr("run", "--rm", toolbox, "first", "true") // unpacks the image
	look := func() string {
		var all []string
		for _, dir := range []string{filepath.Join(d.Root, "containers"), filepath.Join(d.State, "containers")} {
			found, err := filepath.Glob(dir + "/*/*")
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, found...)
		}
		groups, err := filepath.Glob("/sys/fs/cgroup/*/" + d.Name + "/*/*")
		if err != nil {
			t.Fatal(err)
		}
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(mounts)) {
			if strings.Contains(line, d.Dir) {
				all = append(all, line)
			}
		}
		for _, g := range groups {
			if info, err := os.Stat(g); err == nil && info.IsDir() {
				all = append(all, g)
			}
		}
		return strings.Join(all, "\n") + d.Minictr("snapshots", "ls", "-q") + d.Minictr("containers", "ls", "-q")
	}
	before := look()
	for name, args := range map[string][]string{
		"ended": {"true"}, "with a code": {"sh", "-c", "exit 3"}, "killed": {"sh", "-c", "kill -KILL $$"}, "not started": {"/no/such"},
		"with others": {"sh", "-c", "sleep 600 & sleep 600 & exit 1"},
	} {
		d.Try(append([]string{"run", "--rm", toolbox, "case"}, args...)...)
		if after := look(); after != before {
			t.Errorf("%s: left:\n%s\nthere was:\n%s", name, after, before)
		}
	}
	// In the background, with the daemon away when it ends.
	d.Minictr("run", "-d", "--rm", toolbox, "away", "sleep", "600")
	pid := inspect(t, d, "away").PID
	d.Kill9()
	testenv.Run(t, "kill", "-9", itoa(pid))
	d.Start()
	testenv.Eventually(t, 10*time.Second, "what ended while the daemon was away is removed", func() bool { return look() == before })
}

// TestTwoDaemons has two daemons run containers of the same names side by side.
func TestTwoDaemons(t *testing.T) {
	one, two := testenv.Daemon(t, testenv.DaemonOptions{}), testenv.Daemon(t, testenv.DaemonOptions{})
	for i, d := range []*testenv.DaemonProcess{one, two} {
		d.Minictr("run", "-d", "--memory-limit", itoa(32*(i+1))+"MiB", toolbox, "same", "sleep", "600")
	}
	pids := []int{inspect(t, one, "same").PID, inspect(t, two, "same").PID}
	if pids[0] == pids[1] || one.Supervisors()[0] == two.Supervisors()[0] {
		t.Errorf("they share a process: %v", pids)
	}
	one.Restart()
	two.Minictr("check")
	one.Minictr("check", "--repair")
	one.Minictr("containers", "rm", "--force", "same")
	if c := inspect(t, two, "same"); c.State != "running" || c.PID != pids[1] {
		t.Errorf("the other daemon's is %s", c.State)
	}
	if got := cgroupFile(t, pids[1], "memory", "memory.limit_in_bytes", "memory.max"); got != itoa(64<<20) {
		t.Errorf("the other's limit is %s", got)
	}
	if out := two.Minictr("exec", "same", "echo", "alive"); out != "alive\n" {
		t.Errorf("exec in the other's: %q", out)
	}
	// A third in the directories of the first.
	if out, err := exec.CommandContext(t.Context(), testenv.Binary(t, "minid"), "--config", one.Config).CombinedOutput(); err == nil || !strings.Contains(string(out), "another daemon") {
		t.Errorf("a second daemon in the same directories: %v: %s", err, out)
	}
	one.Minictr("version")
}

// TestCheckpoint freezes a container to files and lets it go on from them, where criu can.
func TestCheckpoint(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	rootfs := probeRootfs(t)
	d.Minictr("run", "-d", "--rootfs", rootfs, "frozen", "/probe", "ticks", "5")
	images := filepath.Join(testenv.Dir(t), "checkpoint")
	o := d.Try("containers", "checkpoint", "frozen", images)
	if o.Code != 0 {
		// What is missing is named, and the container is as it was.
		if exec.CommandContext(t.Context(), "criu", "check").Run() == nil {
			t.Fatalf("criu works here, and the checkpoint does not: %s", o.Stderr)
		}
		refused(t, o, "frozen", "criu")
		if c := inspect(t, d, "frozen"); c.State != "running" {
			t.Errorf("after a checkpoint that failed it is %s", c.State)
		}
		d.Minictr("exec", "frozen", "/probe", "lines", "1")
		return
	}
	if c := inspect(t, d, "frozen"); c.State != "exited" {
		t.Errorf("after its checkpoint it is %s", c.State)
	}
	before, _ := numbered(t, d.Minictr("logs", "frozen"))
	d.Minictr("containers", "restore", "frozen", images)
	testenv.Eventually(t, 10*time.Second, "it counts on", func() bool { return len(lines(d.Minictr("logs", "frozen"))) > len(before)+10 })
	if all, _ := numbered(t, d.Minictr("logs", "frozen")); len(all) > 0 {
		if lost, _ := gaps(all); len(lost) > 0 {
			t.Errorf("it did not count on from where it was: without %v", lost)
		}
	}
}

// TestCheckpointImage makes an image of a container with what it has changed, and another container of that, here and,
// by an archive, in a daemon that has never seen the container's image.
func TestCheckpointImage(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	d.Minictr("run", "-d", "--env", "MADE=here", toolbox, "saved", "sleep", "600")
	d.Minictr("exec", "saved", "sh", "-c", "echo changed > /new; rm /etc/group")
	d.Minictr("containers", "checkpoint", "saved", "made/plain:1")
	d.Minictr("containers", "checkpoint", "--rw", "--image", "saved", "made/whole:1")
	if c := inspect(t, d, "saved"); c.State != "running" {
		t.Errorf("after its checkpoint it is %s", c.State)
	}
	if out := d.Minictr("exec", "saved", "echo", "thawed"); out != "thawed\n" {
		t.Errorf("exec in it: %q", out)
	}
	refused(t, d.Try("run", "--rm", "made/plain:1", "x", "true"), "is a checkpoint", "restore")
	refused(t, d.Try("containers", "restore", "x", toolbox), "not a checkpoint")
	refused(t, d.Try("containers", "restore", "--live", "x", "made/whole:1"), "has no processes")

	see := func(d *testenv.DaemonProcess, id string) {
		t.Helper()
		d.Minictr("tasks", "start", "-d", id)
		script := "echo $MADE; cat /new 2>/dev/null; test -e /etc/group && echo group; true"
		if out := d.Minictr("exec", id, "sh", "-c", script); out != "here\nchanged\n" {
			t.Errorf("%s: %q", id, out)
		}
	}
	d.Minictr("containers", "restore", "again", "made/whole:1")
	if c := inspect(t, d, "again"); c.State != "created" {
		t.Errorf("restored it is %s", c.State)
	}
	see(d, "again")
	d.Minictr("content", "prune")
	if o := d.Try("check"); o.Code != 0 {
		t.Errorf("the check: %s%s", o.Stdout, o.Stderr)
	}

	archive := filepath.Join(testenv.Dir(t), "whole.tar")
	d.Minictr("images", "export", "--all-platforms", archive, "made/whole:1")
	other := testenv.Daemon(t, testenv.DaemonOptions{})
	other.Minictr("images", "import", "--all-platforms", "--no-unpack", archive)
	other.Minictr("containers", "restore", "moved", "made/whole:1")
	see(other, "moved")
}

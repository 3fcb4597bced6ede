package scenario_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/testenv"
)

// hostTree is a directory of the host with a file, and another filesystem mounted below it; changes of its mounts are
// seen by whoever has a slave of it.
func hostTree(t *testing.T) string {
	t.Helper()
	testenv.Root(t)
	dir := filepath.Join(testenv.Dir(t), "tree")
	below := filepath.Join(dir, "below")
	for _, name := range []string{below, filepath.Join(dir, "later")} {
		if err := os.MkdirAll(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{{dir, dir, "", unix.MS_BIND}, {"", dir, "", unix.MS_SHARED}, {"below", below, "tmpfs", 0}} {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, at := range []string{below, filepath.Join(dir, "later"), dir} {
			_ = unix.Unmount(at, unix.MNT_DETACH) // not all are always there
		}
	})
	for _, file := range []string{"file", "below/file"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(file+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestMounts gives containers directories, files and memory, to read or to write.
func TestMounts(t *testing.T) {
	tree := hostTree(t)
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	bind := func(options string) []string {
		return []string{"--mount", "type=bind,src=" + tree + ",dst=/m,options=" + options}
	}
	try := "for f in /m/new /m/below/new; do (echo x >$f) 2>/dev/null && echo written && rm $f || echo refused; done"
	size := "set -- $(df /t | tail -n 1); echo $3"
	for _, c := range []runCase{
		{"all of it", bind("rbind:rw"), "cat /m/file /m/below/file; " + try, "file\nbelow/file\nwritten\nwritten"},
		{"not what is below", bind("bind"), "cat /m/file; ls /m/below", "file"},
		{"read-only at the top", bind("rbind:ro"), try, "refused\nwritten"},
		{"read-only with all below", bind("rbind:rro"), try, "refused\nrefused"},
		{"in docker's words", []string{"--mount", "source=" + tree + ",target=/m,readonly"}, "(echo x >/m/new) 2>/dev/null || echo refused", "refused"},
		{"one file", []string{"--mount", "type=bind,src=" + tree + "/file,dst=/etc/one,options=bind:ro"}, "cat /etc/one", "file"},
		{"no programs", bind("rbind:noexec:nosuid:nodev"), "cp /bin/bb /m/true; chmod 755 /m/true; /m/true 2>/dev/null || echo refused; rm /m/true", "refused"},
		{"memory", []string{"--mount", "type=tmpfs,dst=/t,options=size=2m:mode=1777:noexec"}, size + "; stat -c %a /t", "2048\n1777"},
		{"memory by its own flag", []string{"--tmpfs", "/t:size=3m"}, size, "3072"},
		{"one in another", append(bind("rbind:ro"), "--tmpfs", "/m/later"), "echo x >/m/later/x && ls /m/later", "x"},
		{"a root that is only read", append(bind("rbind:rw"), "--read-only", "--tmpfs", "/tmp"),
			"(echo x >/x) 2>/dev/null || echo refused; echo x >/tmp/x && " + try, "refused\nwritten\nwritten"},
	} {
		c.check(t, d, toolbox)
	}
	for _, name := range []string{"below/new", "new", "true"} {
		if _, err := os.Stat(filepath.Join(tree, name)); err == nil {
			t.Errorf("%s is left", name)
		}
	}
	refused(t, d.Try("run", "--rm", "--mount", "type=bind,src=/no/such,dst=/m", toolbox, "bad", "true"), "/no/such")
	refused(t, d.Try("run", "--rm", "--mount", "type=colour,src=x,dst=/m", toolbox, "bad", "true"), "type", "/m")
	refused(t, d.Try("run", "--rm", "--mount", "type=tmpfs,dst=/m,options=size=much", toolbox, "bad", "true"), "/m", "options")
	refused(t, d.Try("run", "--rm", "--mount", "type=bind,src=/tmp", toolbox, "bad", "true"), "dst")
	refused(t, d.Try("run", "--rm", "--mount", "type=bind,from=/tmp,dst=/m", toolbox, "bad", "true"), "from")
	if all := containers(t, d); len(all) != 0 {
		t.Errorf("left: %v", all)
	}
}

// TestMountTargets mounts where a link of the image points outside: it stays in the container.
func TestMountTargets(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	rootfs := probeRootfs(t)
	outside := testenv.Dir(t)
	if err := os.Symlink(outside, filepath.Join(rootfs, "link")); err != nil {
		t.Fatal(err)
	}
	source := testenv.Dir(t)
	if err := os.WriteFile(filepath.Join(source, "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	d.Minictr("run", "-d", "--rootfs", "--mount", "type=bind,src="+source+",dst=/link/deep", rootfs, "linked", "/probe", "sleep")
	pid := inspect(t, d, "linked").PID
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 || strings.Contains(string(mounts), outside) {
		t.Errorf("a link of the image leads a mount out of the container: %v %v", entries, err)
	}
	inside := filepath.Join("/proc", itoa(pid), "root", outside, "deep", "f")
	if _, err := os.Stat(inside); err != nil {
		t.Errorf("in the container: %v", err)
	}
}

// TestPropagation mounts on the host after the container's start, and in the container.
func TestPropagation(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	for _, c := range []struct {
		option              string
		rootfs              string
		hostSeen, guestSeen bool // what the host mounts is seen in the container, and the other way round
	}{
		{"rprivate", "", false, false},
		{"rslave", "", true, false},
		{"rshared", "shared", true, true},
	} {
		t.Run(c.option, func(t *testing.T) {
			tree := hostTree(t)
			d := d.In(t)
			args := []string{"run", "-d", "--cap-add", "SYS_ADMIN", "--seccomp-profile", "unconfined",
				"--mount", "type=bind,src=" + tree + ",dst=/m,options=rbind:" + c.option}
			if c.rootfs != "" {
				args = append(args, "--rootfs-propagation", c.rootfs)
			}
			d.Minictr(append(args, toolbox, c.option, "sleep", "600")...)
			if err := unix.Mount("later", filepath.Join(tree, "later"), "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(tree, "later/host"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if seen := d.Minictr("exec", c.option, "ls", "/m/later") != ""; seen != c.hostSeen {
				t.Errorf("the host's mount is seen in the container: %v", seen)
			}
			d.Minictr("exec", c.option, "sh", "-c", "mount -t tmpfs x /m/below && echo >/m/below/guest")
			if _, err := os.Stat(filepath.Join(tree, "below/guest")); (err == nil) != c.guestSeen {
				t.Errorf("the container's mount is seen on the host: %v", err)
			}
			d.Minictr("containers", "rm", "--force", c.option)
			_ = unix.Unmount(filepath.Join(tree, "below"), unix.MNT_DETACH) // what the container may have mounted there
		})
	}
}

// TestBusyRootfs removes a container whose root filesystem somebody on the host still stands in.
func TestBusyRootfs(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	d.Minictr("run", "-d", toolbox, "busy", "sleep", "600")
	file, err := os.Open(filepath.Join(inspect(t, d, "busy").Bundle, "rootfs/bin/bb"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	start := time.Now()
	d.Minictr("containers", "rm", "--force", "busy")
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	if all := containers(t, d); len(all) != 0 {
		t.Errorf("left: %v", all)
	}
}

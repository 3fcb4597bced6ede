package scenario_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/testenv"
)

// archivesHouse is a daemon with an image, and a directory.
func archivesHouse(t *testing.T) (n nerd, d *testenv.DaemonProcess, image, dir string) {
	t.Helper()
	testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d = testenv.Daemon(t, testenv.DaemonOptions{})
	n = newNerd(t, d)
	n.do("pull", "-q", r.Ref("busybox"))
	return n, d, r.Ref("busybox"), testenv.Dir(t)
}

// TestArchivesStates copies to and from a container in each of its states, to its root filesystem, a volume, a tmpfs and a
// read-only volume. A tmpfs is there only while it runs.
func TestArchivesStates(t *testing.T) {
	n, d, image, dir := archivesHouse(t)
	file, volume := filepath.Join(dir, "file"), filepath.Join(dir, "volume")
	check(t, errors.Join(os.Mkdir(volume, 0o755), os.WriteFile(file, []byte("copied"), 0o644), os.WriteFile(filepath.Join(volume, "theirs"), []byte("of the volume"), 0o644)))
	n.do("create", "--name", "states", "--network", "none", "-v", volume+":/vol", "-v", volume+":/deep/in/ro:ro", "--tmpfs", "/mem", image, "sleep", "1000")
	for _, state := range []string{"created", "running", "paused", "exited", "after the daemon's death"} {
		switch state {
		case "running":
			n.do("start", "states")
		case "paused":
			n.do("pause", "states")
		case "exited":
			n.do("unpause", "states")
			n.do("kill", "states")
		case "after the daemon's death":
			d.Restart()
		}
		name := strings.ReplaceAll(strings.ReplaceAll(state, " ", "-"), "'", "")
		for _, at := range []string{"/root-" + name, "/vol/" + name} {
			n.do("cp", file, "states:"+at)
			if out := n.do("cp", "states:"+at, "-"); !strings.Contains(out, "copied") {
				t.Errorf("%s: %s has %q", state, at, out)
			}
		}
		if data, err := os.ReadFile(filepath.Join(volume, name)); err != nil || string(data) != "copied" {
			t.Errorf("%s: the volume has %q, %v", state, data, err)
		}
		if out := n.do("cp", "states:/deep/in/ro/theirs", "-"); !strings.Contains(out, "of the volume") {
			t.Errorf("%s: the read-only volume has %q", state, out)
		}
		refused(t, n.try(nil, "cp", file, "states:/deep/in/ro/x"), "mounted volume is marked read-only")
		if state == "running" || state == "paused" {
			n.do("cp", file, "states:/mem/x")
			if out := n.do("cp", "states:/mem/x", "-"); !strings.Contains(out, "copied") {
				t.Errorf("%s: the tmpfs has %q", state, out)
			}
		}
	}
	if out := n.do("diff", "states"); out != "A /deep\nA /deep/in\nA /deep/in/ro\nA /mem\nA /root-after-the-daemons-death\nA /root-created\nA /root-exited\nA /root-paused\nA /root-running\nA /vol\n" {
		t.Errorf("diff printed %s", out)
	}
	n.do("run", "-d", "--name", "ro", "--network", "none", "--read-only", "-v", volume+":/vol", image, "sleep", "1000")
	for _, state := range []string{"running", "exited"} {
		refused(t, n.try(nil, "cp", file, "ro:/x"), "container rootfs is marked read-only")
		n.do("cp", file, "ro:/vol/by-ro")
		if state == "running" {
			n.do("kill", "ro")
		}
	}
	d.Minictr("check")
}

// TestArchivesUserNamespace wants owners to be those inside.
func TestArchivesUserNamespace(t *testing.T) {
	n, d, image, dir := archivesHouse(t)
	d.Minictr("run", "-d", "--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536", image, "shifted", "sh", "-c", "mkdir /made; echo x > /made/f; chown 5:6 /made/f; sleep 1000")
	testenv.Eventually(t, 20*time.Second, "it has made the file", func() bool {
		return strings.Contains(n.try(nil, "exec", "shifted", "stat", "-c", "%u", "/made/f").Stdout, "5")
	})
	file := filepath.Join(dir, "file")
	check(t, errors.Join(os.WriteFile(file, []byte("y"), 0o600), os.Chown(file, 7, 8)))
	for _, state := range []string{"running", "exited"} {
		if out := headers(t, n.do("cp", "shifted:/made", "-")); !strings.Contains(out, "made/f  644 5:6") || !strings.Contains(out, "made/  755 0:0") {
			t.Errorf("%s: the archive has\n%s", state, out)
		}
		n.do("cp", file, "shifted:/made/"+state)
		if out := headers(t, n.do("export", "shifted")); !strings.Contains(out, "made/"+state+"  600 7:8") || !strings.Contains(out, "bin/  755 0:0") {
			t.Errorf("%s: the export has\n%s", state, out)
		}
		if state == "running" {
			if out := n.do("exec", "shifted", "stat", "-c", "%u %g", "/made/running"); out != "7 8\n" {
				t.Errorf("inside it belongs to %s", out)
			}
			d.Minictr("tasks", "kill", "-s", "KILL", "shifted")
			waitExit(t, d, "shifted")
		}
	}
	n.do("commit", "shifted", "shifted:1")
	if out := n.do("run", "--rm", "--network", "none", "shifted:1", "stat", "-c", "%u %g", "/made/f"); out != "5 6\n" {
		t.Errorf("the image has it belong to %s", out)
	}
}

// TestArchivesHostileFiles copies what a container has made to lead its daemon astray.
func TestArchivesHostileFiles(t *testing.T) {
	n, d, image, dir := archivesHouse(t)
	secret := filepath.Join(dir, "secret")
	check(t, os.WriteFile(secret, []byte("of the host"), 0o600))
	n.do("run", "-d", "--name", "evil", "--network", "none", image, "sh", "-c",
		`ln -s `+secret+` /abs; ln -s ../../../../../../../..`+secret+` /rel; ln -s `+dir+` /dir; ln -s /proc/1/root/../.. /proc-link; mkdir -p /a/b; mkfifo /a/pipe; mknod /a/dev c 1 3; ln -s loop /loop
		head -c 1m /dev/zero > /a/sparse; dd if=/dev/zero of=/a/big bs=1 count=1 seek=536870911 2>/dev/null; echo ready
		while :; do mv /a/b /a/c; ln -s `+dir+` /a/b; rm /a/b; mv /a/c /a/b; done`)
	testenv.Eventually(t, 20*time.Second, "the files are made", func() bool { return strings.Contains(n.try(nil, "logs", "evil").Stdout, "ready") })
	for _, args := range [][]string{{"evil:/abs"}, {"-L", "evil:/abs"}, {"-L", "evil:/rel"}, {"evil:/dir/secret"}, {"evil:/dir/."}, {"evil:/proc-link/etc/shadow"}, {"-L", "evil:/loop"}, {"evil:/loop/x"}, {"evil:/../../../.." + secret}} {
		o := n.try(nil, append(append([]string{"cp"}, args...), "-")...)
		if strings.Contains(o.Stdout, "of the host") || strings.Contains(o.Stdout, "root:") {
			t.Errorf("cp %v: %q", args, o.Stdout)
		}
	}
	for _, to := range []string{"evil:/dir/new", "evil:/abs", "evil:/rel", "evil:/dir/", "evil:/proc-link/" + dir + "/new"} {
		n.try(nil, "cp", secret, to)
	}
	if names := testenv.Run(t, "ls", "-A", dir); names != "secret\n" {
		t.Errorf("on the host are %s", names)
	}
	if data, err := os.ReadFile(secret); err != nil || string(data) != "of the host" {
		t.Errorf("the host's file has %q, %v", data, err)
	}
	harmless := filepath.Join(testenv.Dir(t), "harmless")
	check(t, os.WriteFile(harmless, []byte("anybody's"), 0o600))
	for range 5 { // while it swaps the directory for a link
		if o := n.try(nil, "cp", "evil:/a/b/.", "-"); strings.Contains(o.Stdout, "of the host") {
			t.Fatal("the swapped directory led out")
		}
		n.try(nil, "cp", harmless, "evil:/a/b/planted")
	}
	if names := testenv.Run(t, "ls", "-A", dir); names != "secret\n" {
		t.Errorf("after the race, on the host are %s", names)
	}
	n.do("pause", "evil")
	t.Log("what is sparse stays so, and a pipe does not hold the copy up")
	copied := filepath.Join(testenv.Dir(t), "copied")
	n.do("cp", "evil:/a", copied)
	var stat unix.Stat_t
	check(t, unix.Stat(filepath.Join(copied, "big"), &stat))
	if stat.Size != 1<<29 || stat.Blocks*512 > 1<<20 {
		t.Errorf("the file of 512 MiB has %d bytes in %d blocks", stat.Size, stat.Blocks)
	}
	for name, kind := range map[string]uint32{"pipe": unix.S_IFIFO, "dev": unix.S_IFCHR} {
		if err := unix.Lstat(filepath.Join(copied, name), &stat); err != nil || stat.Mode&unix.S_IFMT != kind {
			t.Errorf("%s: %o, %v", name, stat.Mode, err)
		}
	}
	d.Minictr("check")
}

// TestArchivesAtOnce copies by many clients at once, and stops and removes the container meanwhile.
func TestArchivesAtOnce(t *testing.T) {
	n, d, image, dir := archivesHouse(t)
	n.do("run", "-d", "--name", "many", "--network", "none", image, "sh", "-c", "head -c 32m /dev/zero > /big; echo ready; sleep 1000")
	testenv.Eventually(t, 20*time.Second, "the file is made", func() bool { return strings.Contains(n.try(nil, "logs", "many").Stdout, "ready") })
	var up bytes.Buffer
	out := tar.NewWriter(&up)
	for i := range 50 {
		check(t, out.WriteHeader(&tar.Header{Name: fmt.Sprintf("f%02d", i), Mode: 0o644, Size: 4}))
		_, err := io.WriteString(out, "data")
		check(t, err)
	}
	check(t, out.Close())
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			target := filepath.Join(dir, fmt.Sprint(i))
			if o := n.try(nil, "cp", "many:/big", target); o.Code == 0 {
				if info, err := os.Stat(target); err != nil || info.Size() != 32<<20 {
					t.Errorf("%v, %v", info, err)
				}
			}
			n.try(bytes.NewReader(up.Bytes()), "cp", "-", "many:/tmp")
		})
	}
	all.Go(func() { n.do("kill", "many") })
	all.Wait()
	if out := headers(t, n.do("cp", "many:/tmp/.", "-")); strings.Count(out, " 4\n") != 50 {
		t.Errorf("there are\n%s", out)
	}
	n.do("rm", "-f", "many")
	d.Minictr("check")
}

package mount

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLoop mounts one file twice, the second time to read: both are one filesystem, and its device ends with the last.
func TestLoop(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	mkfs, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		t.Skip("needs e2fsprogs: ", err)
	}
	file := filepath.Join(t.TempDir(), "a disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 16<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs, "-q", "-F", file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ctx := context.Background()
	mounted := func(do func(root string) error, options ...string) error {
		return Temp(ctx, []Mount{{Type: "ext4", Source: file, Options: append([]string{"loop"}, options...)}}, do)
	}
	err = mounted(func(root string) error {
		if err := os.WriteFile(root+"/f", []byte("1"), 0o644); err != nil {
			return err
		}
		return mounted(func(again string) error {
			data, err := os.ReadFile(again + "/f")
			if string(data) != "1" {
				t.Errorf("the second mount has %q", data)
			}
			if os.WriteFile(again+"/g", nil, 0o644) == nil {
				t.Error("the second mount is writable")
			}
			return err
		}, "ro")
	}, "rw", "discard")
	if err != nil {
		t.Fatal(err)
	}
	var stat unix.Stat_t
	if err := unix.Stat(file, &stat); err != nil {
		t.Fatal(err)
	}
	if device := loopOf(file, &stat); device != nil {
		t.Errorf("it still has %s", device.Name())
	}
	ids := []string{"ro", "uidmap=0:100000:65536", "gidmap=0:100000:65536"}
	for range 2 {
		err := mounted(func(root string) error {
			var stat unix.Stat_t
			err := unix.Stat(root+"/f", &stat)
			if stat.Uid != 100000 {
				t.Errorf("owner %d", stat.Uid)
			}
			return mounted(func(string) error { return err }, ids...)
		}, ids...)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := Temp(ctx, []Mount{{Type: "ext4", Source: file + "x", Options: []string{"loop"}}}, nil); err == nil {
		t.Error("a file that is not there was mounted")
	}
}

package erofs

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/snapshot/snapshottest"
)

func need(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := exec.LookPath(program); err != nil {
		t.Skip("needs erofs-utils: ", err)
	}
}

func open(t *testing.T, root string, records snapshot.Records) snapshot.Snapshotter {
	t.Helper()
	return openWith(t, Options{Root: root, Records: records, Log: slog.New(slog.DiscardHandler)})
}

func openWith(t *testing.T, o Options) snapshot.Snapshotter {
	t.Helper()
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestContract(t *testing.T) {
	need(t)
	snapshottest.Run(t, open)
}

func TestKilled(t *testing.T) {
	need(t)
	snapshottest.Suite{Open: open}.Killed(t, append(snapshottest.Points(), "snapshot-packed")...)
}

// TestLife is what TestKilled kills.
func TestLife(t *testing.T) { snapshottest.Suite{Open: open}.Life(t) }

// TestPacked looks at what is special in a layer: what a file can have besides its contents comes through the image, and
// after the commit there is the image alone.
func TestPacked(t *testing.T) {
	need(t)
	ctx, root := context.Background(), t.TempDir()
	s := open(t, root, snapshottest.NewRecords())
	key := func(name string) snapshot.Key { return snapshot.Key{Namespace: "ns", Name: name} }
	when := time.Unix(1234567890, 987654321)
	mounts, err := s.Prepare(ctx, key("making"), "", snapshot.Options{})
	if err == nil {
		err = mount.Temp(ctx, mounts, func(root string) error {
			f := root + "/f"
			return errors.Join(os.WriteFile(f, []byte("x"), 0o600), os.Link(f, root+"/g"), os.Chown(f, 100000, 200000), unix.Chmod(f, 0o4711),
				unix.Setxattr(f, "security.capability", capability, 0), unix.Setxattr(f, "user.a", []byte("b"), 0),
				unix.Mknod(root+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))), os.Symlink("f", root+"/link"), os.Chtimes(f, when, when))
		})
	}
	if err == nil {
		err = s.Commit(ctx, "ns", "layer", "making", nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	if names, err := filepath.Glob(root + "/snapshots/1/*"); err != nil || len(names) != 2 {
		t.Errorf("in its directory: %v, %v", names, err)
	}
	mounts, err = s.View(ctx, key("view"), "layer", snapshot.Options{})
	if err == nil {
		err = mount.Temp(ctx, mounts, func(root string) error {
			var f, g, null unix.Stat_t
			value := make([]byte, 100)
			n, err := unix.Getxattr(root+"/g", "security.capability", value)
			err = errors.Join(err, unix.Stat(root+"/link", &f), unix.Stat(root+"/g", &g), unix.Stat(root+"/null", &null))
			if f.Ino != g.Ino || f.Nlink != 2 || f.Mode != unix.S_IFREG|0o4711 || f.Uid != 100000 || f.Gid != 200000 || null.Rdev != unix.Mkdev(1, 3) {
				t.Errorf("%+v\n%+v\n%+v", f, g, null)
			}
			if f.Mtim.Nano() != when.UnixNano() || string(value[:n]) != string(capability) {
				t.Errorf("time %v, capability %x", f.Mtim, value[:n])
			}
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// capability is cap_net_raw+ep in the form of VFS_CAP_REVISION_2.
var capability = []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

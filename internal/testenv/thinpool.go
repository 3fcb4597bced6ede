package testenv

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minirt/mini/internal/id"
)

// DeviceMapper skips a test where the kernel, or the machine, has none; but not in test/vm, which has.
func DeviceMapper(t testing.TB) {
	t.Helper()
	Need(t, "dmsetup", "losetup", "mkfs.ext4")
	if out, err := dmsetup("version"); err != nil {
		if os.Getenv("MINI_VM") != "" {
			t.Fatal(err, out)
		}
		t.Skip("needs the kernel's device mapper: ", out)
	}
}

// ThinPool makes a pool of device-mapper's thin volumes, of a gigabyte in a file, and takes it away with the test, with
// the volumes that are named after it. Where the kernel has none the test is skipped, but for test/vm, where it has.
func ThinPool(t testing.TB) string {
	t.Helper()
	DeviceMapper(t)
	name := "mini-test-" + id.New()[:12]
	const size, sector = 1 << 30, 512
	meta, data := loopFile(t, "meta", 16<<20), loopFile(t, "data", size)
	if out, err := dmsetup("create", name, "--table", fmt.Sprintf("0 %d thin-pool %s %s 128 0 1 skip_block_zeroing", size/sector, meta, data)); err != nil {
		t.Fatal(err, out)
	}
	t.Cleanup(func() {
		out, err := dmsetup("ls")
		if err != nil {
			t.Error(err, out)
		}
		for line := range strings.Lines(out) {
			if volume, _, _ := strings.Cut(line, "\t"); strings.HasPrefix(volume, name+"-") {
				if out, err := dmsetup("remove", volume); err != nil {
					t.Error(err, out)
				}
			}
		}
		if out, err := dmsetup("remove", name); err != nil {
			t.Error(err, out)
		}
	})
	return name
}

func dmsetup(args ...string) (string, error) {
	cmd := exec.CommandContext(context.Background(), "dmsetup", args...)
	if _, err := os.Stat("/run/udev/control"); err != nil {
		cmd.Env = append(os.Environ(), "DM_DISABLE_UDEV=1") // nobody else makes the nodes
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// loopFile is a loop device on a sparse file of the test.
func loopFile(t testing.TB, name string, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	err := os.WriteFile(path, nil, 0o600)
	if err == nil {
		err = os.Truncate(path, size)
	}
	if err != nil {
		t.Fatal(err)
	}
	loop := strings.TrimSpace(Run(t, "losetup", "--find", "--show", path))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", loop).CombinedOutput(); err != nil {
			t.Errorf("losetup: %v: %s", err, out)
		}
	})
	return loop
}

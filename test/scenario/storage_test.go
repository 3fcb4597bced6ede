package scenario_test

import (
	"strings"
	"testing"

	"github.com/minirt/mini/internal/testenv"
)

// TestStorageSize bounds what a container can write, where its snapshotter has filesystems with a size.
func TestStorageSize(t *testing.T) {
	testenv.Need(t, "mkfs.ext4", "resize2fs")
	d := testenv.Daemon(t, testenv.DaemonOptions{Config: "[snapshotters.disks]\ntype = \"blockfile\"\nsize = \"64MiB\"\n"})
	n := newNerd(t, d)
	on := func(flags ...string) testenv.Output {
		t.Helper()
		args := append([]string{"--snapshotter", "disks", "run", "--network", "none"}, flags...)
		return n.try(nil, append(args, toolbox, "sh", "-c", "head -c 80000000 /dev/zero > /file && echo it fits")...)
	}
	if o := on("--rm"); o.Code == 0 || !strings.Contains(o.Stdout+o.Stderr, "no space left") {
		t.Errorf("more than there is: %+v", o)
	}
	if o := on("--name", "large", "--storage-opt", "size=128m"); o.Stdout != "it fits\n" {
		t.Errorf("with more: %+v", o)
	}
	if out := n.do("inspect", "-f", "{{.HostConfig.StorageOpt.size}}", "large"); out != "134217728\n" {
		t.Errorf("inspect printed %q", out)
	}
	n.do("rm", "large")
	refused(t, on("--rm", "--storage-opt", "size=32m"), "can only be made larger")
	if left := n.do("ps", "-aq"); left != "" {
		t.Errorf("left: %s", left)
	}
}

package scenario_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/minirt/mini/internal/testenv"
)

// TestSnapshotVerbs goes through the life of snapshots with both snapshotters: what was written in one is in the layer
// that is made of it, and in its children.
func TestSnapshotVerbs(t *testing.T) {
	i := testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	for _, snapshotter := range []string{"overlay", "native"} {
		t.Run(snapshotter, func(t *testing.T) {
			d := d.In(t)
			snap := func(args ...string) string {
				t.Helper()
				return d.Minictr(append([]string{"snapshots", "--snapshotter", snapshotter}, args...)...)
			}
			try := func(args ...string) testenv.Output {
				t.Helper()
				return d.Try(append([]string{"snapshots", "--snapshotter", snapshotter}, args...)...)
			}
			d.Minictr("images", "pull", "-q", "--no-unpack", r.Ref("busybox"))
			base := strings.TrimSpace(snap("unpack", "-q", r.Ref("busybox")))
			if base != i.DiffIDs[0] {
				t.Errorf("unpack printed %q, the chain id of one layer is %s", base, i.DiffIDs[0])
			}
			dir := filepath.Join(testenv.Dir(t), "root")
			mountBy(t, snap("prepare", "--target", dir, "--label", "a=b", "work", base), dir)
			changeTree(t, dir)
			layer := tarNames(t, gunzip(t, snap("diff", "work")))
			for _, want := range []string{"new", "etc/passwd", "tmp/.wh.gone"} {
				if found := slices.Contains(layer, want); found != (want != "tmp/.wh.gone") {
					t.Errorf("the layer has %s: %v: %v", want, found, layer)
				}
			}
			if !slices.Contains(layer, "bin/.wh.ls") {
				t.Errorf("no whiteout of the deleted file in the layer: %v", layer)
			}
			kept := strings.TrimSpace(snap("diff", "--keep", "--media-type", "application/vnd.oci.image.layer.v1.tar+zstd", "--ref", "my-diff", "--label", "k=v", "work"))
			if list := d.Minictr("content", "ls", "labels.k==v"); !strings.Contains(list, kept) {
				t.Errorf("the kept layer %s is not listed:\n%s", kept, list)
			}
			d.Minictr("content", "rm", kept)
			testenv.Run(t, "umount", dir)

			refused(t, try("rm", base), base)
			snap("commit", "mine", "work")
			refused(t, try("mounts", dir, "work"), "work")
			snap("view", "look", "mine")
			mountBy(t, snap("mounts", dir, "look"), dir)
			if data, err := os.ReadFile(filepath.Join(dir, "new")); string(data) != "new\n" {
				t.Errorf("in the child: %q, %v", data, err)
			}
			if os.WriteFile(filepath.Join(dir, "view"), nil, 0o644) == nil {
				t.Error("a view is writable")
			}
			testenv.Run(t, "umount", dir)
			snapshotLists(t, snap, base)
			refused(t, try("rm", "mine"), "mine")
			snap("rm", "look", "mine")
			refused(t, try("info", "mine"), "mine")
			refused(t, try("prepare", "x", "no-such-parent"), "no-such-parent")
			if left := snap("ls", "-q"); left != base+"\n" {
				t.Errorf("left: %q", left)
			}
			d.Minictr("images", "rm", "--sync", r.Ref("busybox"))
		})
	}
	refused(t, d.Try("snapshots", "--snapshotter", "nonsense", "ls"), "nonsense")
}

// snapshotLists looks at base, mine above it, and look above that.
func snapshotLists(t *testing.T, snap func(...string) string, base string) {
	t.Helper()
	table := snap("ls")
	header(t, table, "KEY", "PARENT", "KIND")
	if rows := lines(table); len(rows) != 4 || !strings.Contains(table, "view") || !strings.Contains(table, "committed") {
		t.Errorf("list:\n%s", table)
	}
	if tree := snap("tree"); tree != base+"\n\\_ mine\n  \\_ look\n" {
		t.Errorf("tree:\n%s", tree)
	}
	info := decode[struct{ Name, Parent, Kind string }](t, snap("info", "mine"))
	if info.Name != "mine" || info.Parent != base || info.Kind != "committed" {
		t.Errorf("info: %+v", info)
	}
	if got := snap("label", "mine", "x=y"); !strings.Contains(got, "x=y") {
		t.Errorf("label: %s", got)
	}
	if got := snap("ls", "-q", "labels.x==y"); got != "mine\n" {
		t.Errorf("list by label: %q", got)
	}
	usage := snap("usage", "-b", "mine")
	header(t, usage, "KEY", "SIZE", "INODES")
	if fields := strings.Fields(lines(usage)[1]); fields[0] != "mine" || len(fields[1]) < 4 {
		t.Errorf("usage in bytes:\n%s", usage)
	}
	if all := lines(snap("usage")); len(all) != 4 {
		t.Errorf("usage of all: %v", all)
	}
}

// mountBy runs the mount commands that minictr printed, as a person would.
func mountBy(t *testing.T, commands, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(commands, "mount -t ") || !strings.Contains(commands, dir) {
		t.Fatalf("not mount commands: %s", commands)
	}
	if out, err := exec.CommandContext(t.Context(), "sh", "-ec", commands).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", commands, err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-q", dir).Run() }) // it is unmounted unless the test has failed
}

// changeTree makes a file, changes one, deletes one, and makes and deletes another.
func changeTree(t *testing.T, dir string) {
	t.Helper()
	script := "echo new >new; echo more >>etc/passwd; rm bin/ls; touch tmp/gone; rm tmp/gone"
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

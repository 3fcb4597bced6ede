package image

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/internal/testenv"
	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/registry/registrytest"
)

const (
	crashDir   = "MINI_TEST_CRASH_DIR"
	crashRef   = "MINI_TEST_CRASH_REF"
	crashApart = "MINI_TEST_CRASH_APART" // not empty: it is pulled apart
	crashTo    = "MINI_TEST_CRASH_TO"    // a layer is put on top of the image, under this name; empty: it is pulled
)

// TestMain is also the process that TestKilledPull kills.
func TestMain(m *testing.M) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		os.Exit(m.Run())
	}
	group, change := os.Getenv(crashApart), func(*Deps) {}
	if group != "" {
		change = apartly(dir, new([]string))
	}
	h, err := open(context.Background(), dir, change)
	if to := os.Getenv(crashTo); err == nil && to != "" {
		_, err = h.layered(os.Getenv(crashRef), to)
	} else if err == nil {
		_, err = h.Pull(context.Background(), ns, PullOptions{Name: os.Getenv(crashRef), Cgroup: group}, nil)
	}
	if err != nil {
		println(err.Error())
		os.Exit(1)
	}
	os.Exit(0)
}

// Killed at any arrow of a pull, the next start finds the whole image or none; the next pull completes it, and a collection
// leaves nothing.
func TestKilledPull(t *testing.T) {
	testenv.Root(t)
	r := registrytest.New(t, registrytest.Options{})
	three().put(r, "a", "1")
	ref := r.Host() + "/a:1"
	for _, point := range []string{"pull-resolved", "pull-offered", "pull-layer-fetched", "pull-layer-fetched=2*", "pull-layer-applied", "pull-layer-applied=3*",
		"pull-before-sync", "pull-after-sync", "pull-before-record", "pull-after-record", "snapshot-recorded", "snapshot-filled"} {
		t.Run(point, func(t *testing.T) {
			for _, again := range []bool{true, false} {
				killedPull(t, point, ref, again)
			}
		})
	}
}

func killedPull(t *testing.T, point, ref string, again bool, env ...string) {
	dir := t.TempDir()
	kill(t, point, dir, ref, env...)
	h, err := open(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.store.Close() }()
	recorded := wholeOrNone(t, h, ref)
	if want := point == "pull-after-record"; recorded != want {
		t.Errorf("recorded: %v, want %v", recorded, want)
	}
	if again {
		h.pull(t, ref, nil)
		if !wholeOrNone(t, h, ref) {
			t.Error("no image after the second pull")
		}
		if left := must(leasesOf(h)); len(left) > 0 {
			t.Errorf("the second pull leaves the first one's lease: %v", left)
		}
	}
	for _, img := range must(h.List(t.Context(), ns)) {
		must(h.Delete(t.Context(), ns, img.Name, false))
	}
	for _, l := range must(leasesOf(h)) { // as if they had expired
		if err := h.Leases.Delete(ns, l); err != nil {
			t.Fatal(err)
		}
	}
	must(h.CollectGarbage(t.Context(), CollectOptions{}))
	if left := h.left(t); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func kill(t *testing.T, point, dir, ref string, env ...string) {
	t.Helper()
	action := point + "=kill"
	if point[len(point)-1] == '*' {
		action = point + "kill"
	}
	cmd := exec.Command(os.Args[0]) // this test's own binary
	cmd.Env = append(append(os.Environ(), env...), crashDir+"="+dir, crashRef+"="+ref, failpoint.Env+"="+action)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the pull was not killed at %s: %v\n%s", point, err, out)
	}
}

// wholeOrNone tells whether the image is there; if so, it must be whole.
func wholeOrNone(t *testing.T, h *house, ref string) bool {
	t.Helper()
	if _, err := h.Get(t.Context(), ns, ref); errdefs.IsNotFound(err) {
		return false
	}
	res, err := h.Resolve(t.Context(), ns, ref, "")
	if err != nil || !res.Unpacked || res.ChainID != oci.ChainID(three().diffIDs).String() {
		t.Fatalf("the image is not whole: %+v, %v", res, err)
	}
	if got := h.files(t, "overlay", ns, res.ChainID); !slices.Equal(got, threeFiles) {
		t.Fatalf("files %v", got)
	}
	if p, err := h.Problems(t.Context(), false, false); err != nil || len(p) != 0 {
		t.Fatalf("problems %v, %v", p, err)
	}
	return true
}

package image

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/registry/registrytest"
	"github.com/minirt/mini/runtime/content"
	"github.com/minirt/mini/runtime/store"
)

// sameProcess is an Apart without a process: a service of its own, over the directory that it is given.
type sameProcess struct {
	main   string // directory of the content behind
	deps   Deps
	groups *[]string // that were asked for
}

func (s sameProcess) Bring(ctx context.Context, group, dir string, r ApartRequest, progress func(Progress)) (err error) {
	*s.groups = append(*s.groups, group)
	if group == "/refused" {
		return fmt.Errorf("it was killed: %w", errdefs.ErrResourceExhausted)
	}
	log := slog.New(slog.DiscardHandler)
	records, err := store.Open(ctx, store.Options{Path: filepath.Join(dir, "meta.db"), Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, records.Close()) }()
	c, err := content.Open(filepath.Join(dir, "content"), store.NewTable[content.Record](records, "content", 1, nil), log)
	if err != nil {
		return err
	}
	c.Behind(s.main)
	service, err := New(Deps{Content: c, NewRegistry: s.deps.NewRegistry, Leases: store.NewLeases(records), Log: log})
	if err != nil {
		return err
	}
	err = service.BringApart(ctx, dir, r, progress)
	if group == "/marked" {
		err = errors.Join(err, os.WriteFile(filepath.Join(appliedApart(dir, r.Layers[0].DiffID), "mark"), nil, 0o600))
	}
	return err
}

// apartly has a house pull apart.
func apartly(dir string, groups *[]string) func(*Deps) {
	return func(d *Deps) {
		d.ApartDir = filepath.Join(dir, "pulls")
		if err := errors.Join(os.RemoveAll(d.ApartDir), os.Mkdir(d.ApartDir, 0o700)); err != nil {
			panic(err)
		}
		d.Apart = sameProcess{main: filepath.Join(dir, "content"), deps: *d, groups: groups}
	}
}

// TestPullApart: what was made apart is taken over, nothing of it is fetched twice, and nothing is left there.
func TestPullApart(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	three().put(r, "a", "1")
	two := build(oci.Host(), layerTar(entry{"etc/", ""}, entry{"etc/passwd", "root"}, entry{"etc/old", "x"}, entry{"opt/", ""}, entry{"opt/a", "a"}), layerTar(entry{"new", "new"}))
	two.put(r, "a", "2")
	dir := t.TempDir()
	var groups []string
	h, err := open(t.Context(), dir, apartly(dir, &groups))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.store.Close() })
	in := func(group string) func(*PullOptions) { return func(o *PullOptions) { o.Cgroup = group } }
	if _, err := h.Pull(t.Context(), ns, PullOptions{Name: r.Host() + "/a:1", Cgroup: "/refused"}, nil); !errdefs.IsResourceExhausted(err) {
		t.Errorf("a process that is killed: %v", err)
	}
	h.pull(t, r.Host()+"/a:1", in("/pulls"))
	if !wholeOrNone(t, h, r.Host()+"/a:1") {
		t.Error("no image")
	}
	h.pull(t, r.Host()+"/a:2", in("/marked"))
	res, err := h.Resolve(t.Context(), ns, r.Host()+"/a:2", "")
	if err != nil {
		t.Fatal(err)
	}
	if files := h.files(t, "overlay", ns, res.ChainID); !slices.ContainsFunc(files, func(f string) bool { return strings.Contains(f, "mark") }) {
		t.Errorf("the layer was unpacked again: %v", files)
	}
	h.pull(t, r.Host()+"/a:2", in("/pulls")) // nothing is missing: no process
	for _, layer := range append(three().layers, two.layers...) {
		if n := r.Count("GET", digest.FromBytes(layer).String()); n != 1 {
			t.Errorf("a layer was fetched %d times", n)
		}
	}
	if want := 3; len(groups) != want {
		t.Errorf("processes in %s, want %d", groups, want)
	}
	if st, err := h.Check(t.Context(), ns, []string{r.Host() + "/a:2"}, ""); err != nil || st[0].Status != Complete || !st[0].Unpacked {
		t.Errorf("status %+v, %v", st, err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "pulls")); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestPullApartAtOnce: of two pulls of an image one brings it, and the other finds it. A layer that the image has twice is
// brought once.
func TestPullApartAtOnce(t *testing.T) {
	layer := layerTar(entry{"a", "a"})
	twice := build(oci.Host(), layer, layerTar(entry{"b", "b"}), layer)
	r := registrytest.New(t, registrytest.Options{})
	twice.put(r, "a", "1")
	r.Fail(registrytest.Fault{Path: "/blobs/" + digest.FromBytes(twice.layers[1]).String(), Hang: 300 * time.Millisecond})
	dir := t.TempDir()
	var groups []string
	h, err := open(t.Context(), dir, apartly(dir, &groups))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.store.Close() })
	var g errgroup.Group
	for range 2 {
		g.Go(func() error {
			_, err := h.Pull(t.Context(), ns, PullOptions{Name: r.Host() + "/a:1", Cgroup: "/pulls"}, nil)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(groups) != 1 {
		t.Errorf("%d processes for one image", len(groups))
	}
	if st, err := h.Check(t.Context(), ns, []string{r.Host() + "/a:1"}, ""); err != nil || st[0].Status != Complete || !st[0].Unpacked {
		t.Errorf("status %+v, %v", st, err)
	}
}

// TestKilledPullApart is TestKilledPull where the layers are made apart.
func TestKilledPullApart(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	three().put(r, "a", "1")
	for _, point := range []string{"pull-apart-brought", "pull-apart-taken", "pull-layer-applied=5*", "pull-before-sync"} {
		t.Run(point, func(t *testing.T) { killedPull(t, point, r.Host()+"/a:1", true, crashApart+"=1") })
	}
}

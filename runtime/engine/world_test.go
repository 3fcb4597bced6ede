package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/internal/testenv"
	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/events"
	"github.com/minirt/mini/runtime/image"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/sandbox"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/snapshot/native"
	"github.com/minirt/mini/runtime/store"
	"github.com/minirt/mini/runtime/volume"
)

const (
	ns   = "default"
	base = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
)

var errBroken = errors.New("broken for the test")

// world is an engine with a real store and a real snapshotter in a directory of its own, on supervisors that are not.
type world struct {
	*Engine
	t         *testing.T
	dir       string
	store     *store.Store
	snapshots *faulty
	images    *images
	network   *pods
	sandboxes *sandboxes
	events    *record
}

// in runs a test in a bubble: timeouts cost no time, and goroutines that are left over or deadlocked fail it.
func in(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	dir := testenv.Dir(t)
	t.Cleanup(func() { unmountBelow(t, dir) })
	synctest.Test(t, func(t *testing.T) {
		w := open(t, dir, openSandboxes(t, filepath.Join(dir, "sandboxes")))
		w.recover()
		test(t, w)
		w.shut()
	})
}

func unmountBelow(t *testing.T, dir string) {
	points, err := mount.Below(dir)
	if err != nil {
		t.Error(err)
	}
	for _, p := range points {
		if err := mount.Unmount(p); err != nil {
			t.Error(err)
		}
	}
}

func open(t *testing.T, dir string, s *sandboxes) *world {
	t.Helper()
	ctx, log := context.Background(), slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	w := &world{t: t, dir: dir, sandboxes: s, events: &record{}, images: &images{}, network: newNetwork()}
	var err error
	if w.store, err = store.Open(ctx, store.Options{Path: filepath.Join(dir, "root/meta.db"), Logger: log}); err != nil {
		t.Fatal(err)
	}
	n, err := native.Open(ctx, native.Options{Root: filepath.Join(dir, "root/native"), Records: snapshot.NewRecords(w.store, native.Name), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	w.snapshots = &faulty{Snapshotter: n}
	w.Engine, err = New(Deps{
		Name: "minid", Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state"),
		Containers: store.NewTable[Container](w.store, "containers", 1, nil), Pods: store.NewTable[Pod](w.store, "pods", 1, nil),
		Network: w.network, Networks: store.NewTable[network.Record](w.store, "networks", 1, nil), Namespaces: store.NewNamespaces(w.store), Store: w.store,
		Volumes: store.NewTable[volume.Record](w.store, "volumes", 1, nil),
		Images:  w.images, Snapshotters: map[string]snapshot.Snapshotter{native.Name: w.snapshots}, Snapshotter: native.Name,
		Events: w.events, Config: Config{CgroupDriver: "cgroupfs", CgroupParent: "mini-engine-test", Pause: "/proc/self/exe"}, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.events.table = w.Containers
	w.Use(s)
	s.mu.Lock()
	s.handler = w.HandleExit
	s.mu.Unlock()
	return w
}

func (w *world) recover() {
	w.t.Helper()
	if err := w.Recover(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// shut ends the engine and leaves everything else.
func (w *world) shut() {
	w.t.Helper()
	w.sandboxes.mu.Lock()
	w.sandboxes.handler = nil
	w.sandboxes.mu.Unlock()
	if err := errors.Join(w.Close(), w.store.Close()); err != nil {
		w.t.Error(err)
	}
}

// again is the next engine, on what this one has left; it has not recovered.
func (w *world) again() {
	w.t.Helper()
	w.shut()
	*w = *open(w.t, w.dir, w.sandboxes)
}

// settled waits until nobody has anything more to do. Only in a bubble.
func (w *world) settled() { synctest.Wait() }

// ok fails the test for an error.
func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// is fails the test unless the error is of the class.
func (w *world) is(err, class error) {
	w.t.Helper()
	if !errors.Is(err, class) {
		w.t.Fatalf("error %v; want %v", err, class)
	}
}

// options are of a container on a plain directory, for which nothing is mounted.
func (w *world) options(id string) CreateOptions {
	w.t.Helper()
	root := filepath.Join(w.dir, "plain")
	w.ok(os.MkdirAll(root, 0o755))
	return CreateOptions{ID: id, Request: &spec.Request{Rootfs: root, Args: []string{"sleep"}}}
}

// imaged are options of a container on an image, whose snapshot is mounted.
func (w *world) imaged(id string) CreateOptions {
	w.t.Helper()
	testenv.Root(w.t)
	ctx := context.Background()
	if _, err := w.snapshots.Info(ctx, snapshot.Key{Namespace: ns, Name: base}); errdefs.IsNotFound(err) {
		mounts, err := w.snapshots.Snapshotter.Prepare(ctx, snapshot.Key{Namespace: ns, Name: "making"}, "", snapshot.Options{})
		w.ok(err)
		w.ok(os.WriteFile(filepath.Join(mounts[0].Source, "file"), []byte("1"), 0o644))
		w.ok(w.snapshots.Commit(ctx, ns, base, "making", nil))
	}
	return CreateOptions{ID: id, Image: "busybox", Request: &spec.Request{Args: []string{"sleep"}}}
}

func (w *world) create(o CreateOptions) Container {
	w.t.Helper()
	c, err := w.Create(w.t.Context(), ns, o)
	w.ok(err)
	return c
}

func (w *world) start(id string) Process {
	w.t.Helper()
	p, err := w.Start(w.t.Context(), ns, id, StartOptions{})
	w.ok(err)
	return p
}

// running makes and starts a container.
func (w *world) running(id string) Process {
	w.t.Helper()
	w.create(w.options(id))
	return w.start(id)
}

// state is a container's, as it is on disk; "-" when it has no record.
func (w *world) state(id string) State {
	w.t.Helper()
	return stateOf(w.Containers, id)
}

func stateOf(table *store.Table[Container], id string) State {
	c, err := table.Get(ns, id)
	switch {
	case errdefs.IsNotFound(err):
		return "-"
	case err != nil:
		return State(err.Error())
	}
	return c.State
}

// clean fails the test when something is left of any container or pod: records, snapshots, bundles, logs, mounts, pinned
// namespaces, attachments, processes.
func (w *world) clean() {
	w.t.Helper()
	records, err := w.Containers.List("")
	w.ok(err)
	infos, err := w.snapshots.List(context.Background(), "")
	w.ok(err)
	infos = slices.DeleteFunc(infos, func(i snapshot.Info) bool { return i.Name == base })
	mounts, err := mount.Below(w.dir)
	w.ok(err)
	known, err := w.List(context.Background(), "")
	w.ok(err)
	var left []string
	for _, pattern := range []string{"state/containers/*/*", "root/containers/*/*", "state/pods/*/*", "root/volumes/*/*"} {
		found, err := filepath.Glob(filepath.Join(w.dir, pattern))
		w.ok(err)
		left = append(left, found...)
	}
	pods, err := w.Pods.List("")
	w.ok(err)
	if has := w.sandboxes.has(); len(records)+len(infos)+len(mounts)+len(left)+len(has)+len(known) > 0 {
		w.t.Errorf("left: records %v, snapshots %v, mounts %v, files %v, processes %v, known %v", records, infos, mounts, left, has, known)
	}
	if inside := w.network.inside(); len(pods)+len(inside)+len(w.livePods("")) > 0 {
		w.t.Errorf("left: pods %v, known %d, in the network %v", pods, len(w.livePods("")), inside)
	}
}

// record keeps the events with the state that the store has when they are published.
type record struct {
	table *store.Table[Container]
	pods  bool // those of pods too
	mu    sync.Mutex
	list  []string
}

func (r *record) Publish(e events.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Type == "pod" {
		if r.pods {
			r.list = append(r.list, "pod "+e.Action+" "+e.ID)
		}
		return
	}
	exec := ""
	if x := e.Attributes["exec"]; x != "" {
		exec = "/" + x
	}
	r.list = append(r.list, fmt.Sprintf("%s %s%s (%s)", e.Action, e.ID, exec, stateOf(r.table, e.ID)))
}

// want compares the events with those given, one a line, and forgets them.
func (r *record) want(t *testing.T, want ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.list, want) {
		t.Errorf("events\n\t%s\nwant\n\t%s", strings.Join(r.list, "\n\t"), strings.Join(want, "\n\t"))
	}
	r.list = nil
}

// images has one image of one layer, unpacked.
type images struct {
	resolve, unpack error

	committed oci.Config // of the last commit
	layer     bytes.Buffer
	history   ocispec.History
}

var _ Images = (*images)(nil)

func (i *images) Resolve(_ context.Context, _, name, _ string) (image.Resolved, error) {
	config := ocispec.Image{Config: ocispec.ImageConfig{Env: []string{"OF=image"}, Cmd: []string{"sh"}}}
	return image.Resolved{Image: image.Image{Name: name}, Config: config, Manifest: ocispec.Descriptor{Digest: base}}, i.resolve
}

func (i *images) Unpack(context.Context, string, string, string, string, func(image.Progress)) (string, error) {
	return base, i.unpack
}

func (i *images) Artifact(context.Context, string, string) ([]image.ArtifactFile, bool, error) {
	return nil, false, nil
}

func (i *images) CollectGarbage(context.Context, image.CollectOptions) (image.Collected, error) {
	return image.Collected{}, nil
}

func (i *images) SaveCheckpoint(context.Context, string, string, image.Checkpoint) (image.Image, error) {
	return image.Image{}, errdefs.ErrNotImplemented
}

func (i *images) LoadCheckpoint(context.Context, string, string) (image.SavedCheckpoint, error) {
	return image.SavedCheckpoint{}, errdefs.ErrNotImplemented
}

func (i *images) CommitLayer(ctx context.Context, _ string, _ digest.Digest, o image.LayerOptions, configure func(*oci.Config) error, write func(context.Context, io.Writer) error) (image.Image, error) {
	if err := errors.Join(configure(&i.committed), write(ctx, &i.layer)); err != nil {
		return image.Image{}, err
	}
	i.history = o.History
	return image.Image{Name: o.Name}, nil
}

func (i *images) NameBase(string, string, ocispec.Descriptor) (image.Image, error) {
	return image.Image{}, errdefs.ErrNotImplemented
}

func (i *images) Count(context.Context) (int, error) { return 1, nil }

func (i *images) Problems(context.Context, bool, bool) ([]image.Problem, error) { return nil, nil }

// faulty is a snapshotter whose steps can fail, or wait.
type faulty struct {
	snapshot.Snapshotter
	prepare, mounts, remove error
	preparing, mounting     func()
}

func (f *faulty) Prepare(ctx context.Context, k snapshot.Key, parent string, o snapshot.Options) ([]mount.Mount, error) {
	if f.preparing != nil {
		f.preparing()
	}
	if f.prepare != nil {
		return nil, f.prepare
	}
	return f.Snapshotter.Prepare(ctx, k, parent, o)
}

func (f *faulty) Mounts(ctx context.Context, k snapshot.Key) ([]mount.Mount, error) {
	if f.mounts != nil {
		return nil, f.mounts
	}
	mounts, err := f.Snapshotter.Mounts(ctx, k)
	if f.mounting != nil {
		f.mounting()
	}
	return mounts, err
}

func (f *faulty) Remove(ctx context.Context, k snapshot.Key) error {
	if f.remove != nil {
		return f.remove
	}
	return f.Snapshotter.Remove(ctx, k)
}

// idle is what a supervisor that has nothing says of every record.
func idle(known []sandbox.Known) ([]sandbox.Recovered, error) {
	var all []sandbox.Recovered
	for _, k := range known {
		all = append(all, sandbox.Recovered{Process: k.Process, Dir: k.Dir, Action: sandbox.ActionIdle})
	}
	return all, nil
}

func snapshotKey(id string) snapshot.Key { return snapshot.Key{Namespace: ns, Name: id} }

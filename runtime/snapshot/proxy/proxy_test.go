package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/snapshot/overlay"
	"github.com/minirt/mini/runtime/snapshot/snapshottest"
)

// world is a program and the store on it.
type world struct {
	*Store
	server  *server
	root    string
	records *snapshottest.Memory
	stop    func()
}

func newServer(t testing.TB, root string, remote map[string]string) *server {
	t.Helper()
	theirs, err := overlay.Open(context.Background(), overlay.Options{Root: root, Records: snapshottest.NewRecords(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return &server{store: theirs, remote: remote}
}

func openStore(t testing.TB, root, owner string, records snapshot.Records) *Store {
	t.Helper()
	s, err := Open(context.Background(), Options{Name: "theirs", Address: socketOf(root), Owner: owner, Records: records, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // may be closed
	return s
}

func newWorld(t *testing.T, remote map[string]string) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	w := &world{root: t.TempDir(), records: snapshottest.NewRecords()}
	w.server = newServer(t, w.root, remote)
	w.start(t)
	w.Store = openStore(t, w.root, "me", w.records)
	return w
}

func (w *world) start(t *testing.T) {
	t.Helper()
	w.stop = serve(t, w.server, socketOf(w.root))
	t.Cleanup(w.stop)
}

func TestContract(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	servers := map[string]*server{}
	snapshottest.Suite{
		Root: func(t *testing.T) string {
			root := t.TempDir()
			servers[root] = newServer(t, root, nil)
			t.Cleanup(serve(t, servers[root], socketOf(root)))
			return root
		},
		Open: func(t *testing.T, root string, records snapshot.Records) snapshot.Snapshotter {
			return openStore(t, root, "me", records)
		},
		Held: func(t *testing.T, root string) []string { return servers[root].names(t, "minid/") },
	}.Run(t)
}

func key(name string) snapshot.Key { return snapshot.Key{Namespace: "ns", Name: name} }

func (w *world) offer(t *testing.T, ns, chain, parent string) bool {
	t.Helper()
	has, err := w.Offer(context.Background(), snapshot.Key{Namespace: ns, Name: "extract-" + chain}, chain, parent,
		map[string]string{"containerd.io/snapshot/cri.layer-digest": "sha256:" + chain}, map[string]string{"minid.layer": chain})
	if err != nil {
		t.Fatal(err)
	}
	return has
}

func (w *world) look(t *testing.T, ns, parent string) string {
	t.Helper()
	ctx, k := context.Background(), snapshot.Key{Namespace: ns, Name: "look"}
	mounts, err := w.View(ctx, k, parent, snapshot.Options{})
	var data []byte
	if err == nil {
		err = mount.Temp(ctx, mounts, func(root string) (err error) { data, err = os.ReadFile(root + "/remote"); return err })
	}
	if err == nil {
		err = w.Remove(ctx, k)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestOffer: layers that the program has by itself become layers here, in every namespace, and go with the last record.
func TestOffer(t *testing.T) {
	w, ctx := newWorld(t, map[string]string{"one": "1", "two": "2"}), context.Background()
	if !w.offer(t, "ns", "one", "") || !w.offer(t, "ns", "two", "one") {
		t.Fatal("the offers were not taken")
	}
	if w.offer(t, "ns", "three", "two") {
		t.Error("a layer that it has not")
	}
	labels := w.server.labels[0]
	if labels[targetLabel] != "one" || labels["containerd.io/snapshot/cri.layer-digest"] != "sha256:one" || labels["minid.layer"] != "" {
		t.Errorf("labels %v", labels)
	}
	info, err := w.Info(ctx, key("two"))
	if err != nil || info.Parent != "one" || info.Labels[snapshot.LazyLabel] == "" || info.Labels["minid.layer"] != "two" {
		t.Errorf("%+v, %v", info, err)
	}
	if got := w.look(t, "ns", "two"); got != "2" {
		t.Errorf("the layer has %q", got)
	}
	if ok, err := w.Adopt(ctx, "other", "two"); !ok || err != nil {
		t.Errorf("adopt: %v, %v", ok, err)
	}
	if info, err := w.Info(ctx, snapshot.Key{Namespace: "other", Name: "one"}); err != nil || info.Labels[snapshot.LazyLabel] == "" {
		t.Errorf("adopted: %+v, %v", info, err)
	}
	if freed, err := w.Cleanup(ctx); freed != 0 || errdefs.IsNotImplemented(err) || err != nil {
		t.Errorf("cleanup: %d, %v", freed, err)
	}
	for _, ns := range []string{"ns", "other"} {
		for _, name := range []string{"two", "one"} {
			if err := w.Remove(ctx, snapshot.Key{Namespace: ns, Name: name}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if left := w.server.names(t, ""); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// TestShared: two daemons share a program; neither touches what is the other's.
func TestShared(t *testing.T) {
	w, ctx := newWorld(t, map[string]string{"one": "1"}), context.Background()
	other := &world{Store: openStore(t, w.root, "other", snapshottest.NewRecords()), server: w.server}
	if !w.offer(t, "ns", "one", "") || !other.offer(t, "ns", "one", "") {
		t.Fatal("the offers were not taken")
	}
	for _, s := range []*Store{w.Store, other.Store} {
		if freed, err := s.Cleanup(ctx); freed != 0 || err != nil {
			t.Errorf("cleanup: %d, %v", freed, err)
		}
	}
	if err := other.Remove(ctx, key("one")); err != nil {
		t.Fatal(err)
	}
	if got := w.look(t, "ns", "one"); got != "1" {
		t.Errorf("after the other's removal: %q", got)
	}
}

// TestAbsent: without the program everything says so and nothing is lost; when it is back all goes on.
func TestAbsent(t *testing.T) {
	w, ctx := newWorld(t, map[string]string{"one": "1"}), context.Background()
	w.offer(t, "ns", "one", "")
	if _, err := w.Prepare(ctx, key("a"), "one", snapshot.Options{}); err != nil {
		t.Fatal(err)
	}
	w.stop()
	w.Store = openStore(t, w.root, "me", w.records) // the daemon starts before the program
	_, prepareErr := w.Prepare(ctx, key("b"), "one", snapshot.Options{})
	_, mountsErr := w.Mounts(ctx, key("a"))
	_, cleanupErr := w.Cleanup(ctx)
	for what, err := range map[string]error{"prepare": prepareErr, "mounts": mountsErr, "remove": w.Remove(ctx, key("a")), "cleanup": cleanupErr} {
		if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), socketOf(w.root)) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if infos, err := w.List(ctx, ""); err != nil || len(infos) != 3 { // b's record waits for its removal
		t.Errorf("records %v, %v", infos, err)
	}
	w.start(t)
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if _, err = w.Mounts(ctx, key("a")); !errdefs.IsUnavailable(err) {
			break
		}
	}
	if err != nil {
		t.Errorf("it is back: %v", err)
	}
	if _, err := w.Cleanup(ctx); err != nil {
		t.Error(err)
	}
	infos, err := w.List(ctx, "")
	if err != nil || len(infos) != 2 {
		t.Errorf("records %v, %v", infos, err)
	}
	if err := w.Remove(ctx, key("a")); err != nil {
		t.Error(err)
	}
}

// TestLeftovers makes what crashes leave at the program, and looks that what is the program's own stays.
func TestLeftovers(t *testing.T) {
	w, ctx := newWorld(t, map[string]string{"one": "1"}), context.Background()
	w.offer(t, "ns", "one", "")
	theirs := func(name string, n int, owner string) {
		t.Helper()
		labels := map[string]string{ownerLabel: owner, numberLabel: fmt.Sprint(n)}
		if _, err := w.server.store.Prepare(ctx, keyOf(name), "", snapshot.Options{Labels: labels}); err != nil {
			t.Fatal(err)
		}
	}
	theirs("minid/me/7/active", 7, "me")
	theirs("sha256:lost", 8, "me")
	theirs("k8s.io/1/x", 9, "")
	for _, name := range []string{"gone", "half committed"} {
		if _, err := w.Prepare(ctx, key(name), "one", snapshot.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	record := func(name string) snapshot.Record {
		r, err := w.records.Get("ns", name)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if err := w.server.store.Remove(ctx, keyOf(w.program.active(record("gone")))); err != nil {
		t.Fatal(err)
	}
	half := record("half committed")
	if err := w.server.store.Commit(ctx, serverSpace, w.program.layer(half), w.program.active(half), w.program.labels(half, nil)); err != nil {
		t.Fatal(err)
	}
	w.Store = openStore(t, w.root, "me", w.records)
	if left := w.server.names(t, ""); fmt.Sprint(left) != fmt.Sprintf("[k8s.io/1/x %s one]", w.program.layer(half)) {
		t.Errorf("left: %v", left)
	}
	if _, err := w.Info(ctx, key("gone")); !errdefs.IsNotFound(err) {
		t.Errorf("the record of what is gone: %v", err)
	}
	if _, err := w.Mounts(ctx, key("half committed")); !errdefs.IsDataLoss(err) {
		t.Errorf("mounts of what is half committed: %v", err)
	}
	if err := w.Commit(ctx, "ns", "layer", "half committed", nil); err != nil {
		t.Errorf("the commit again: %v", err)
	}
}

func TestUnmappable(t *testing.T) {
	maps := []snapshot.IDMap{{HostID: 1000, Size: 10}}
	for _, m := range [][]mount.Mount{{{Type: "ext4", Source: "/dev/x"}}, {{Type: "bind", Options: []string{"ro"}}, {Type: "overlay"}}} {
		if _, err := mapped(m, maps, maps); !errdefs.IsNotImplemented(err) {
			t.Errorf("%v: %v", m, err)
		}
	}
}

package engine

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func (w *world) problems(repair bool) []string {
	w.t.Helper()
	problems, _, err := w.Check(w.t.Context(), repair, true)
	w.ok(err)
	list := make([]string, 0, len(problems))
	for _, p := range problems {
		if repair != p.Repaired && strings.Contains(p.Remedy, "--repair") {
			w.t.Errorf("%+v", p)
		}
		what, _, _ := strings.Cut(p.Problem, ": ")
		list = append(list, p.Kind+" "+filepath.Base(p.Object)+": "+what)
	}
	return list
}

func TestCheck(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.create(w.imaged("sound"))
		w.create(w.imaged("bare"))
		w.ok(w.snapshots.Remove(t.Context(), snapshotKey("bare")))
		w.leave("half", Removing, nil)
		w.leave("dead", Running, nil)
		for _, dir := range []string{"state/containers/default/stray/rootfs", "root/containers/default/stray"} {
			w.ok(os.MkdirAll(filepath.Join(w.dir, dir), 0o755))
		}
		dead := "container dead: recorded as running, and process 41 does not live"
		bare := "container bare: its root filesystem is gone"
		want := []string{bare, dead, "container half: left half removed", "container stray: log files of no container", "mount stray: a bundle of no container"}
		for _, repair := range []bool{false, true} {
			got := w.problems(repair)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("repair %t:\n%q\nwant\n%q", repair, got, want)
			}
		}
		got := w.problems(false)
		slices.Sort(got)
		if want := []string{bare, dead}; !slices.Equal(got, want) {
			t.Errorf("after the repair: %q\nwant %q", got, want)
		}
		if s := w.state("sound"); s != Created {
			t.Errorf("the sound one is %s", s)
		}
	})
}

// TestRepairTakesNoOthers: what was half made when the list was read has been made since, or removed, with another whose
// id begins the same.
func TestRepairTakesNoOthers(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.create(w.options("made"))
		w.create(w.options("gone-long"))
		for _, id := range []string{"made", "gone"} {
			if found := w.checkContainer(t.Context(), Container{ID: id, Namespace: ns, State: Creating}, true); len(found) > 0 {
				t.Errorf("%s: %v", id, found)
			}
		}
		if made, other := w.state("made"), w.state("gone-long"); made != Created || other != Created {
			t.Errorf("they are %s and %s", made, other)
		}
		// The locks are free again.
		for _, id := range []string{"made", "gone-long"} {
			_, err := w.Delete(t.Context(), ns, id, DeleteOptions{})
			w.ok(err)
		}
		unlock, err := w.locks.Lock(context.Background(), key{ns, "gone"}.String())
		w.ok(err)
		unlock()
	})
}

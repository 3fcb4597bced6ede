package engine

import "testing"

// TestRemoveAgain: what a removal has left is seen, as such, and goes with the next round, in the daemon that runs.
func TestRemoveAgain(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.create(w.imaged("c"))
		w.run(w.podOptions("p"))
		w.within("p", "in")
		again := func(want int, fails bool) {
			t.Helper()
			if gone, err := w.RemoveAgain(t.Context()); gone != want || (err != nil) != fails {
				t.Errorf("%d are gone, error %v; want %d, and an error: %t", gone, err, want, fails)
			}
		}
		again(0, false)
		w.sandboxes.setFail("delete", errBroken)
		_, err := w.Delete(t.Context(), ns, "c", DeleteOptions{})
		w.is(err, errBroken)
		w.is(w.RemovePod(t.Context(), ns, "p"), errBroken)
		c, err := w.Get(t.Context(), ns, "c")
		w.ok(err)
		p, err := w.Pod(t.Context(), ns, "p")
		w.ok(err)
		if c.State != Removing || c.Left == "" || p.State != PodRemoving || p.Left == "" {
			t.Errorf("container %s %q, pod %s %q: want both removing, with a reason", c.State, c.Left, p.State, p.Left)
		}
		again(0, true)
		w.sandboxes.setFail("delete", nil)
		again(2, false)
		w.gone("p")
		w.clean()
	})
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/oci/spec"
)

// TestManyAtOnce does everything to few containers from many goroutines. The bubble fails it for a deadlock, and for
// goroutines that are left over.
func TestManyAtOnce(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		image := w.imaged("")
		var wg sync.WaitGroup
		for g := range 50 {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(1, uint64(g)))
				for range 6 {
					w.anything(random, fmt.Sprint("c", random.IntN(10)), image)
				}
			})
		}
		wg.Wait()
		w.settled()
		w.wholeAll()
		for i := range 10 {
			_, err := w.Delete(t.Context(), ns, fmt.Sprint("c", i), DeleteOptions{Force: true})
			if err != nil && !errdefs.IsNotFound(err) {
				t.Error(err)
			}
		}
		w.settled()
		w.clean()
		w.events.inOrder(t)
	})
}

// wholeAll compares the records in memory with those on disk and with what runs.
func (w *world) wholeAll() {
	w.t.Helper()
	list, err := w.List(context.Background(), "")
	w.ok(err)
	saved, err := w.Containers.List("")
	w.ok(err)
	if len(list) != len(saved) {
		w.t.Errorf("%d containers are known and %d are saved", len(list), len(saved))
	}
	for _, c := range list {
		p, err := w.Process(context.Background(), ns, c.ID, "")
		runs := err == nil && p.Exit == nil
		if s := w.state(c.ID); s != c.State || runs != (s == Running || s == Paused) {
			w.t.Errorf("container %s is %s, saved as %s, and runs: %t", c.ID, c.State, s, runs)
		}
	}
}

// anything does one life of a container, with what others do to it in between.
func (w *world) anything(random *rand.Rand, id string, image CreateOptions) {
	ctx := context.Background()
	o := w.options(id)
	if random.IntN(4) == 0 {
		o.Image, o.Request = image.Image, image.Request
	}
	o.AutoRemove = random.IntN(2) == 0
	steps := []func() error{
		func() error { _, err := w.Create(ctx, ns, o); return err },
		func() error { _, err := w.Start(ctx, ns, id, StartOptions{}); return err },
		func() error {
			p, err := w.Exec(ctx, ns, id, ExecOptions{Process: spec.Exec{Args: []string{"x"}}, AutoRemove: random.IntN(2) == 0})
			if err == nil && random.IntN(2) == 0 {
				_ = w.Signal(ctx, ns, id, p.ExecID, 15, false)
				_, err = p.Wait(ctx)
			}
			return err
		},
		func() error { return w.Pause(ctx, ns, id) },
		func() error { return w.Update(ctx, ns, id, &specs.LinuxResources{}) },
		func() error { _, err := w.Spec(ctx, ns, id); return err },
		func() error { _, err := w.Processes(ctx, ns, id); return err },
		func() error { _, err := w.SetLabels(ctx, ns, id, map[string]string{"a": "b"}, false); return err },
		func() error { return w.Resume(ctx, ns, id) },
		func() error { return w.Signal(ctx, ns, id, "", 9, true) },
		func() error { _, err := w.Delete(ctx, ns, id, DeleteOptions{Force: random.IntN(2) == 0}); return err },
	}
	for _, step := range steps {
		if err := step(); err != nil && !expected(err) {
			w.t.Errorf("%s: %v", id, err)
		}
	}
	w.Counts()
}

// expected are the answers to who comes too late.
func expected(err error) bool {
	for _, class := range []error{errdefs.ErrNotFound, errdefs.ErrAlreadyExists, errdefs.ErrFailedPrecondition} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

// inOrder holds every container's events against its life, and those of what was executed in it.
func (r *record) inOrder(t *testing.T) {
	t.Helper()
	after := map[string]string{"create": " delete", "start": "create exit", "exec": "start pause resume exit", "exit": "start exec", "delete": "create exit"}
	last := map[string]string{}
	for i, line := range r.list {
		var action, id, state string
		if n, _ := fmt.Sscan(line, &action, &id, &state); n != 3 {
			t.Fatalf("event %q", line)
		}
		container, exec, _ := strings.Cut(id, "/")
		before := last[id]
		if exec != "" && (action == "exec" || last[container] == "delete") {
			before = last[container]
		}
		allowed, ordered := after[action]
		if !ordered {
			continue
		}
		if !slices.Contains(strings.Split(allowed, " "), before) {
			t.Errorf("event %d, %q, comes after %q", i, line, before)
		}
		last[id] = action
	}
}

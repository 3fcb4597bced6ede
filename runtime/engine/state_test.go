package engine

import (
	"context"
	"slices"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/oci/spec"
)

// operation is one that has to do with a container's state.
type operation struct {
	name string
	in   []State // where it is allowed
	do   func(w *world, ctx context.Context) error
}

var every = []State{Creating, Created, Running, Paused, Exited, Removing}

func operations() []operation {
	memory := int64(64 << 20)
	return []operation{
		{"start", []State{Created, Exited}, func(w *world, ctx context.Context) error {
			_, err := w.Start(ctx, ns, "c", StartOptions{})
			return err
		}},
		{"exec", []State{Running}, func(w *world, ctx context.Context) error {
			_, err := w.Exec(ctx, ns, "c", ExecOptions{Process: spec.Exec{Args: []string{"true"}}})
			return err
		}},
		{"pause", []State{Running}, func(w *world, ctx context.Context) error { return w.Pause(ctx, ns, "c") }},
		{"resume", []State{Paused}, func(w *world, ctx context.Context) error { return w.Resume(ctx, ns, "c") }},
		{"update", []State{Created, Running, Paused, Exited}, func(w *world, ctx context.Context) error {
			return w.Update(ctx, ns, "c", &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &memory}})
		}},
		{"checkpoint", []State{Running, Paused}, func(w *world, ctx context.Context) error {
			return w.Checkpoint(ctx, ns, "c", CheckpointOptions{Path: "/nowhere"})
		}},
		{"signal", []State{Running, Paused}, func(w *world, ctx context.Context) error { return w.Signal(ctx, ns, "c", "", 15, false) }},
		{"attach", []State{Running, Paused}, func(w *world, ctx context.Context) error { return w.Attach(ctx, ns, "c", "", Streams{}) }},
		{"close stdin", []State{Running, Paused}, func(w *world, ctx context.Context) error { return w.CloseStdin(ctx, ns, "c", "") }},
		{"reopen log", []State{Running, Paused}, func(w *world, ctx context.Context) error { return w.ReopenLog(ctx, ns, "c") }},
		{"top", []State{Running, Paused}, func(w *world, ctx context.Context) error {
			_, err := w.Top(ctx, ns, "c")
			return err
		}},
		{"label", every, func(w *world, ctx context.Context) error {
			_, err := w.SetLabels(ctx, ns, "c", map[string]string{"a": "b"}, false)
			return err
		}},
		{"delete", []State{Creating, Created, Exited, Removing}, func(w *world, ctx context.Context) error {
			_, err := w.Delete(ctx, ns, "c", DeleteOptions{})
			return err
		}},
		{"delete by force", every, func(w *world, ctx context.Context) error {
			_, err := w.Delete(ctx, ns, "c", DeleteOptions{Force: true})
			return err
		}},
	}
}

// bring brings a new container to a state, by operations where one leads there.
func (w *world) bring(s State) {
	w.t.Helper()
	w.create(w.options("c"))
	switch s {
	case Created:
	case Running:
		w.start("c")
	case Paused:
		w.start("c")
		w.ok(w.Pause(w.t.Context(), ns, "c"))
	case Exited:
		w.start("c")
		w.sandboxes.exit(w.t, "c", "", 0)
		w.settled()
	case Creating, Removing: // where only a crash or a failure leaves it for others to see
		l, err := w.find(ns, "c")
		w.ok(err)
		w.ok(w.save(l, func(c *Container) { c.State = s }))
	}
	if got := w.state("c"); got != s {
		w.t.Fatalf("it is %s; want %s", got, s)
	}
}

func TestStates(t *testing.T) {
	for _, s := range every {
		for _, o := range operations() {
			t.Run(string(s)+"/"+o.name, func(t *testing.T) {
				in(t, func(t *testing.T, w *world) {
					w.bring(s)
					err := o.do(w, t.Context())
					if allowed := slices.Contains(o.in, s); allowed && err != nil || !allowed && !errdefs.IsFailedPrecondition(err) {
						t.Errorf("allowed: %t; error %v", allowed, err)
					}
				})
			})
		}
	}
}

func TestEventsInOrder(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.running("c")
		w.ok(w.Pause(t.Context(), ns, "c"))
		w.ok(w.Resume(t.Context(), ns, "c"))
		w.sandboxes.exit(t, "c", "", 4)
		w.settled()
		exit, err := w.Delete(t.Context(), ns, "c", DeleteOptions{})
		w.ok(err)
		if exit == nil || exit.Code != 4 {
			t.Errorf("exit %v; want code 4", exit)
		}
		w.events.want(t, "create c (created)", "start c (running)", "pause c (paused)", "resume c (running)", "exit c (exited)", "delete c (-)")
		w.clean()
	})
}

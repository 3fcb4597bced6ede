package engine

import (
	"context"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

func TestDeleteByForce(t *testing.T) {
	for _, s := range []State{Running, Paused} {
		t.Run(string(s), func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				w.bring(s)
				_, err := w.Delete(t.Context(), ns, "c", DeleteOptions{})
				w.is(err, errdefs.ErrFailedPrecondition)
				exit, err := w.Delete(t.Context(), ns, "c", DeleteOptions{Force: true})
				if err != nil || exit == nil || exit.Code != 137 {
					t.Errorf("exit %v, %v", exit, err)
				}
				_, err = w.Get(t.Context(), ns, "c")
				w.is(err, errdefs.ErrNotFound)
				w.clean()
			})
		})
	}
}

// TestDeleteOfWhatDoesNotDie keeps the record until a later try.
func TestDeleteOfWhatDoesNotDie(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.create(w.imaged("c"))
		p := w.start("c")
		w.sandboxes.unkillable = true
		_, err := w.Delete(t.Context(), ns, "c", DeleteOptions{Force: true})
		w.is(err, errdefs.ErrUnavailable)
		if s := w.state("c"); s != Removing {
			t.Errorf("it is %s", s)
		}
		if _, err := w.snapshots.Info(t.Context(), snapshotKey("c")); err != nil {
			t.Errorf("the snapshot below a process that lives: %v", err)
		}
		w.sandboxes.unkillable = false
		if _, err := w.Delete(t.Context(), ns, "c", DeleteOptions{}); err != nil {
			t.Error(err)
		}
		if exit, err := p.Wait(t.Context()); err != nil || exit.Code != 137 {
			t.Errorf("exit %v, %v", exit, err)
		}
		w.events.want(t, "create c (created)", "start c (running)", "exit c (removing)", "delete c (-)")
		w.clean()
	})
}

// TestDeleteFailsAtAStep and goes on from there the next time.
func TestDeleteFailsAtAStep(t *testing.T) {
	for name, broken := range map[string]func(w *world, err error){
		"signal":           func(w *world, err error) { w.sandboxes.setFail("signal 9", err) },
		"supervisor":       func(w *world, err error) { w.sandboxes.setFail("delete", err) },
		"snapshot":         func(w *world, err error) { w.snapshots.remove = err },
		"thaw, no failure": func(w *world, err error) { w.sandboxes.setFail("resume", err) },
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				w.create(w.imaged("c"))
				w.start("c")
				broken(w, errBroken)
				_, err := w.Delete(t.Context(), ns, "c", DeleteOptions{Force: true})
				if name == "thaw, no failure" {
					w.ok(err)
					w.clean()
					return
				}
				w.is(err, errBroken)
				if s := w.state("c"); s != Removing {
					t.Errorf("it is %s", s)
				}
				broken(w, nil)
				_, err = w.Delete(t.Context(), ns, "c", DeleteOptions{})
				w.ok(err)
				w.clean()
			})
		})
	}
}

// TestDeleteWhenItHasJustEnded: the supervisor knows of the exit before the engine does.
func TestDeleteWhenItHasJustEnded(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.running("c")
		handle := w.sandboxes.handler
		w.sandboxes.handler = nil
		w.sandboxes.exit(t, "c", "", 5)
		done := make(chan *wire.Exit)
		go func() {
			exit, err := w.Delete(context.Background(), ns, "c", DeleteOptions{Force: true})
			if err != nil {
				t.Error(err)
			}
			done <- exit
		}()
		w.settled()
		handle(wire.Exited{Process: wire.Process{Namespace: ns, ID: "c"}, Exit: wire.Exit{Code: 5}})
		if exit := <-done; exit == nil || exit.Code != 5 {
			t.Errorf("exit %v", exit)
		}
		w.events.want(t, "create c (created)", "start c (running)", "exit c (removing)", "delete c (-)")
		w.clean()
	})
}

// TestDeleteBesideTheExit never brings the record back, nor tells of the exit after the removal.
func TestDeleteBesideTheExit(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		for range 50 {
			w.running("c")
			w.sandboxes.exit(t, "c", "", 5) // told at the same time
			if _, err := w.Delete(t.Context(), ns, "c", DeleteOptions{Force: true}); err != nil {
				t.Fatal(err)
			}
			w.settled()
			w.clean()
			w.events.mu.Lock()
			if last := w.events.list[len(w.events.list)-1]; last != "delete c (-)" {
				t.Fatalf("the last event is %s", last)
			}
			w.events.mu.Unlock()
		}
	})
}

func TestAutoRemove(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		o := w.imaged("c")
		o.AutoRemove = true
		w.create(o)
		p := w.start("c")
		const waiters = 20
		done := make(chan error, waiters)
		for i := range waiters {
			go func() {
				wait := p.Wait
				if i%2 == 0 {
					wait = func(ctx context.Context) (wire.Exit, error) { return w.Wait(ctx, ns, "c", "") }
				}
				exit, err := wait(context.Background())
				if s := w.state("c"); s != "-" || exit.Code != 6 {
					t.Errorf("told of code %d while it is %s", exit.Code, s)
				}
				done <- err
			}()
		}
		w.settled()
		w.sandboxes.exit(t, "c", "", 6)
		for range waiters {
			w.ok(<-done)
		}
		w.events.want(t, "create c (created)", "start c (running)", "exit c (removing)", "delete c (-)")
		w.clean()
	})
}

// TestAutoRemoveFails tells those who wait all the same; a delete makes good for it.
func TestAutoRemoveFails(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		o := w.imaged("c")
		o.AutoRemove = true
		w.create(o)
		p := w.start("c")
		w.snapshots.remove = errBroken
		w.sandboxes.exit(t, "c", "", 6)
		if exit, err := p.Wait(t.Context()); err != nil || exit.Code != 6 {
			t.Errorf("exit %v, %v", exit, err)
		}
		if s := w.state("c"); s != Removing {
			t.Errorf("it is %s", s)
		}
		w.snapshots.remove = nil
		exit, err := w.Delete(t.Context(), ns, "c", DeleteOptions{})
		if err != nil || exit == nil || exit.Code != 6 {
			t.Errorf("exit %v, %v", exit, err)
		}
		w.clean()
	})
}

// TestAHungSupervisorAtAFailedStart bounds what the start takes, too.
func TestAHungSupervisorAtAFailedStart(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		o := w.options("c")
		o.AutoRemove = true
		w.create(o)
		w.sandboxes.setFail("start", errdefs.ErrUnavailable)
		hang := make(chan struct{})
		w.sandboxes.hang["delete"] = hang
		begun := time.Now()
		_, err := w.Start(t.Context(), ns, "c", StartOptions{})
		w.is(err, errdefs.ErrUnavailable)
		if took := time.Since(begun); took != removeTimeout {
			t.Errorf("it took %s", took)
		}
		close(hang)
		_, err = w.Delete(t.Context(), ns, "c", DeleteOptions{})
		w.ok(err)
		w.clean()
	})
}

// TestAHungSupervisor bounds what a delete takes, and what it does for a caller who has left.
func TestAHungSupervisor(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.running("c")
		w.sandboxes.hang["signal 9"] = make(chan struct{})
		ctx, leave := context.WithCancel(t.Context())
		leave()
		_, err := w.Delete(ctx, ns, "c", DeleteOptions{Force: true})
		w.is(err, context.DeadlineExceeded)
		if s := w.state("c"); s != Removing {
			t.Errorf("it is %s", s)
		}
		close(w.sandboxes.hang["signal 9"])
		_, err = w.Delete(ctx, ns, "c", DeleteOptions{Force: true})
		w.ok(err)
		w.clean()
	})
}

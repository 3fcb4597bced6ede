package engine

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

func TestStartFails(t *testing.T) {
	for _, row := range []struct {
		class error
		code  int
	}{
		{errdefs.ErrNotFound, 127},
		{errdefs.ErrPermissionDenied, 126},
		{errdefs.ErrInvalidArgument, 126},
		{errdefs.ErrInternal, 125},
		{errdefs.ErrUnavailable, 125},
	} {
		t.Run(fmt.Sprint(row.code, " ", row.class), func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				w.create(w.options("c"))
				w.sandboxes.setFail("start", fmt.Errorf("exec /bin/x: %w", row.class))
				_, err := w.Start(t.Context(), ns, "c", StartOptions{})
				w.is(err, row.class)
				c, err := w.Get(t.Context(), ns, "c")
				if err != nil || c.State != Exited || c.Exit == nil || c.Exit.Code != row.code || c.Exit.Reason == "" {
					t.Errorf("record %s %+v, %v", c.State, c.Exit, err)
				}
				if exit, err := w.Wait(t.Context(), ns, "c", ""); err != nil || exit.Code != row.code {
					t.Errorf("wait: %v, %v", exit, err)
				}
				// What was wrong is mended, and it is started again.
				w.sandboxes.setFail("start", nil)
				w.start("c")
				w.events.want(t, "create c (created)", "start c (running)")
				_, err = w.Delete(t.Context(), ns, "c", DeleteOptions{Force: true})
				w.ok(err)
				w.clean()
			})
		})
	}
}

func TestStartFailsAndItRemovesItself(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		o := w.imaged("c")
		o.AutoRemove = true
		w.create(o)
		w.sandboxes.setFail("start", errdefs.ErrNotFound)
		_, err := w.Start(t.Context(), ns, "c", StartOptions{})
		w.is(err, errdefs.ErrNotFound)
		w.events.want(t, "create c (created)", "delete c (-)")
		w.clean()
	})
}

// TestStartFailsWhileOthersWait tells them; they have found the process in the table already.
func TestStartFailsWhileOthersWait(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.create(w.options("c"))
		w.sandboxes.hang["start"] = make(chan struct{})
		w.sandboxes.setFail("start", errdefs.ErrNotFound)
		go func() {
			_, err := w.Start(context.Background(), ns, "c", StartOptions{})
			w.is(err, errdefs.ErrNotFound)
		}()
		w.settled()
		exits := make(chan int)
		go func() {
			exit, err := w.Wait(context.Background(), ns, "c", "")
			if err != nil {
				t.Error(err)
			}
			exits <- exit.Code
		}()
		w.settled()
		close(w.sandboxes.hang["start"])
		if code := <-exits; code != 127 {
			t.Errorf("code %d; want 127", code)
		}
	})
}

// TestExitBeforeTheAnswer: the process has ended before its start is recorded.
func TestExitBeforeTheAnswer(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.create(w.options("c"))
		w.sandboxes.quick = true
		p := w.start("c")
		exit, err := p.Wait(t.Context())
		if err != nil || exit.Code != 3 || exit.PID != p.PID {
			t.Errorf("exit %+v, %v", exit, err)
		}
		if c, err := w.Get(t.Context(), ns, "c"); err != nil || c.State != Exited || c.PID != 0 || c.StartedAt.IsZero() {
			t.Errorf("record %+v, %v", c, err)
		}
		w.events.want(t, "create c (created)", "start c (running)", "exit c (exited)")
	})
}

func TestStartAgain(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		c := w.create(w.imaged("c"))
		first := w.start("c")
		w.sandboxes.exit(t, "c", "", 1)
		w.settled()
		second := w.start("c")
		if second.PID == first.PID {
			t.Error("it is the same process")
		}
		if exit, err := first.Wait(t.Context()); err != nil || exit.Code != 1 {
			t.Errorf("the first run ended %v, %v", exit, err)
		}
		if _, err := os.Stat(w.Bundle(c) + "/exit.json"); !os.IsNotExist(err) {
			t.Errorf("the exit file of the first run: %v", err)
		}
		if c, err := w.Get(t.Context(), ns, "c"); err != nil || c.Exit != nil || c.PID != second.PID {
			t.Errorf("record %+v, %v", c, err)
		}
		w.sandboxes.exit(t, "c", "", 2)
		if exit, err := w.Wait(t.Context(), ns, "c", ""); err != nil || exit.Code != 2 {
			t.Errorf("the second run ended %v, %v", exit, err)
		}
	})
}

// TestStartAfterAReboot makes again what the state directory has lost.
func TestStartAfterAReboot(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		c := w.create(w.imaged("c"))
		unmountBelow(t, w.dir)
		w.ok(os.RemoveAll(w.State))
		w.again()
		w.recover()
		w.start("c")
		if data, err := os.ReadFile(w.Bundle(c) + "/rootfs/file"); err != nil || string(data) != "1" {
			t.Errorf("its root filesystem: %q, %v", data, err)
		}
	})
}

// TestStartThatCannotBeRecorded kills what it started: nobody would know of it.
func TestStartThatCannotBeRecorded(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.create(w.options("c"))
		hang := make(chan struct{})
		w.sandboxes.hang["start"] = hang
		done := make(chan error)
		go func() {
			_, err := w.Start(context.Background(), ns, "c", StartOptions{})
			done <- err
		}()
		w.settled()
		w.ok(w.store.Close())
		close(hang)
		w.is(<-done, errdefs.ErrUnavailable)
		w.settled()
		if has := w.sandboxes.has(); len(has) != 1 || has[0] != "c/ exited" {
			t.Errorf("processes %v", has)
		}
		w.again()
		w.recover()
		if s := w.state("c"); s != Exited {
			t.Errorf("it is %s", s)
		}
	})
}

// TestStartWhoseAnswerIsLost leaves a process that nobody knows of; a delete and a start find it.
func TestStartWhoseAnswerIsLost(t *testing.T) {
	for name, then := range map[string]func(w *world) error{
		"delete": func(w *world) error {
			_, err := w.Delete(w.t.Context(), ns, "c", DeleteOptions{})
			return err
		},
		"start": func(w *world) error {
			_, err := w.Start(w.t.Context(), ns, "c", StartOptions{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				c := w.create(w.options("c"))
				w.sandboxes.setFail("start", errdefs.ErrUnavailable)
				_, err := w.Start(t.Context(), ns, "c", StartOptions{})
				w.is(err, errdefs.ErrUnavailable)
				w.sandboxes.setFail("start", nil)
				w.sandboxes.mu.Lock()
				_, err = w.sandboxes.launch(wire.Process{Namespace: ns, ID: "c"}, w.Bundle(c), wire.Stdio{})
				w.sandboxes.mu.Unlock()
				w.ok(err)
				w.ok(then(w))
				if n := w.sandboxes.called("signal 9"); n != 1 {
					t.Errorf("killed %d times", n)
				}
			})
		})
	}
}

// TestStartBesideAnEarlierOne starts a container that a daemon which was killed had asked for too, and which has come up
// since: that one gives way, and its exit is not taken for the new one's.
func TestStartBesideAnEarlierOne(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		c := w.create(w.options("c"))
		w.sandboxes.mu.Lock()
		early, err := w.sandboxes.launch(wire.Process{Namespace: ns, ID: "c"}, w.Bundle(c), wire.Stdio{})
		w.sandboxes.mu.Unlock()
		w.ok(err)
		p, err := w.Start(t.Context(), ns, "c", StartOptions{})
		w.ok(err)
		w.sandboxes.tell.Wait()
		c, err = w.Get(t.Context(), ns, "c")
		w.ok(err)
		if c.State != Running || c.PID != p.PID || p.PID == early.PID || w.sandboxes.called("signal 9") != 1 {
			t.Errorf("it is %s as process %d; the earlier one was %d", c.State, c.PID, early.PID)
		}
	})
}

// TestStreamsAreHandedOver closes them, whatever happens.
func TestStreamsAreHandedOver(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		closed := func(what string, use func(Streams) error, class error) {
			t.Helper()
			f, err := os.Open(os.DevNull)
			w.ok(err)
			if err := use(Streams{Stdout: f}); class != nil {
				w.is(err, class)
			} else {
				w.ok(err)
			}
			if f.Close() == nil {
				t.Errorf("%s: the stream is open", what)
			}
		}
		start := func(s Streams) error {
			_, err := w.Start(t.Context(), ns, "c", StartOptions{Streams: &s})
			return err
		}
		exec := func(s Streams) error {
			_, err := w.Exec(t.Context(), ns, "c", ExecOptions{Process: spec.Exec{Args: []string{"x"}}, Streams: &s})
			return err
		}
		attach := func(s Streams) error { return w.Attach(t.Context(), ns, "c", "", s) }
		closed("start of nothing", start, errdefs.ErrNotFound)
		closed("exec in nothing", exec, errdefs.ErrNotFound)
		closed("attach to nothing", attach, errdefs.ErrNotFound)
		w.create(w.options("c"))
		closed("exec in a created one", exec, errdefs.ErrFailedPrecondition)
		closed("attach to a created one", attach, errdefs.ErrFailedPrecondition)
		closed("start", start, nil)
		closed("exec", exec, nil)
		closed("attach", attach, nil)
		closed("a second start", start, errdefs.ErrFailedPrecondition)
	})
}

// TestABusyContainerSaysWithWhat to a caller who does not wait for ever.
func TestABusyContainerSaysWithWhat(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.create(w.options("c"))
		hang := make(chan struct{})
		w.sandboxes.hang["start"] = hang
		go func() { _, _ = w.Start(context.Background(), ns, "c", StartOptions{}) }()
		w.settled()
		ctx, cancel := context.WithTimeout(t.Context(), 1)
		defer cancel()
		_, err := w.Delete(ctx, ns, "c", DeleteOptions{Force: true})
		w.is(err, errdefs.ErrUnavailable)
		if want := "container c is busy (at: starting its first process)"; err.Error()[:len(want)] != want {
			t.Errorf("error %v", err)
		}
		close(hang)
		w.settled()
	})
}

package engine

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/oci/spec"
)

func TestStopSignal(t *testing.T) {
	for _, row := range []struct{ asked, own, image, want string }{
		{"", "", "", "SIGTERM"},
		{"", "", "SIGQUIT", "SIGQUIT"},
		{"", "INT", "SIGQUIT", "INT"},
		{"HUP", "INT", "SIGQUIT", "HUP"},
	} {
		c := Container{Request: &spec.Request{StopSignal: row.own}, ImageConfig: ocispec.ImageConfig{StopSignal: row.image}}
		if got := stopSignal(c, row.asked); got != row.want {
			t.Errorf("%v: %s", row, got)
		}
	}
	if got := stopSignal(Container{}, ""); got != "SIGTERM" {
		t.Errorf("of a whole spec: %s", got)
	}
}

// stopped stops the container and says how long it took, in the bubble's time.
func (w *world) stopped(o StopOptions) time.Duration {
	w.t.Helper()
	begin := time.Now()
	w.ok(w.Stop(context.Background(), ns, "c", o))
	return time.Since(begin)
}

func (w *world) exitCode() int {
	w.t.Helper()
	exit, err := w.Wait(context.Background(), ns, "c", "")
	w.ok(err)
	return exit.Code
}

func TestStop(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.is(w.Stop(t.Context(), ns, "none", StopOptions{}), errdefs.ErrNotFound)
		w.create(w.options("c"))
		if took := w.stopped(StopOptions{Timeout: time.Minute}); took != 0 || w.state("c") != Created {
			t.Errorf("one that never ran: %s, %s", took, w.state("c"))
		}
		w.start("c")
		if took := w.stopped(StopOptions{Timeout: time.Minute}); took != 0 || w.exitCode() != 128+15 || w.state("c") != Exited {
			t.Errorf("with TERM: %s, code %d, %s", took, w.exitCode(), w.state("c"))
		}
		if took := w.stopped(StopOptions{}); took != 0 || w.sandboxes.called("signal") != 1 {
			t.Errorf("again: %s, %v", took, w.sandboxes.calls)
		}
		w.start("c")
		w.stopped(StopOptions{Signal: "SIGINT", Timeout: time.Minute})
		if w.exitCode() != 128+2 {
			t.Errorf("with INT: code %d", w.exitCode())
		}
		w.start("c")
		w.stopped(StopOptions{})
		if w.exitCode() != 128+9 || w.sandboxes.called("signal 15") != 1 {
			t.Errorf("at once: code %d, %v", w.exitCode(), w.sandboxes.calls)
		}
		w.start("c")
		w.is(w.Stop(t.Context(), ns, "c", StopOptions{Signal: "SIGNONE", Timeout: time.Second}), errdefs.ErrInvalidArgument)
		w.ok(w.Pause(t.Context(), ns, "c"))
		w.stopped(StopOptions{})
		if w.state("c") != Exited {
			t.Errorf("paused, and stopped: %s", w.state("c"))
		}
	})
}

// deaf makes the container one that only SIGKILL ends.
func (w *world) deaf() {
	w.running("c")
	w.sandboxes.mu.Lock()
	w.sandboxes.deaf = true
	w.sandboxes.mu.Unlock()
}

func TestStopTimeout(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.deaf()
		if took := w.stopped(StopOptions{Timeout: 30 * time.Second}); took != 30*time.Second || w.exitCode() != 137 {
			t.Errorf("it took %s, code %d", took, w.exitCode())
		}
	})
}

// TestStopAgain shortens the patience of the first call.
func TestStopAgain(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.deaf()
		first := make(chan time.Duration)
		go func() { first <- w.stopped(StopOptions{Timeout: time.Hour}) }()
		time.Sleep(time.Second)
		if took := w.stopped(StopOptions{Timeout: 2 * time.Second}); took != 2*time.Second {
			t.Errorf("the second took %s", took)
		}
		if took := <-first; took != 3*time.Second {
			t.Errorf("the first took %s", took)
		}
	})
}

func TestStopOfWhatEndsByItself(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.deaf()
		go func() {
			time.Sleep(time.Second)
			w.sandboxes.exit(t, "c", "", 5)
		}()
		if took := w.stopped(StopOptions{Timeout: time.Minute}); took != time.Second || w.exitCode() != 5 || w.sandboxes.called("signal 9") != 0 {
			t.Errorf("it took %s, code %d, %v", took, w.exitCode(), w.sandboxes.calls)
		}
		// The supervisor knows of the end before the engine does.
		w.start("c")
		w.sandboxes.deaf, w.sandboxes.silent = false, true
		w.sandboxes.exit(t, "c", "", 6)
		go func() {
			time.Sleep(time.Second)
			w.sandboxes.tellAll()
		}()
		if took := w.stopped(StopOptions{Timeout: time.Minute}); took != time.Second || w.exitCode() != 6 {
			t.Errorf("it took %s, code %d", took, w.exitCode())
		}
	})
}

// TestStopWhileStarting waits for the start, and then stops.
func TestStopWhileStarting(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.create(w.options("c"))
		w.sandboxes.hang["start"] = make(chan struct{})
		started := make(chan error)
		go func() {
			_, err := w.Start(context.Background(), ns, "c", StartOptions{})
			started <- err
		}()
		w.settled()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		w.is(w.Stop(ctx, ns, "c", StopOptions{}), context.DeadlineExceeded)
		done := make(chan error)
		go func() { done <- w.Stop(context.Background(), ns, "c", StopOptions{}) }()
		w.settled()
		close(w.sandboxes.hang["start"])
		w.ok(<-started)
		w.ok(<-done)
		if w.state("c") != Exited {
			t.Errorf("it is %s", w.state("c"))
		}
	})
}

// TestStopIsBounded, whatever hangs.
func TestStopIsBounded(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.running("c")
		failed := func(ctx context.Context, o StopOptions) (time.Duration, error) {
			begin := time.Now()
			err := w.Stop(ctx, ns, "c", o)
			if err == nil {
				t.Error("stopped")
			}
			return time.Since(begin), err
		}
		w.sandboxes.unkillable = true
		took, err := failed(t.Context(), StopOptions{Timeout: time.Second})
		if took != time.Second+killTimeout || strings.Count(err.Error(), "SIGKILL") != 1 || !strings.Contains(err.Error(), "try again later") {
			t.Errorf("it took %s: %v", took, err)
		}
		w.is(err, errdefs.ErrUnavailable)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		took, err = failed(ctx, StopOptions{Timeout: time.Minute})
		if w.is(err, context.DeadlineExceeded); took != time.Second || w.sandboxes.called("signal 9") != 1 {
			t.Errorf("of a caller that goes it took %s: %v", took, w.sandboxes.calls)
		}
		for _, method := range []string{"signal 15", "signal 9"} { // the supervisor does not answer
			w.sandboxes.hang[method] = make(chan struct{})
		}
		took, err = failed(t.Context(), StopOptions{Timeout: time.Second})
		if w.is(err, context.DeadlineExceeded); took != time.Second+killTimeout {
			t.Errorf("it took %s", took)
		}
		w.sandboxes.setFail("signal 9", errBroken)
		delete(w.sandboxes.hang, "signal 9")
		_, err = failed(t.Context(), StopOptions{})
		w.is(err, errBroken)
		w.sandboxes.setFail("signal 9", nil)
		w.sandboxes.unkillable = false
		w.ok(w.Stop(t.Context(), ns, "c", StopOptions{Timeout: time.Second})) // TERM still hangs
	})
}

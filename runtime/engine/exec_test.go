package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

func (w *world) exec(o ExecOptions) Process {
	w.t.Helper()
	o.Process.Args = []string{"sleep", "1"}
	p, err := w.Exec(w.t.Context(), ns, "c", o)
	w.ok(err)
	return p
}

func TestExecsLife(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.running("c")
		p := w.exec(ExecOptions{ExecID: "x"})
		_, err := w.Exec(t.Context(), ns, "c", ExecOptions{ExecID: "x", Process: spec.Exec{Args: []string{"true"}}})
		w.is(err, errdefs.ErrAlreadyExists)
		_, err = w.DeleteProcess(t.Context(), ns, "c", "x")
		w.is(err, errdefs.ErrFailedPrecondition)
		list, err := w.Processes(t.Context(), ns, "c")
		if err != nil || len(list) != 2 || list[0].ExecID != "" || list[1].ExecID != "x" || list[1].State != Running {
			t.Errorf("processes %v, %v", list, err)
		}
		w.sandboxes.exit(t, "c", "x", 143)
		exit, err := p.Wait(t.Context())
		if err != nil || exit.Code != 143 || exit.PID != p.PID {
			t.Errorf("exit %+v, %v", exit, err)
		}
		if exit, err := w.DeleteProcess(t.Context(), ns, "c", "x"); err != nil || exit.Code != 143 {
			t.Errorf("deleted: %v, %v", exit, err)
		}
		_, err = w.Process(t.Context(), ns, "c", "x")
		w.is(err, errdefs.ErrNotFound)
		if first, err := w.Process(t.Context(), ns, "c", ""); err != nil || first.State != Running || w.state("c") != Running {
			t.Errorf("the first process is %v, %v", first, err)
		}
		if left, err := filepath.Glob(filepath.Join(w.State, "containers/*/*/exec/*")); err != nil || len(left) > 0 {
			t.Errorf("files %v, %v", left, err)
		}
		w.events.want(t, "create c (created)", "start c (running)", "exec c/x (running)", "exit c/x (running)")
		_, err = w.DeleteProcess(t.Context(), ns, "c", "")
		w.is(err, errdefs.ErrInvalidArgument)
	})
}

func TestExecFails(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		c := w.create(w.options("c"))
		w.start("c")
		for _, o := range []ExecOptions{
			{ExecID: "../x", Process: spec.Exec{Args: []string{"true"}}},
			{Process: spec.Exec{}},
			{Process: spec.Exec{Args: []string{"true"}, User: "nobody-of-this-name"}},
		} {
			if _, err := w.Exec(t.Context(), ns, "c", o); !errdefs.IsInvalidArgument(err) && !errdefs.IsNotFound(err) {
				t.Errorf("%+v: %v", o, err)
			}
		}
		w.sandboxes.setFail("exec", errdefs.ErrPermissionDenied)
		_, err := w.Exec(t.Context(), ns, "c", ExecOptions{ExecID: "x", Process: spec.Exec{Args: []string{"true"}}})
		w.is(err, errdefs.ErrPermissionDenied)
		if list, err := w.Processes(t.Context(), ns, "c"); err != nil || len(list) != 1 {
			t.Errorf("processes %v, %v", list, err)
		}
		if left, err := filepath.Glob(filepath.Join(w.Bundle(c), "exec/*")); err != nil || len(left) > 0 {
			t.Errorf("files %v, %v", left, err)
		}
		w.sandboxes.setFail("exec", nil)
		w.exec(ExecOptions{ExecID: "x"})
	})
}

// TestExecThatIsForgotten can be waited for by who has started it, and then is nowhere.
func TestExecThatIsForgotten(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.running("c")
		w.sandboxes.quick = true
		p := w.exec(ExecOptions{ExecID: "x", AutoRemove: true})
		exit, err := p.Wait(t.Context())
		if err != nil || exit.Code != 3 {
			t.Errorf("exit %v, %v", exit, err)
		}
		_, err = w.Process(t.Context(), ns, "c", "x")
		w.is(err, errdefs.ErrNotFound)
		if has := w.sandboxes.has(); len(has) != 1 {
			t.Errorf("the supervisor has %v", has)
		}
	})
}

// TestExecEndsWithItsContainer: whoever waits for it is told, though the news comes late or never.
func TestExecEndsWithItsContainer(t *testing.T) {
	for name, silent := range map[string]bool{"late": false, "never": true} {
		for what, end := range map[string]func(w *world){
			"delete": func(w *world) {
				_, err := w.Delete(w.t.Context(), ns, "c", DeleteOptions{Force: true})
				w.ok(err)
			},
			"start again": func(w *world) {
				w.sandboxes.exit(w.t, "c", "", 0)
				w.settled()
				w.start("c")
			},
		} {
			t.Run(what+"/"+name, func(t *testing.T) {
				in(t, func(t *testing.T, w *world) {
					w.running("c")
					p := w.exec(ExecOptions{ExecID: "x"})
					if silent {
						handle := w.sandboxes.handler
						w.sandboxes.handler = func(x wire.Exited) {
							if x.Exec == "" {
								handle(x)
							}
						}
					}
					exits := make(chan wire.Exit, 1)
					go func() {
						exit, err := p.Wait(context.Background())
						if err != nil {
							t.Error(err)
						}
						exits <- exit
					}()
					end(w)
					w.settled()
					select {
					case exit := <-exits:
						if exit.Code != 137 || exit.Signal != 9 || exit.PID != p.PID {
							t.Errorf("exit %+v", exit)
						}
					default:
						t.Fatal("it is waited for in vain")
					}
				})
			})
		}
	}
}

// TestExecBesideARemoval either is in time and goes with the container, or is refused; it leaves nothing.
func TestExecBesideARemoval(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.running("c")
		hang := make(chan struct{})
		w.sandboxes.hang["exec"] = hang
		started := make(chan error)
		go func() {
			_, err := w.Exec(context.Background(), ns, "c", ExecOptions{ExecID: "x", Process: spec.Exec{Args: []string{"true"}}})
			started <- err
		}()
		w.settled()
		removed := make(chan error)
		go func() {
			_, err := w.Delete(context.Background(), ns, "c", DeleteOptions{Force: true})
			removed <- err
		}()
		time.Sleep(settleTimeout / 2) // it waits for the exec
		select {
		case err := <-removed:
			t.Errorf("it was removed below the exec: %v", err)
		default:
		}
		_, err := w.Exec(t.Context(), ns, "c", ExecOptions{Process: spec.Exec{Args: []string{"true"}}})
		w.is(err, errdefs.ErrFailedPrecondition)
		close(hang)
		w.is(<-started, errdefs.ErrNotFound)
		w.ok(<-removed)
		w.clean()
	})
}

func TestWaitForTheOther(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.create(w.options("c"))
		_, err := w.Wait(t.Context(), ns, "c", "")
		w.is(err, errdefs.ErrFailedPrecondition)
		w.start("c")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = w.Wait(ctx, ns, "c", "")
		w.is(err, context.DeadlineExceeded)
		_, err = w.Wait(ctx, ns, "c", "x")
		w.is(err, errdefs.ErrNotFound)
		if _, err := os.Stat(w.dir); errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	})
}

package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/sandbox"
	"github.com/minirt/mini/runtime/store"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// leave puts a record of a container in the store as an earlier engine would have left it.
func (w *world) leave(id string, s State, change func(*Container)) {
	w.t.Helper()
	w.create(w.options(id))
	l, err := w.find(ns, id)
	w.ok(err)
	w.ok(w.save(l, func(c *Container) {
		c.State = s
		if s == Running || s == Paused {
			c.PID, c.StartTime, c.StartedAt = 41, 7, time.Unix(1, 0)
		}
		if s == Exited {
			c.Exit = &wire.Exit{Code: 1}
		}
		if change != nil {
			change(c)
		}
	}))
}

// settled is what a container has become after a recovery.
func (w *world) outcome(id string) string {
	w.t.Helper()
	s := w.state(id)
	if s == "-" {
		return "removed"
	}
	c, err := w.Get(w.t.Context(), ns, id)
	w.ok(err)
	text := string(c.State)
	if c.PID != 0 {
		text += fmt.Sprint(" pid ", c.PID)
	}
	if c.Exit != nil {
		text += fmt.Sprint(" code ", c.Exit.Code)
	}
	p, err := w.Process(w.t.Context(), ns, id, "")
	if err != nil {
		return text
	}
	return text + ", process " + string(p.State)
}

// TestRecover has what the supervisors say for columns, and what is recorded for rows.
func TestRecover(t *testing.T) {
	actions := []struct {
		name string
		r    sandbox.Recovered
	}{
		{"idle", sandbox.Recovered{Action: sandbox.ActionIdle}},
		{"keep", sandbox.Recovered{Action: sandbox.ActionKeep, State: "running", PID: 42, StartTime: 8}},
		{"keep paused", sandbox.Recovered{Action: sandbox.ActionKeep, State: "paused", PID: 42, StartTime: 8}},
		{"adopt", sandbox.Recovered{Action: sandbox.ActionAdopt, State: "running", PID: 42, StartTime: 8}},
		{"exited", sandbox.Recovered{Action: sandbox.ActionExited, Exit: &wire.Exit{PID: 42, Code: 5}}},
		{"exited, lost", sandbox.Recovered{Action: sandbox.ActionExited}},
		{"remove", sandbox.Recovered{Action: sandbox.ActionRemove}},
		{"hung", sandbox.Recovered{Action: sandbox.ActionKeep, State: "running", PID: 41, StartTime: 7, Err: errBroken}},
	}
	const kept, paused = "running pid 42, process running", "paused pid 42, process paused"
	const five, lost = "exited code 5, process exited", "exited code 255, process exited"
	want := map[State][]string{
		//        idle, keep, keep paused, adopt, exited, exited lost, remove, hung
		Creating: {"removed", "removed", "removed", "removed", "removed", "removed", "removed", "removed"},
		Created:  {"created", kept, paused, kept, five, lost, "removed", "created"},
		Running:  {"running pid 41", kept, paused, kept, five, lost, "removed", "running pid 41, process running"},
		Paused:   {"paused pid 41", kept, paused, kept, five, lost, "removed", "paused pid 41, process paused"},
		Exited: {"exited code 1", kept, paused, kept, "exited code 1, process exited", "exited code 1, process exited", "removed",
			"exited code 1"},
		Removing: {"removed", "removed", "removed", "removed", "removed", "removed", "removed", "removed"},
	}
	in(t, func(t *testing.T, w *world) {
		says := map[string]sandbox.Recovered{}
		for _, s := range every {
			for i, a := range actions {
				id := fmt.Sprintf("%s-%d", s, i)
				w.leave(id, s, nil)
				a.r.Process = wire.Process{Namespace: ns, ID: id}
				says[id] = a.r
			}
		}
		w.sandboxes.script = func(known []sandbox.Known) (all []sandbox.Recovered, err error) {
			for _, k := range known {
				all = append(all, says[k.ID])
			}
			return all, nil
		}
		w.again()
		w.recover()
		w.background.Wait()
		for _, s := range every {
			for i, a := range actions {
				if got := w.outcome(fmt.Sprintf("%s-%d", s, i)); got != want[s][i] {
					t.Errorf("%s, %s: %s; want %s", s, a.name, got, want[s][i])
				}
			}
		}
	})
}

// TestRecoverUndoesARun is about containers that were made for a start that did not come.
func TestRecoverUndoesARun(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.leave("follows", Created, func(c *Container) { c.StartFollows = true })
		w.leave("once", Created, func(c *Container) { c.AutoRemove = true })
		w.leave("kept", Created, nil)
		w.leave("ran", Exited, func(c *Container) { c.StartFollows = true })
		w.sandboxes.script = func(known []sandbox.Known) (all []sandbox.Recovered, err error) {
			for _, k := range known {
				all = append(all, sandbox.Recovered{Process: k.Process, Action: sandbox.ActionIdle})
			}
			return all, nil
		}
		w.again()
		w.recover()
		w.background.Wait()
		for id, want := range map[string]string{"follows": "removed", "once": "removed", "kept": "created", "ran": "exited code 1"} {
			if got := w.outcome(id); got != want {
				t.Errorf("%s: %s, want %s", id, got, want)
			}
		}
	})
}

func TestRecoverKeepsWhatRuns(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.create(w.imaged("c"))
		p := w.start("c")
		x := w.exec(ExecOptions{ExecID: "x"})
		before, err := w.Get(t.Context(), ns, "c")
		w.ok(err)
		w.again()
		w.recover()
		after, err := w.Get(t.Context(), ns, "c")
		if err != nil || after.PID != p.PID || !after.StartedAt.Equal(before.StartedAt) || after.State != Running {
			t.Errorf("record %+v, %v", after, err)
		}
		list, err := w.Processes(t.Context(), ns, "c")
		if err != nil || len(list) != 2 || list[0].PID != p.PID || list[0].Args[0] != "sleep" || list[1].PID != x.PID {
			t.Errorf("processes %v, %v", list, err)
		}
		w.sandboxes.exit(t, "c", "x", 2)
		if exit, err := list[1].Wait(t.Context()); err != nil || exit.Code != 2 {
			t.Errorf("exec: %v, %v", exit, err)
		}
		w.sandboxes.exit(t, "c", "", 3)
		if exit, err := w.Wait(t.Context(), ns, "c", ""); err != nil || exit.Code != 3 {
			t.Errorf("exit %v, %v", exit, err)
		}
		w.events.want(t, "exit c/x (running)", "exit c (exited)")
	})
}

func TestExitDuringDowntime(t *testing.T) {
	for name, auto := range map[string]bool{"kept": false, "removed": true} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				o := w.imaged("c")
				o.AutoRemove = auto
				w.create(o)
				w.start("c")
				w.sandboxes.mu.Lock()
				w.sandboxes.handler = nil
				w.sandboxes.mu.Unlock()
				w.sandboxes.exit(t, "c", "", 3)
				w.again()
				unlock, err := w.locks.Lock(t.Context(), key{ns, "c"}.String())
				w.ok(err)
				w.recover()
				told := make(chan State, 1)
				go func() {
					exit, err := w.Wait(context.Background(), ns, "c", "")
					if err != nil || exit.Code != 3 {
						t.Errorf("exit %v, %v", exit, err)
					}
					told <- w.state("c")
				}()
				w.settled()
				unlock()
				w.background.Wait()
				if s := <-told; auto != (s == "-") {
					t.Errorf("who waits is told when it is %s", s)
				}
				if auto {
					w.events.want(t, "exit c (removing)", "delete c (-)")
					w.clean()
					return
				}
				w.events.want(t, "exit c (exited)")
				w.start("c")
			})
		})
	}
}

// TestExitsDuringRecovery come before the supervisors have answered, and are neither lost nor told twice.
func TestExitsDuringRecovery(t *testing.T) {
	for name, seen := range map[string]bool{"before the answer": true, "after the answer": false} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				w.running("c")
				w.again()
				process := wire.Process{Namespace: ns, ID: "c"}
				w.sandboxes.script = func([]sandbox.Known) ([]sandbox.Recovered, error) {
					e := w.sandboxes.entries[process]
					r := of(e)
					w.sandboxes.end(e, 9, 0) // told from another goroutine
					if seen {
						r = of(e)
					}
					return []sandbox.Recovered{r}, nil
				}
				w.recover()
				w.settled()
				if exit, err := w.Wait(t.Context(), ns, "c", ""); err != nil || exit.Code != 9 || w.state("c") != Exited {
					t.Errorf("exit %v, %v; it is %s", exit, err, w.state("c"))
				}
				w.events.want(t, "exit c (exited)")
			})
		})
	}
}

// TestUnknownContainersAreRemoved, though they run, with their bundles. Execs of theirs are no concern.
func TestUnknownContainersAreRemoved(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		c := w.create(w.imaged("c"))
		w.start("c")
		w.exec(ExecOptions{ExecID: "x"})
		w.ok(w.Containers.Delete(ns, "c")) // the store is an older one, say
		w.again()
		w.sandboxes.slow = true
		w.recover()
		w.background.Wait()
		w.settled()
		if has := w.sandboxes.has(); len(has) > 0 {
			t.Errorf("left: %v", has)
		}
		if _, err := os.Stat(w.Bundle(c)); !os.IsNotExist(err) {
			t.Errorf("its bundle: %v", err)
		}
		w.events.want(t)
	})
}

// TestHalfRemovedContainersAreKilled: the crash came before they were.
func TestHalfRemovedContainersAreKilled(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.create(w.imaged("c"))
		w.start("c")
		l, err := w.find(ns, "c")
		w.ok(err)
		w.ok(w.save(l, func(c *Container) { c.State = Removing }))
		w.again()
		w.sandboxes.slow = true
		w.recover()
		w.background.Wait()
		w.clean()
	})
}

// TestRecoverDoesNotWait for a supervisor that hangs; what cannot be removed now can be later.
func TestRecoverDoesNotWait(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		for i := range 3 * removals {
			w.leave(fmt.Sprint("c", i), Removing, nil)
		}
		w.again()
		w.sandboxes.script = idle
		hang := make(chan struct{})
		w.sandboxes.hang["delete"] = hang
		begun := time.Now()
		w.recover()
		if took := time.Since(begun); took != 0 {
			t.Errorf("it took %s", took)
		}
		w.background.Wait()
		if took := time.Since(begun); took != 3*removeTimeout {
			t.Errorf("it tried for %s", took)
		}
		close(hang)
		for i := range 3 * removals {
			_, err := w.Delete(t.Context(), ns, fmt.Sprint("c", i), DeleteOptions{})
			w.ok(err)
		}
		w.clean()
	})
}

// TestCloseEndsTheRemovals that hang.
func TestCloseEndsTheRemovals(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		for i := range 3 * removals {
			w.leave(fmt.Sprint("c", i), Removing, nil)
		}
		w.sandboxes.hang["delete"] = make(chan struct{})
		w.again()
		w.recover()
		w.settled()
		begun := time.Now()
		w.ok(w.Close())
		if took := time.Since(begun); took != 0 {
			t.Errorf("it took %s", took)
		}
	})
}

// TestRecoverLeavesANewcomerAlone: the user was faster than the removal in the background, and has used the id again.
func TestRecoverLeavesANewcomerAlone(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.leave("c", Removing, nil)
		w.again()
		w.sandboxes.script = func(known []sandbox.Known) ([]sandbox.Recovered, error) {
			return []sandbox.Recovered{{Process: known[0].Process, Action: sandbox.ActionRemove}}, nil
		}
		unlock, err := w.locks.Lock(t.Context(), key{ns, "c"}.String())
		w.ok(err)
		w.recover()
		l, err := w.find(ns, "c")
		w.ok(err)
		w.ok(w.remove(t.Context(), l))
		w.ok(w.Containers.Create(ns, "c", Container{ID: "c", Namespace: ns, State: Created}))
		w.mu.Lock()
		w.containers[key{ns, "c"}] = &live{key: key{ns, "c"}, rec: Container{ID: "c", Namespace: ns, State: Created}}
		w.mu.Unlock()
		w.settled() // the removal waits for the lock
		unlock()
		w.background.Wait()
		if s := w.state("c"); s != Created {
			t.Errorf("it is %s", s)
		}
	})
}

// TestAHungSupervisorAnswersLater: its container is taken for running, and its exit comes through.
func TestAHungSupervisorAnswersLater(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		p := w.running("c")
		w.again()
		w.sandboxes.script = func(known []sandbox.Known) ([]sandbox.Recovered, error) {
			return []sandbox.Recovered{{Process: known[0].Process, Action: sandbox.ActionKeep, Err: errBroken}}, nil
		}
		w.recover()
		if now, err := w.Process(t.Context(), ns, "c", ""); err != nil || now.PID != p.PID || now.State != Running {
			t.Errorf("process %+v, %v", now, err)
		}
		w.sandboxes.exit(t, "c", "", 4)
		if exit, err := w.Wait(t.Context(), ns, "c", ""); err != nil || exit.Code != 4 {
			t.Errorf("exit %v, %v", exit, err)
		}
	})
}

// TestADamagedRecord keeps neither the engine nor the other containers, and what it names stays as it is.
func TestADamagedRecord(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.running("good")
		bad := w.create(w.options("bad"))
		w.start("bad")
		w.shut()
		s, err := store.Open(t.Context(), store.Options{Path: filepath.Join(w.dir, "root/meta.db"), Logger: w.Log})
		w.ok(err)
		w.ok(store.NewTable[string](s, "containers", 1, nil).Put(ns, "bad", "no container"))
		w.ok(s.Close())
		*w = *open(t, w.dir, w.sandboxes)
		w.recover()
		w.background.Wait()
		if has := w.sandboxes.has(); len(has) != 2 || has[0] != "bad/ running" || w.state("good") != Running {
			t.Errorf("processes %v; the good one is %s", has, w.state("good"))
		}
		_, err = w.Create(t.Context(), ns, w.options("bad"))
		w.is(err, errdefs.ErrAlreadyExists)
		problems, _, err := w.Check(t.Context(), true, true)
		w.ok(err)
		if len(problems) == 0 || problems[0].Kind != "store" {
			t.Errorf("problems %v", problems)
		}
		if _, err := os.Stat(w.Bundle(bad)); err != nil {
			t.Error(err)
		}
	})
}

func TestRecoverFails(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.running("c")
		w.again()
		w.sandboxes.script = func([]sandbox.Known) ([]sandbox.Recovered, error) { return nil, errBroken }
		w.is(w.Recover(t.Context()), errBroken)
		w.HandleExit(wire.Exited{Process: wire.Process{Namespace: ns, ID: "c"}}) // does not hang
	})
}

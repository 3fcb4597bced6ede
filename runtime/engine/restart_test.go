package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

func TestPlanRestart(t *testing.T) {
	const never = -1
	for name, row := range map[string]struct {
		ending
		want time.Duration
	}{
		"no policy":                           {ending{code: 1}, never},
		"no":                                  {ending{policy: RestartPolicy{Name: RestartNo}, code: 1}, never},
		"always, the first time":              {ending{policy: RestartPolicy{Name: RestartAlways}}, firstBackoff},
		"always, again":                       {ending{policy: RestartPolicy{Name: RestartAlways}, backoff: 100 * time.Millisecond}, 200 * time.Millisecond},
		"always, again and again":             {ending{policy: RestartPolicy{Name: RestartAlways}, backoff: 40 * time.Second}, lastBackoff},
		"always, after it ran well":           {ending{policy: RestartPolicy{Name: RestartAlways}, backoff: 40 * time.Second, ran: ranWell}, firstBackoff},
		"always, stopped":                     {ending{policy: RestartPolicy{Name: RestartAlways}, stopped: true}, never},
		"always, stopped, the daemon starts":  {ending{policy: RestartPolicy{Name: RestartAlways}, stopped: true, boot: true}, 0},
		"always, the daemon starts":           {ending{policy: RestartPolicy{Name: RestartAlways}, boot: true, backoff: time.Second}, 0},
		"unless-stopped":                      {ending{policy: RestartPolicy{Name: RestartUnlessStopped}}, firstBackoff},
		"unless-stopped, stopped":             {ending{policy: RestartPolicy{Name: RestartUnlessStopped}, stopped: true}, never},
		"unless-stopped, stopped, the daemon": {ending{policy: RestartPolicy{Name: RestartUnlessStopped}, stopped: true, boot: true}, never},
		"unless-stopped, the daemon starts":   {ending{policy: RestartPolicy{Name: RestartUnlessStopped}, boot: true}, 0},
		"on-failure, a success":               {ending{policy: RestartPolicy{Name: RestartOnFailure}}, never},
		"on-failure, a failure":               {ending{policy: RestartPolicy{Name: RestartOnFailure}, code: 1}, firstBackoff},
		"on-failure, the last try":            {ending{policy: RestartPolicy{Name: RestartOnFailure, MaxRetries: 3}, code: 1, count: 2}, firstBackoff},
		"on-failure, no more tries":           {ending{policy: RestartPolicy{Name: RestartOnFailure, MaxRetries: 3}, code: 1, count: 3}, never},
		"on-failure, stopped":                 {ending{policy: RestartPolicy{Name: RestartOnFailure}, code: 143, stopped: true, boot: true}, never},
	} {
		row.started = true
		after, again := planRestart(row.ending)
		if !again {
			after = never
		}
		if after != row.want {
			t.Errorf("%s: %s; want %s", name, after, row.want)
		}
		row.started = false
		if _, again := planRestart(row.ending); again {
			t.Errorf("%s: one that was never started is started", name)
		}
	}
}

// policed are options of a container with a restart policy.
func (w *world) policed(id, policy string, retries int) CreateOptions {
	o := w.options(id)
	o.Restart = RestartPolicy{Name: policy, MaxRetries: retries}
	return o
}

// look is a container as clients see it: state, restarts, and whether another is planned.
func (w *world) look(id string) string {
	w.t.Helper()
	c, err := w.Get(w.t.Context(), ns, id)
	w.ok(err)
	text := fmt.Sprintf("%s %d", c.State, c.RestartCount)
	if c.Restarting {
		text += " restarting"
	}
	return text
}

func (w *world) sees(id, want string) {
	w.t.Helper()
	w.settled()
	if got := w.look(id); got != want {
		w.t.Errorf("%s is %s; want %s", id, got, want)
	}
}

func TestRestartBackoff(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.create(w.policed("c", RestartAlways, 0))
		w.start("c")
		wait := firstBackoff
		for n := 1; n <= 12; n++ {
			w.sandboxes.exit(t, "c", "", 0)
			w.sees("c", fmt.Sprintf("exited %d restarting", n-1))
			time.Sleep(wait - time.Millisecond)
			w.sees("c", fmt.Sprintf("exited %d restarting", n-1))
			time.Sleep(time.Millisecond)
			w.sees("c", fmt.Sprintf("running %d", n))
			wait = min(2*wait, lastBackoff)
		}
		time.Sleep(ranWell)
		w.sandboxes.exit(t, "c", "", 0)
		w.settled()
		time.Sleep(firstBackoff)
		w.sees("c", "running 13")
		t.Log("a start by a client begins anew")
		w.ok(w.Stop(t.Context(), ns, "c", StopOptions{}))
		w.sees("c", "exited 13")
		time.Sleep(time.Hour)
		w.sees("c", "exited 13")
		w.start("c")
		w.sees("c", "running 0")
	})
}

func TestRestartOnFailure(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.sandboxes.quick = true // it ends with code 3
		w.create(w.policed("c", RestartOnFailure, 4))
		w.start("c")
		time.Sleep(time.Hour)
		w.sees("c", "exited 4")
	})
}

// TestRestartThatFails has a supervisor that starts nothing: the tries get rarer, and go on.
func TestRestartThatFails(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.create(w.policed("c", RestartAlways, 0))
		w.start("c")
		time.Sleep(time.Hour) // it ran well; that it did shall not count twice
		w.sandboxes.setFail("start", errBroken)
		w.sandboxes.exit(t, "c", "", 0)
		time.Sleep(10 * time.Minute)
		if n := w.sandboxes.called("start"); n < 15 || n > 25 {
			t.Errorf("%d starts in ten minutes", n)
		}
		w.sandboxes.setFail("start", nil)
		time.Sleep(lastBackoff)
		w.settled()
		if s := w.state("c"); s != Running {
			t.Errorf("it is %s", s)
		}
	})
}

// TestRestartIsDropped ends the waiting of a policy in every way there is.
func TestRestartIsDropped(t *testing.T) {
	for name, end := range map[string]func(w *world){
		"stop":   func(w *world) { w.ok(w.Stop(w.t.Context(), ns, "c", StopOptions{})) },
		"delete": func(w *world) { _, err := w.Delete(w.t.Context(), ns, "c", DeleteOptions{}); w.ok(err) },
		"start":  func(w *world) { w.start("c") },
		"close":  func(*world) {},
	} {
		in(t, func(t *testing.T, w *world) {
			w.create(w.policed("c", RestartAlways, 0))
			w.start("c")
			w.sandboxes.exit(t, "c", "", 1)
			w.sees("c", "exited 0 restarting")
			end(w)
			if name == "close" {
				return // the bubble ends with the engine's goroutines
			}
			time.Sleep(time.Hour)
			w.settled()
			if n := w.sandboxes.called("start"); n > 2 || name != "start" && n > 1 {
				t.Errorf("%s: %d starts", name, n)
			}
		})
	}
}

func TestSignalsThatEnd(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		for sig, want := range map[int]string{9: "exited 0", 15: "exited 0", 1: "running 1"} {
			id := fmt.Sprint("c", sig)
			w.create(w.policed(id, RestartUnlessStopped, 0))
			w.start(id)
			w.ok(w.Signal(t.Context(), ns, id, "", sig, false))
			time.Sleep(time.Second)
			w.sees(id, want)
		}
	})
}

// TestRestartAfterReboot has every process gone when the next engine comes.
func TestRestartAfterReboot(t *testing.T) {
	want := map[string]string{}
	in(t, func(t *testing.T, w *world) {
		for _, policy := range []string{RestartNo, RestartAlways, RestartOnFailure, RestartUnlessStopped} {
			for _, what := range []string{"ran", "stopped", "created"} {
				id := policy + "-" + what
				w.create(w.policed(id, policy, 0))
				want[id] = "created 0"
				if what == "created" {
					continue
				}
				w.start(id)
				want[id] = "exited 0"
				if what == "stopped" {
					w.ok(w.Stop(t.Context(), ns, id, StopOptions{}))
				}
				if policy != RestartNo && (what == "ran" || policy == RestartAlways) {
					want[id] = "running 1"
				}
			}
		}
		w.settled()
		w.sandboxes.mu.Lock()
		for p := range w.sandboxes.entries {
			if err := w.sandboxes.forget(p); err != nil {
				t.Error(err)
			}
		}
		w.sandboxes.mu.Unlock()
		w.again()
		w.recover()
		time.Sleep(time.Second)
		for id, want := range want {
			w.sees(id, want)
		}
	})
}

func TestCheckRestart(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		for name, change := range map[string]func(*CreateOptions){
			"unknown":     func(o *CreateOptions) { o.Restart.Name = "sometimes" },
			"retries":     func(o *CreateOptions) { o.Restart = RestartPolicy{Name: RestartAlways, MaxRetries: 1} },
			"negative":    func(o *CreateOptions) { o.Restart = RestartPolicy{Name: RestartOnFailure, MaxRetries: -1} },
			"auto-remove": func(o *CreateOptions) { o.Restart.Name, o.AutoRemove = RestartAlways, true },
		} {
			o := w.options("c")
			change(&o)
			if _, err := w.Create(t.Context(), ns, o); !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		w.clean()
	})
}

func TestSetRestart(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.create(w.policed("c", RestartNo, 0))
		w.start("c")
		w.is(w.SetRestart(t.Context(), ns, "c", RestartPolicy{Name: "sometimes"}), errdefs.ErrInvalidArgument)
		w.ok(w.SetRestart(t.Context(), ns, "c", RestartPolicy{Name: RestartAlways}))
		w.sandboxes.exit(t, "c", "", 0)
		w.sees("c", "exited 0 restarting")
		w.ok(w.SetRestart(t.Context(), ns, "c", RestartPolicy{}))
		time.Sleep(time.Hour)
		w.sees("c", "exited 0")
	})
}

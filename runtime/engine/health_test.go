package engine

import (
	"reflect"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	oci "github.com/minirt/mini/oci/image"
)

func TestEffectiveCheck(t *testing.T) {
	whole := &HealthCheck{Test: []string{testCmd, "t"}, Interval: time.Second, Timeout: 2, StartPeriod: 3, StartInterval: 4, Retries: 5}
	defaults := func(test ...string) *HealthCheck {
		return &HealthCheck{Test: test, Interval: 30 * time.Second, Timeout: 30 * time.Second, StartInterval: 5 * time.Second, Retries: 3}
	}
	for name, row := range map[string]struct {
		image       *oci.HealthCheck
		asked, want *HealthCheck
	}{
		"none":                      {nil, nil, nil},
		"asked without a test":      {nil, &HealthCheck{Interval: time.Second}, nil},
		"the image's":               {&oci.HealthCheck{Test: []string{testCmd, "i"}}, nil, defaults(testCmd, "i")},
		"asked":                     {nil, &HealthCheck{Test: []string{testShell, "x"}}, defaults(testShell, "x")},
		"all asked":                 {&oci.HealthCheck{Test: []string{testCmd, "i"}, Retries: 9}, whole, whole},
		"the image's, some asked":   {&oci.HealthCheck{Test: []string{testCmd, "t"}, Timeout: 2, StartPeriod: 3, StartInterval: 4, Retries: 9}, &HealthCheck{Interval: time.Second, Retries: 5}, whole},
		"switched off":              {&oci.HealthCheck{Test: []string{testCmd, "i"}}, &HealthCheck{Test: []string{testNone}}, nil},
		"switched off in the image": {&oci.HealthCheck{Test: []string{testNone}}, nil, nil},
		"nonsense in the image":     {&oci.HealthCheck{Test: []string{"WHAT", "x"}}, nil, nil},
		"negative in the image":     {&oci.HealthCheck{Test: []string{testCmd, "i"}, Interval: -1, Retries: -1}, nil, defaults(testCmd, "i")},
	} {
		if got := effectiveCheck(row.image, row.asked); !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s: %+v; want %+v", name, got, row.want)
		}
	}
}

func TestNextHealth(t *testing.T) {
	check := HealthCheck{Interval: 10 * time.Second, StartPeriod: time.Minute, StartInterval: time.Second, Retries: 2}
	type step struct {
		code   int
		since  time.Duration
		status string
		streak int
		wait   time.Duration
	}
	for name, steps := range map[string][]step{
		"healthy at once":           {{0, 0, HealthHealthy, 0, 10 * time.Second}},
		"starting long":             {{1, 0, HealthStarting, 0, time.Second}, {1, 59 * time.Second, HealthStarting, 0, time.Second}, {1, time.Minute, HealthStarting, 1, 10 * time.Second}, {1, 2 * time.Minute, HealthUnhealthy, 2, 10 * time.Second}},
		"healthy, and counted then": {{0, 0, HealthHealthy, 0, 10 * time.Second}, {1, time.Second, HealthHealthy, 1, 10 * time.Second}, {1, 2 * time.Second, HealthUnhealthy, 2, 10 * time.Second}, {0, 3 * time.Second, HealthHealthy, 0, 10 * time.Second}},
		"too long":                  {{-1, time.Hour, HealthStarting, 1, 10 * time.Second}, {-1, time.Hour, HealthUnhealthy, 2, 10 * time.Second}},
	} {
		h := Health{Status: HealthStarting}
		for i, s := range steps {
			h = h.next(check, HealthResult{ExitCode: s.code}, s.since)
			if h.Status != s.status || h.FailingStreak != s.streak || h.wait(check, s.since) != s.wait || len(h.Log) != i+1 {
				t.Errorf("%s, check %d: %+v, wait %s; want %+v", name, i, h, h.wait(check, s.since), s)
			}
		}
	}
	h := Health{}
	for i := range 9 {
		h = h.next(check, HealthResult{ExitCode: i}, 0)
	}
	if len(h.Log) != keptResults || h.Log[0].ExitCode != 4 || h.Log[4].ExitCode != 8 {
		t.Errorf("the log %+v", h.Log)
	}
}

func TestCheckHealth(t *testing.T) {
	for name, h := range map[string]*HealthCheck{
		"nothing to run": {Test: []string{testCmd}}, "unknown": {Test: []string{"curl", "x"}}, "negative": {Interval: -1},
		"too often": {Interval: time.Microsecond}, "retries": {Retries: -1},
	} {
		if err := checkHealth(h); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, h := range []*HealthCheck{nil, {}, {Test: []string{testNone}}, {Test: []string{testShell, "true"}, Interval: time.Millisecond}} {
		if err := checkHealth(h); err != nil {
			t.Errorf("%+v: %v", h, err)
		}
	}
}

// TestHealth has a supervisor whose checks end as the test says. The bubble fails it for a goroutine that is left over.
func TestHealth(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		o := w.options("c")
		o.HealthCheck = &HealthCheck{Test: []string{testCmd, "look"}, Interval: time.Minute, Timeout: 10 * time.Second, Retries: 2}
		w.create(o)
		if c, err := w.Get(t.Context(), ns, "c"); err != nil || c.Health != nil {
			t.Errorf("before it runs: %+v, %v", c.Health, err)
		}
		w.start("c")
		check := func(code int, status string) {
			t.Helper()
			w.settled()
			for _, p := range w.checks() {
				w.sandboxes.exit(t, "c", p, code)
			}
			w.settled()
			c, err := w.Get(t.Context(), ns, "c")
			w.ok(err)
			if c.Health.Status != status {
				t.Errorf("after code %d: %+v; want %s", code, c.Health, status)
			}
			time.Sleep(time.Minute)
		}
		time.Sleep(time.Minute)
		check(0, HealthHealthy)
		check(1, HealthHealthy)
		check(1, HealthUnhealthy)
		t.Log("one that takes too long is killed")
		w.settled()
		running := w.checks()
		time.Sleep(10 * time.Second)
		w.settled()
		if now := w.checks(); len(running) != 1 || len(now) != 0 || w.sandboxes.called("signal 9 c/"+running[0]) != 1 {
			t.Errorf("checks %v, then %v: %v", running, now, w.sandboxes.calls)
		}
		c, err := w.Get(t.Context(), ns, "c")
		w.ok(err)
		if last := c.Health.Log[len(c.Health.Log)-1]; last.ExitCode != -1 || last.End.Sub(last.Start) != 10*time.Second {
			t.Errorf("%+v", last)
		}
		t.Log("at once")
		time.Sleep(30 * time.Second)
		now := make(chan HealthResult, 1)
		go func() {
			r, err := w.CheckHealth(t.Context(), ns, "c")
			w.ok(err)
			now <- r
		}()
		w.settled()
		for _, p := range w.checks() {
			w.sandboxes.exit(t, "c", p, 0)
		}
		if r := <-now; r.ExitCode != 0 {
			t.Errorf("%+v", r)
		}
		w.settled()
		if c, err := w.Get(t.Context(), ns, "c"); err != nil || c.Health.Status != HealthHealthy {
			t.Errorf("%+v, %v", c.Health, err)
		}
		t.Log("paused, it is not asked")
		w.ok(w.Pause(t.Context(), ns, "c"))
		before := w.sandboxes.called("exec")
		time.Sleep(time.Hour)
		w.ok(w.Resume(t.Context(), ns, "c"))
		if n := w.sandboxes.called("exec"); n != before {
			t.Errorf("%d checks of what is paused", n-before)
		}
		t.Log("the next engine begins anew")
		w.settled()
		w.again()
		w.recover()
		c, err = w.Get(t.Context(), ns, "c")
		w.ok(err)
		if c.Health == nil || c.Health.Status != HealthStarting {
			t.Errorf("%+v", c.Health)
		}
		time.Sleep(time.Minute)
		check(0, HealthHealthy)
		w.settled()
		for _, p := range w.checks() {
			w.sandboxes.exit(t, "c", p, 0)
		}
		w.sandboxes.exit(t, "c", "", 0)
		w.settled()
		before = w.sandboxes.called("exec")
		time.Sleep(time.Hour)
		if n := w.sandboxes.called("exec"); n != before {
			t.Errorf("%d checks of what has ended", n-before)
		}
	})
}

// checks are the processes that run in container c, but for the first.
func (w *world) checks() (all []string) {
	w.sandboxes.mu.Lock()
	defer w.sandboxes.mu.Unlock()
	for p, e := range w.sandboxes.entries {
		if p.ID == "c" && p.Exec != "" && e.Exit == nil {
			all = append(all, p.Exec)
		}
	}
	return all
}

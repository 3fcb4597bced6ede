package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/tuning"
)

// tuner writes down what it is asked for.
type tuner struct {
	said  []string
	users []string
	fail  error
}

func (t *tuner) Prepare(id string, w tuning.Wish) error {
	t.said = append(t.said, "prepare "+id+" "+w.CPUs)
	return t.fail
}

func (t *tuner) Started(id string, _ tuning.Wish, _ map[string]string) error {
	t.said = append(t.said, "started "+id)
	return nil
}

func (t *tuner) Release(id string) error {
	t.said = append(t.said, "release "+id)
	return nil
}

func (t *tuner) Users() []string { return t.users }

func (t *tuner) want(test *testing.T, when string, said ...string) {
	test.Helper()
	if !slices.Equal(t.said, said) {
		test.Errorf("%s: %q, want %q", when, t.said, said)
	}
	t.said = nil
}

// TestTuning: the host is changed before a container runs, and as before when it has ended, in whichever way.
func TestTuning(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		tuner := &tuner{}
		w.Tuner = tuner
		o := w.options("c")
		o.Tuning = &tuning.Wish{CPUs: "1", CStates: "disable"}
		w.create(o)
		tuner.want(t, "created")
		w.start("c")
		tuner.want(t, "running", "prepare default/c 1", "started default/c")
		w.sandboxes.exit(t, "c", "", 0)
		synctest.Wait()
		tuner.want(t, "exited", "release default/c")
		w.sandboxes.setFail("start", errdefs.ErrInternal)
		_, err := w.Start(t.Context(), ns, "c", StartOptions{})
		w.is(err, errdefs.ErrInternal)
		tuner.want(t, "not started", "prepare default/c 1", "release default/c")
		w.sandboxes.setFail("start", nil)
		tuner.fail = fmt.Errorf("no: %w", errdefs.ErrFailedPrecondition)
		_, err = w.Start(t.Context(), ns, "c", StartOptions{})
		w.is(err, errdefs.ErrFailedPrecondition)
		tuner.want(t, "refused", "prepare default/c 1")
		_, err = w.Delete(t.Context(), ns, "c", DeleteOptions{Force: true})
		w.ok(err)
		tuner.want(t, "deleted", "release default/c")
		w.clean()
	})
}

// TestTuningRecovered: what was changed for who runs no more is given back by the next daemon.
func TestTuningRecovered(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		o := w.options("c")
		w.create(o)
		w.start("c")
		tuner := &tuner{users: []string{"default/c", "default/gone"}}
		w.Tuner = tuner
		w.recoverTuning()
		tuner.want(t, "recovered", "release default/gone")
		_, err := w.Delete(t.Context(), ns, "c", DeleteOptions{Force: true})
		w.ok(err)
		w.clean()
	})
}

// TestForbidden: a container that is to be stopped for what it tries is, some seconds after the last time; another is not.
func TestForbidden(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		for id, what := range map[string]string{"stop": ForbiddenStop, "log": ForbiddenLog, "over": ForbiddenStop} {
			o := w.options(id)
			o.Forbidden = what
			w.create(o)
			w.start(id)
			w.HandleForbidden("default/"+id, "mount", 7)
		}
		w.sandboxes.exit(t, "over", "", 3)
		time.Sleep(forbiddenQuiet - time.Second)
		w.HandleForbidden("default/stop", "mount", 7)
		w.HandleForbidden("default/stop", "bpf", 7)
		w.HandleForbidden("default/none", "bpf", 7)
		time.Sleep(forbiddenQuiet - time.Second)
		synctest.Wait()
		state := func(id string) string {
			c, err := w.Get(t.Context(), ns, id)
			w.ok(err)
			return strings.TrimSpace(string(c.State) + " " + c.ForbiddenCalls)
		}
		if got := state("stop"); got != "running" {
			t.Errorf("too early: %s", got)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for id, want := range map[string]string{"stop": "exited bpf (1x), mount (2x)", "log": "running", "over": "exited"} {
			if got := state(id); got != want {
				t.Errorf("%s is %s, want %s", id, got, want)
			}
			_, err := w.Delete(t.Context(), ns, id, DeleteOptions{Force: true})
			w.ok(err)
		}
		w.clean()
	})
}

package engine

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/minirt/mini/runtime/pin"
)

func TestCheckPods(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		for _, id := range []string{"sound", "half", "making", "bare", "lost"} {
			o := w.podOptions(id)
			o.PID = ModeContainer
			w.run(o)
			c := w.options("in-" + id)
			c.Pod = id
			w.create(c)
		}
		w.ok(pin.Remove(w.pinDir(w.livePodNamed("bare").record())))
		for id, state := range map[string]PodState{"half": PodRemoving, "making": PodCreating} {
			w.ok(w.savePod(w.livePodNamed(id), func(rec *Pod) { rec.State = state }))
		}
		w.ok(w.Pods.Delete(ns, "lost"))
		w.forgetPodNamed("lost")
		beside := filepath.Join(w.dir, "state/pods/default/file")
		w.ok(os.WriteFile(beside, nil, 0o600)) // nobody's business
		lost := w.podDir(Pod{PodOptions: PodOptions{ID: "lost"}, Namespace: ns})

		bare := "pod bare: recorded as ready, and its namespaces are gone"
		orphan := "container in-lost: its pod lost has no record"
		before := []string{orphan, bare, "pod half: left half removed", "pod lost: namespaces and files of no pod", "pod making: left half made"}
		for _, repair := range []bool{false, true} {
			w.wantProblems(repair, before...)
		}
		w.wantProblems(false, orphan, bare)
		if _, err := os.Stat(lost); !os.IsNotExist(err) || w.podState("sound") != PodReady || w.state("in-sound") != Created || w.state("in-half") != "-" {
			t.Errorf("after the repair: %v, the sound one is %s", err, w.podState("sound"))
		}
		unlock, err := w.lockedPod(t.Context(), w.livePodNamed("bare"))
		w.ok(err)
		w.wantProblems(false, orphan) // somebody is at it
		unlock()
	})
}

// livePodNamed is a pod in memory.
func (w *world) livePodNamed(id string) *livePod {
	w.t.Helper()
	p, err := w.findPod(ns, id)
	w.ok(err)
	return p
}

// forgetPodNamed makes the engine not know a pod, as one whose record was not there or could not be read at its start.
func (w *world) forgetPodNamed(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.pods, key{ns, id})
}

// wantProblems compares what a check finds, in any order.
func (w *world) wantProblems(repair bool, want ...string) {
	w.t.Helper()
	got := w.problems(repair)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		w.t.Errorf("repair %t:\n%q\nwant\n%q", repair, got, want)
	}
}

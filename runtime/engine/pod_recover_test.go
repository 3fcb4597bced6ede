package engine

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/runtime/pin"
	"github.com/minirt/mini/runtime/store"
)

func TestSettlePod(t *testing.T) {
	for _, row := range []struct {
		state          PodState
		pinned, absent PodState // what it becomes
	}{
		{PodCreating, PodRemoving, PodRemoving},
		{PodReady, PodReady, PodStopped},
		{PodStopped, PodStopped, PodStopped},
		{PodRemoving, PodRemoving, PodRemoving},
	} {
		rec := Pod{State: row.state}
		if got, gone := settlePod(rec, true), settlePod(rec, false); got != row.pinned || gone != row.absent {
			t.Errorf("%s becomes %s, and %s without its namespaces", row.state, got, gone)
		}
	}
}

// TestRecoverPods has pods in every state when the engine ends.
func TestRecoverPods(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		for _, id := range []string{"ready", "stopped", "creating", "removing", "half-stopped"} {
			w.run(w.podOptions(id))
			w.within(id, "in-"+id)
		}
		w.ok(w.StopPod(t.Context(), ns, "stopped"))
		for id, state := range map[string]PodState{"creating": PodCreating, "removing": PodRemoving} {
			w.ok(w.savePod(w.livePodNamed(id), func(rec *Pod) {
				rec.State = state
				if state == PodCreating {
					rec.Attachment = nil
				}
			}))
		}
		// A stop that was cut off has taken one of the namespaces.
		w.ok(mount.Unmount(pin.Path(w.pinDir(w.livePodNamed("half-stopped").record()), pin.IPC)))
		w.again()
		w.recover()
		if want := []string{"restore half-stopped ready removing", "collect half-stopped ready removing"}; !slices.Equal(w.network.restored, want) {
			t.Errorf("the network: %q; want %q", w.network.restored, want)
		}
		w.background.Wait()
		for id, want := range map[string]PodState{
			"ready": PodReady, "stopped": PodStopped, "creating": "-", "removing": "-", "half-stopped": PodStopped,
		} {
			if s := w.podState(id); s != want {
				t.Errorf("%s is %s; want %s", id, s, want)
			}
		}
		if in := w.network.inside(); len(in) != 1 || in[0] != "ready" || w.state("in-ready") != Running || w.state("in-half-stopped") != Exited {
			t.Errorf("in the network %v; containers %s, %s", in, w.state("in-ready"), w.state("in-half-stopped"))
		}
		w.within("ready", "another")
		w.ok(w.StopPod(t.Context(), ns, "ready"))
		for _, id := range []string{"ready", "stopped", "half-stopped"} {
			w.ok(w.RemovePod(t.Context(), ns, id))
		}
		w.settled()
		w.clean()
	})
}

// TestRecoverPodsAfterAReboot, which empties the state directory and ends every process.
func TestRecoverPodsAfterAReboot(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		for name, o := range w.kinds() {
			w.run(o)
			w.within("p", "c")
			for _, id := range []string{"p", "c"} {
				if w.state(id) == Running {
					w.sandboxes.exit(t, id, "", 0)
				}
			}
			w.settled()
			unmountBelow(t, filepath.Join(w.dir, "state"))
			w.ok(os.RemoveAll(filepath.Join(w.dir, "state")))
			w.again()
			w.recover()
			w.background.Wait()
			p, err := w.Pod(t.Context(), ns, "p")
			if err != nil || p.State != PodStopped || p.Attachment != nil || len(w.network.inside()) > 0 {
				t.Errorf("%s: %s, %v, in the network %v", name, p.State, err, w.network.inside())
			}
			w.gone("p")
		}
	})
}

// TestRunPodAfterACrashInIt: who asks again for a pod that a crash has left half made gets a new one, whether or not the
// half has been removed by then.
func TestRunPodAfterACrashInIt(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		o := w.podOptions("half")
		o.Key = "web"
		w.run(o)
		w.ok(w.savePod(w.livePodNamed("half"), func(rec *Pod) { rec.State = PodCreating }))
		w.again()
		w.recover()
		o.ID = "whole"
		if p := w.run(o); p.ID != "whole" || p.State != PodReady {
			t.Errorf("%s is %s", p.ID, p.State)
		}
		w.background.Wait()
		if s := w.podState("half"); s != "-" {
			t.Errorf("the half is %s", s)
		}
		w.gone("whole")
	})
}

// TestRecoverPodKeys: a pod and a container are found by their keys after a restart.
func TestRecoverPodKeys(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		pod := w.podOptions("")
		pod.Key = "web"
		p := w.run(pod)
		o := w.options("")
		o.Pod, o.Key = p.ID, "main"
		c := w.create(o)
		w.again()
		w.recover()
		o.Pod = p.ID
		if again, made := w.run(pod), w.create(o); again.ID != p.ID || made.ID != c.ID {
			t.Errorf("pod %s, and was %s; container %s, and was %s", again.ID, p.ID, made.ID, c.ID)
		}
		w.gone(p.ID)
	})
}

// TestRecoveryOfTheNetworkIsBounded and its failure keeps nobody from serving.
func TestRecoveryOfTheNetworkIsBounded(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.run(w.podOptions("p"))
		w.again()
		w.network.hang["Restore"], w.network.hang["Collect"] = make(chan struct{}), make(chan struct{})
		begin := time.Now()
		w.recover()
		if took := time.Since(begin); took != 2*networkTimeout {
			t.Errorf("it took %s", took)
		}
		w.again()
		w.network.setFail("Restore", errBroken)
		w.network.setFail("Collect", errBroken)
		w.recover()
		if s := w.podState("p"); s != PodReady {
			t.Errorf("it is %s", s)
		}
		w.gone("p")
	})
}

// TestADamagedPod keeps neither the engine nor other pods, and what it names stays as it is, in the network too.
func TestADamagedPod(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.run(w.podOptions("good"))
		bad := w.run(w.podOptions("bad"))
		w.shut()
		s, err := store.Open(context.Background(), store.Options{Path: filepath.Join(w.dir, "root/meta.db"), Logger: w.Log})
		w.ok(err)
		w.ok(store.NewTable[string](s, "pods", 1, nil).Put(ns, "bad", "no pod"))
		w.ok(s.Close())
		*w = *open(t, w.dir, w.sandboxes)
		w.recover()
		w.background.Wait()
		if want := []string{"restore good"}; !slices.Equal(w.network.restored, want) {
			t.Errorf("the network: %q; want %q", w.network.restored, want)
		}
		_, err = w.RunPod(t.Context(), ns, w.podOptions("bad"))
		w.is(err, errdefs.ErrAlreadyExists)
		problems, _, err := w.Check(t.Context(), true, true)
		w.ok(err)
		if len(problems) == 0 || problems[0].Kind != "store" || !strings.Contains(problems[0].Object, "bad") {
			t.Errorf("problems %v", problems)
		}
		for _, p := range problems[1:] {
			if p.Kind == "pod" || p.Repaired {
				t.Errorf("problem %v", p)
			}
		}
		if !w.isPinned(bad) || w.state("bad") != Running || w.podState("good") != PodReady {
			t.Errorf("pinned: %t, its holder is %s, the good one %s", w.isPinned(bad), w.state("bad"), w.podState("good"))
		}
		w.ok(w.Pods.Put(ns, "bad", bad)) // restored from a copy
		w.again()
		w.recover()
		for _, id := range []string{"good", "bad"} {
			w.ok(w.RemovePod(t.Context(), ns, id))
		}
		w.clean()
	})
}

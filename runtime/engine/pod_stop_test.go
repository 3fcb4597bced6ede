package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/pin"
)

// TestStopPodFails at each step, and goes on from there the next time, or with the removal.
func TestStopPodFails(t *testing.T) {
	for name, row := range map[string]struct {
		broken func(w *world, err error)
		stage  string
		pinned bool // whether the namespaces stay
	}{
		"a process that cannot be killed": {func(w *world, err error) { w.sandboxes.setFail("signal 9", err) }, "kill its containers", true},
		"the network":                     {func(w *world, err error) { w.network.setFail("Detach", err) }, "leave the network", false},
		"the network namespace":           {func(w *world, err error) { w.network.setFail("RemoveNamespace", err) }, "leave the network", false},
	} {
		for _, verb := range []string{"stop", "remove"} {
			t.Run(verb+" "+name, func(t *testing.T) {
				in(t, func(t *testing.T, w *world) {
					w.run(w.podOptions("p"))
					w.within("p", "c")
					row.broken(w, errBroken)
					do, state := w.StopPod, PodReady
					if verb == "remove" {
						do, state = w.RemovePod, PodRemoving
					}
					for range 2 {
						err := do(t.Context(), ns, "p")
						if w.is(err, errBroken); !strings.Contains(err.Error(), verb+" pod p: "+row.stage+": ") {
							t.Errorf("error %v; want the stage %q", err, row.stage)
						}
					}
					p, err := w.Pod(t.Context(), ns, "p")
					w.ok(err)
					if s := w.podState("p"); s != state || pin.Pinned(w.pinDir(p), pin.IPC) != row.pinned || p.Attachment == nil {
						t.Errorf("it is %s, pinned: %t, attachment %v", s, !row.pinned, p.Attachment)
					}
					row.broken(w, nil)
					w.ok(w.StopPod(t.Context(), ns, "p"))
					if s := w.podState("p"); s == PodReady || len(w.network.inside()) > 0 || w.state("c") != Exited {
						t.Errorf("then it is %s, its container %s", s, w.state("c"))
					}
					w.gone("p")
				})
			})
		}
	}
}

// TestRemovePodTakesNoOthers: a container of it has been deleted meanwhile, and the id of another begins the same.
func TestRemovePodTakesNoOthers(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.running("c")
		w.running("c-long")
		l := w.exactly(ns, "c")
		_, err := w.Delete(t.Context(), ns, "c", DeleteOptions{Force: true})
		w.ok(err)
		w.ok(w.alone(t.Context(), l, w.remove))
		if s := w.state("c-long"); s != Running {
			t.Errorf("the other one is %s", s)
		}
	})
}

// TestRemovePodFails where only its removal comes.
func TestRemovePodFails(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.run(w.podOptions("p"))
		w.within("p", "c")
		w.sandboxes.setFail("delete", errBroken)
		w.is(w.RemovePod(t.Context(), ns, "p"), errBroken)
		if s := w.podState("p"); s != PodRemoving || w.state("c") != Removing {
			t.Errorf("it is %s, its container %s", s, w.state("c"))
		}
		w.sandboxes.setFail("delete", nil)
		w.gone("p")
	})
}

// TestStopPodOfACallerThatGoes is done all the same.
func TestStopPodOfACallerThatGoes(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		pod := w.podOptions("p")
		pod.PID = ModeContainer
		w.run(pod)
		w.within("p", "c")
		w.network.hang["Detach"] = make(chan struct{})
		ctx, cancel := context.WithCancel(context.Background())
		stopped := make(chan error)
		go func() { stopped <- w.StopPod(ctx, ns, "p") }()
		w.settled()
		cancel()
		if _, err := w.Start(t.Context(), ns, "c", StartOptions{}); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "being stopped") {
			t.Errorf("started while the pod is being stopped: %v", err)
		}
		waiting, leave := context.WithCancel(context.Background())
		leave()
		if err := w.RemovePod(waiting, ns, "p"); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "leave the network") {
			t.Errorf("who does not wait for it: %v", err)
		}
		close(w.network.hang["Detach"])
		w.ok(<-stopped)
		if s := w.podState("p"); s != PodStopped {
			t.Errorf("it is %s", s)
		}
		w.gone("p")
	})
}

// TestPodEndsBesideItsContainers: what is being made or started when the pod is stopped or removed is not there, or does
// not run, afterwards.
func TestPodEndsBesideItsContainers(t *testing.T) {
	for _, verb := range []string{"stop", "remove"} {
		for _, beside := range []string{"create", "create, prepared", "start"} {
			t.Run(verb+" beside "+beside, func(t *testing.T) {
				in(t, func(t *testing.T, w *world) {
					w.run(w.podOptions("p"))
					o := w.imaged("c")
					o.Pod = "p"
					let, results := make(chan struct{}), make(chan error, 2)
					hold := func() { <-let }
					do := func() error { _, err := w.Create(context.Background(), ns, o); return err }
					switch beside {
					case "create":
						w.snapshots.preparing = hold
					case "create, prepared":
						w.snapshots.mounting = hold
					case "start":
						w.create(o)
						w.sandboxes.hang["start"] = let
						do = func() error { _, err := w.Start(context.Background(), ns, "c", StartOptions{}); return err }
					}
					go func() { results <- do() }()
					w.settled()
					end := w.StopPod
					if verb == "remove" {
						end = w.RemovePod
					}
					ended := make(chan error)
					go func() { ended <- end(context.Background(), ns, "p") }()
					w.settled()
					close(let)
					w.ok(<-ended)
					if err := <-results; err != nil && !expected(err) {
						t.Error(err)
					}
					w.settled()
					for _, has := range w.sandboxes.has() {
						if strings.HasSuffix(has, "running") {
							t.Errorf("runs in a pod that has ended: %s", has)
						}
					}
					w.snapshots.preparing, w.snapshots.mounting = nil, nil
					if verb == "stop" {
						_, err := w.Start(t.Context(), ns, "c", StartOptions{})
						if !expected(err) {
							t.Errorf("started: %v", err)
						}
					}
					w.gone("p")
				})
			})
		}
	}
}

// TestManyPodsAtOnce does everything to few pods from many goroutines.
func TestManyPodsAtOnce(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		plain := w.options("")
		var all sync.WaitGroup
		for g := range 16 {
			all.Go(func() {
				random := rand.New(rand.NewPCG(2, uint64(g)))
				for range 4 {
					w.anythingInPods(random, plain)
				}
			})
		}
		all.Wait()
		w.settled()
		w.wholeAll()
		for _, p := range w.livePods(ns) {
			rec := p.record()
			for _, l := range w.inPod(p.key) {
				if rec.State != PodReady && l.state() == Running {
					t.Errorf("container %s runs in pod %s, which is %s", l.key.id, rec.ID, rec.State)
				}
			}
			if saved := w.podState(rec.ID); saved != rec.State || (rec.State == PodReady) != w.isPinned(rec) {
				t.Errorf("pod %s is %s, saved as %s, pinned: %t", rec.ID, rec.State, saved, w.isPinned(rec))
			}
			w.ok(w.RemovePod(t.Context(), ns, rec.ID))
		}
		w.settled()
		w.clean()
	})
}

func (w *world) anythingInPods(random *rand.Rand, plain CreateOptions) {
	ctx := context.Background()
	id := fmt.Sprint("pod-", random.IntN(3))
	o := PodOptions{ID: id, Name: "n", PID: []string{ModePod, ModeContainer}[random.IntN(2)]}
	if random.IntN(2) == 0 {
		o.ID, o.Key = "", id
	}
	inside := fmt.Sprint(id, "-c", random.IntN(3))
	plain.ID, plain.Pod, plain.AutoRemove = inside, id, random.IntN(4) == 0
	if random.IntN(2) == 0 {
		plain.Key = inside
	}
	steps := []func() error{
		func() error {
			p, err := w.RunPod(ctx, ns, o)
			if err == nil {
				id, plain.Pod = p.ID, p.ID
			}
			return err
		},
		func() error { _, err := w.Create(ctx, ns, plain); return err },
		func() error { _, err := w.Start(ctx, ns, inside, StartOptions{}); return err },
		func() error { _, err := w.ListPods(ctx, ns); return err },
		func() error { return w.Stop(ctx, ns, inside, StopOptions{}) },
		func() error { return w.UpdatePod(ctx, ns, id, nil, nil) },
		func() error { _, err := w.Delete(ctx, ns, inside, DeleteOptions{Force: true}); return err },
		func() error { _, _, err := w.Check(ctx, true, true); return err },
		func() error { return w.StopPod(ctx, ns, id) },
		func() error { return w.RemovePod(ctx, ns, id) },
	}
	for _, step := range steps {
		if random.IntN(5) == 0 {
			continue
		}
		if err := step(); err != nil && !expected(err) {
			w.t.Errorf("%s: %v", id, err)
		}
	}
}

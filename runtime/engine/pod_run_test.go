package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/runtime/pin"
)

// TestPodLife runs, stops and removes pods of every make, with a container in each.
func TestPodLife(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		for name, o := range w.kinds() {
			t.Log(name)
			p := w.run(o)
			if p.State != PodReady || (p.Attachment != nil) != (o.Network != ModeNode) || !w.isPinned(p) {
				t.Errorf("%s: %s, attachment %v, pinned %t", name, p.State, p.Attachment, w.isPinned(p))
			}
			for kind, want := range map[string]bool{
				pin.Network: o.Network != ModeNode, pin.UTS: o.Network != ModeNode, pin.IPC: o.IPC != ModeNode, pin.User: o.UIDMap != nil,
			} {
				if got := pin.Pinned(w.pinDir(p), kind); got != want {
					t.Errorf("%s: %s is pinned: %t", name, kind, got)
				}
			}
			w.within("p", "c")
			for range 2 {
				w.ok(w.StopPod(t.Context(), ns, "p"))
				if s := w.podState("p"); s != PodStopped || w.state("c") != Exited || pin.Any(w.pinDir(p)) || len(w.network.inside()) > 0 {
					t.Errorf("%s: stopped it is %s, its container %s, in the network %v", name, s, w.state("c"), w.network.inside())
				}
			}
			_, err := w.Start(t.Context(), ns, "c", StartOptions{})
			w.is(err, errdefs.ErrFailedPrecondition)
			w.ok(w.RemovePod(t.Context(), ns, "p"))
			w.is(w.RemovePod(t.Context(), ns, "p"), errdefs.ErrNotFound)
			w.is(w.StopPod(t.Context(), ns, "p"), errdefs.ErrNotFound)
			w.clean()
		}
	})
}

func TestPodEvents(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.events.pods = true
		w.run(w.podOptions("p"))
		w.events.want(t, "pod create p", "create p (created)", "start p (running)", "pod start p")
		w.ok(w.UpdatePod(t.Context(), ns, "p", &specs.LinuxResources{}, nil))
		w.ok(w.StopPod(t.Context(), ns, "p"))
		w.ok(w.StopPod(t.Context(), ns, "p"))
		w.events.want(t, "pod update p", "exit p (exited)", "pod stop p")
		w.ok(w.RemovePod(t.Context(), ns, "p"))
		w.events.want(t, "delete p (-)", "pod delete p")
		o := w.podOptions("p")
		o.PID = ModeContainer
		w.run(o)
		w.network.setFail("Detach", errBroken)
		w.is(w.RemovePod(t.Context(), ns, "p"), errBroken)
		w.network.setFail("Detach", nil)
		w.ok(w.RemovePod(t.Context(), ns, "p"))
		w.events.want(t, "pod create p", "pod start p", "pod stop p", "pod delete p")
	})
}

func TestRunPodRefuses(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		maps := []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
		for name, change := range map[string]func(*PodOptions){
			"a bad id":           func(o *PodOptions) { o.ID = "../p" },
			"a bad network":      func(o *PodOptions) { o.Network = "container" },
			"a bad pid":          func(o *PodOptions) { o.PID = "host" },
			"a bad ipc":          func(o *PodOptions) { o.IPC = ModeContainer },
			"an unknown runtime": func(o *PodOptions) { o.Runtime = "kata" },
			"half a map":         func(o *PodOptions) { o.UIDMap = maps },
			"a long host name":   func(o *PodOptions) { o.Hostname = strings.Repeat("n", 65) },
			"a sysctl":           func(o *PodOptions) { o.Sysctls = map[string]string{"vm.swappiness": "1"} },
		} {
			o := w.podOptions("p")
			change(&o)
			if _, err := w.RunPod(t.Context(), ns, o); !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		w.Config.Pause = ""
		_, err := w.RunPod(t.Context(), ns, w.podOptions("p"))
		w.is(err, errdefs.ErrFailedPrecondition)
		w.events.want(t)
		w.clean()
	})
}

// TestRunPodFails fails at each step. Nothing is left, and the id is free.
func TestRunPodFails(t *testing.T) {
	maps := []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	for name, broken := range map[string]func(w *world, o *PodOptions) (stage string){
		"the log directory": func(w *world, o *PodOptions) string {
			o.LogDir = "/proc/not/there"
			return "pin its namespaces"
		},
		"the network namespace": func(w *world, _ *PodOptions) string {
			w.network.setFail("NewNamespace", errBroken)
			return "pin its namespaces"
		},
		"the network namespace of a user namespace": func(w *world, o *PodOptions) string {
			o.UIDMap, o.GIDMap = maps, maps
			w.network.setFail("AdoptNamespace", errBroken)
			return "pin its namespaces"
		},
		"the pins": func(_ *world, o *PodOptions) string {
			o.Sysctls = map[string]string{"kernel.msgmax": "many"}
			return "pin its namespaces"
		},
		"the holder": func(w *world, _ *PodOptions) string {
			w.sandboxes.setFail("start", errBroken)
			return "hold its process namespace"
		},
		"the network": func(w *world, _ *PodOptions) string {
			w.network.setFail("Attach", errBroken)
			return "join the network"
		},
		"the files": func(w *world, _ *PodOptions) string {
			w.ok(os.MkdirAll(filepath.Join(w.dir, "state/pods", ns, "p/hosts/in the way"), 0o755))
			return "write its files"
		},
		"the holder and the network": func(w *world, _ *PodOptions) string {
			w.network.setFail("Attach", errBroken)
			w.sandboxes.setFail("start", errBroken)
			return "hold its process namespace"
		},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				o := w.podOptions("p")
				stage := broken(w, &o)
				_, err := w.RunPod(t.Context(), ns, o)
				if err == nil || !strings.Contains(err.Error(), "run pod shop/web: "+stage+": ") {
					t.Errorf("error %v; want the stage %q", err, stage)
				}
				w.clean()
				w.network.fail, w.sandboxes.fail = map[string]error{}, map[string]error{}
				w.run(w.podOptions("p"))
				w.gone("p")
			})
		})
	}
}

// TestRunPodFailsAndSoDoesTheUndoing: the record stays, and the pod can be stopped and removed later.
func TestRunPodFailsAndSoDoesTheUndoing(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.network.setFail("Attach", errBroken)
		w.network.setFail("Detach", errBroken)
		o := w.podOptions("p")
		o.Key = "web"
		_, err := w.RunPod(t.Context(), ns, o)
		w.is(err, errBroken)
		if s := w.podState("p"); s != PodCreating {
			t.Errorf("it is %s", s)
		}
		_, err = w.RunPod(t.Context(), ns, o)
		w.is(err, errdefs.ErrAlreadyExists)
		w.is(w.RemovePod(t.Context(), ns, "p"), errBroken)
		w.network.setFail("Detach", nil)
		w.ok(w.StopPod(t.Context(), ns, "p"))
		if s := w.podState("p"); s != PodCreating {
			t.Errorf("stopped it is %s; it was never ready", s)
		}
		w.gone("p")
	})
}

func TestRunPodTakesAnIDOnce(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.run(w.podOptions("p"))
		_, err := w.RunPod(t.Context(), ns, w.podOptions("p"))
		w.is(err, errdefs.ErrAlreadyExists)
		if s := w.podState("p"); s != PodReady || len(w.network.inside()) != 1 {
			t.Errorf("the first is %s", s)
		}
		// The holder of a pod's processes has the pod's id.
		w.create(w.options("q"))
		_, err = w.RunPod(t.Context(), ns, w.podOptions("q"))
		w.is(err, errdefs.ErrAlreadyExists)
		if w.state("q") != Created || w.podState("q") != "-" {
			t.Errorf("the container is %s, the pod %s", w.state("q"), w.podState("q"))
		}
		_, err = w.Delete(t.Context(), ns, "q", DeleteOptions{})
		w.ok(err)
		w.gone("p")
	})
}

// TestPodKey: who asks for a pod under one key gets one pod.
func TestPodKey(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		keyed := w.podOptions("")
		keyed.Key = "web"
		w.network.hang["Attach"] = make(chan struct{})
		ids := make(chan string, 10)
		for range cap(ids) {
			go func() {
				p, err := w.RunPod(context.Background(), ns, keyed)
				ids <- fmt.Sprint(p.ID, err)
			}()
		}
		w.settled()
		close(w.network.hang["Attach"])
		first := <-ids
		for range cap(ids) - 1 {
			if id := <-ids; id != first {
				t.Errorf("%s, and %s", first, id)
			}
		}
		p := w.run(keyed)
		if fmt.Sprint(p.ID, nil) != first || len(w.network.inside()) != 1 {
			t.Errorf("asked again it is %s, and was %s; in the network %v", p.ID, first, w.network.inside())
		}
		other := keyed
		other.Key = "other"
		if o := w.run(other); o.ID == p.ID {
			t.Errorf("under another key it is %s too", o.ID)
		}
		w.ok(w.StopPod(t.Context(), ns, p.ID))
		_, err := w.RunPod(t.Context(), ns, keyed)
		w.is(err, errdefs.ErrAlreadyExists)
		for _, l := range w.livePods(ns) {
			w.ok(w.RemovePod(t.Context(), ns, l.key.id))
		}
		w.gone(w.run(keyed).ID)
	})
}

// TestPodOfNobody: what nobody waits for any more is undone, and who asks then has it made anew.
func TestPodOfNobody(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		keyed := w.podOptions("")
		keyed.Key = "web"
		w.network.hang["Attach"], w.network.hang["Detach"] = make(chan struct{}), make(chan struct{})
		errs := make(chan error)
		run := func(ctx context.Context) {
			go func() {
				_, err := w.RunPod(ctx, ns, keyed)
				errs <- err
			}()
			w.settled()
		}
		first, cancelFirst := context.WithCancel(context.Background())
		second, cancelSecond := context.WithCancel(context.Background())
		run(first)
		run(second)
		cancelFirst()
		if err := <-errs; err == nil || !strings.Contains(err.Error(), "join the network") {
			t.Errorf("the first: %v", err)
		} else {
			w.is(err, context.Canceled)
		}
		w.settled()
		if list := w.livePods(ns); len(list) != 1 || list[0].stage() != "join the network" {
			t.Fatalf("%d pods are being made while one still waits", len(list))
		}
		was := w.livePods(ns)[0].key.id
		cancelSecond()
		w.is(<-errs, context.Canceled)
		w.settled() // now it is being undone, which hangs
		delete(w.network.hang, "Attach")
		run(context.Background())
		impatient, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		run(impatient)
		w.is(<-errs, context.DeadlineExceeded)
		close(w.network.hang["Detach"])
		w.ok(<-errs)
		now := w.livePods(ns)
		if len(now) != 1 || now[0].key.id == was || len(w.network.inside()) != 1 {
			t.Errorf("%d pods, %s after %s, in the network %v", len(now), now[0].key.id, was, w.network.inside())
		}
		w.gone(now[0].key.id)
	})
}

// TestPodWithoutAKey is its caller's alone.
func TestPodWithoutAKey(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.run(w.podOptions("other"))
		w.network.hang["Attach"] = make(chan struct{})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := w.RunPod(ctx, ns, w.podOptions("p"))
		w.is(err, context.DeadlineExceeded)
		if n := strings.Count(err.Error(), "run pod"); n != 1 {
			t.Errorf("error %v", err)
		}
		if s := w.podState("p"); s != "-" {
			t.Errorf("it is %s", s)
		}
		w.gone("other")
	})
}

func TestFindPod(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		for _, id := range []string{"abc", "abd", "ab"} {
			o := w.podOptions(id)
			o.PID, o.Network = ModeContainer, ModeNode
			w.run(o)
			time.Sleep(time.Second)
		}
		for id, want := range map[string]string{"ab": "ab", "abc": "abc", "abd": "abd"} {
			if p, err := w.Pod(t.Context(), ns, id); err != nil || p.ID != want {
				t.Errorf("%s: %s, %v", id, p.ID, err)
			}
		}
		for id, class := range map[string]error{"": errdefs.ErrInvalidArgument, "a": errdefs.ErrInvalidArgument, "x": errdefs.ErrNotFound} {
			_, err := w.Pod(t.Context(), ns, id)
			w.is(err, class)
		}
		list, err := w.ListPods(t.Context(), "")
		w.ok(err)
		if len(list) != 3 || list[0].ID != "abc" || list[2].ID != "ab" {
			t.Errorf("%v", list)
		}
		// A container's pod is named by its whole id, though a prefix was asked for.
		o := w.options("c")
		o.Pod = "abc"
		w.create(o)
		l, err := w.find(ns, "c")
		w.ok(err)
		w.ok(w.save(l, func(c *Container) { c.Pod = "abcd"[:1] }))
		_, err = w.Start(t.Context(), ns, "c", StartOptions{})
		w.is(err, errdefs.ErrNotFound)
		for _, id := range []string{"abc", "abd", "ab"} {
			w.ok(w.RemovePod(t.Context(), ns, id))
		}
		w.clean()
	})
}

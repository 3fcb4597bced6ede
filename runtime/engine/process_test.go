package engine

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

func TestPauseAndResume(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.bring(Paused)
		if p, err := w.Process(t.Context(), ns, "c", ""); err != nil || p.State != Paused {
			t.Errorf("its process is %s, %v", p.State, err)
		}
		w.sandboxes.exit(t, "c", "", 137) // killed by the kernel, say
		w.settled()
		if s := w.state("c"); s != Exited {
			t.Errorf("it is %s", s)
		}
		w.is(w.Resume(t.Context(), ns, "c"), errdefs.ErrFailedPrecondition)
	})
}

func TestPauseFails(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.bring(Running)
		w.sandboxes.setFail("pause", errBroken)
		w.is(w.Pause(t.Context(), ns, "c"), errBroken)
		if s := w.state("c"); s != Running {
			t.Errorf("it is %s", s)
		}
	})
}

// TestExitDuringAPause wins: it neither is paused afterwards, nor does anybody hear that it was.
func TestExitDuringAPause(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.running("c")
		hang := make(chan struct{})
		w.Use(pausing{w.sandboxes, hang})
		done := make(chan error)
		go func() { done <- w.Pause(context.Background(), ns, "c") }()
		w.settled()
		w.sandboxes.exit(t, "c", "", 1)
		w.settled()
		close(hang)
		w.ok(<-done)
		if s := w.state("c"); s != Exited {
			t.Errorf("it is %s", s)
		}
		w.events.want(t, "create c (created)", "start c (running)", "exit c (exited)")
	})
}

// pausing answers to a pause after its process has ended.
type pausing struct {
	*sandboxes
	ended chan struct{}
}

func (p pausing) Pause(context.Context, wire.Process) error {
	<-p.ended
	return nil
}

func TestSignal(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.running("c")
		w.is(w.Signal(t.Context(), ns, "c", "", 65, false), errdefs.ErrInvalidArgument)
		w.is(w.Signal(t.Context(), ns, "c", "", -1, false), errdefs.ErrInvalidArgument)
		w.is(w.Signal(t.Context(), ns, "c", "x", 9, false), errdefs.ErrNotFound)
		w.ok(w.Signal(t.Context(), ns, "c", "", 0, false))
		w.events.want(t, "create c (created)", "start c (running)", "kill c (running)")
		w.is(w.Resize(t.Context(), ns, "c", "", 80, 24), errdefs.ErrFailedPrecondition) // no terminal
		w.ok(w.Signal(t.Context(), ns, "c", "", 9, true))
		w.settled()
		w.is(w.Signal(t.Context(), ns, "c", "", 9, true), errdefs.ErrFailedPrecondition)
	})
}

func TestOOM(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.running("c")
		w.HandleOOM(wire.OOM{Process: wire.Process{Namespace: ns, ID: "c"}, Count: 1})
		w.HandleOOM(wire.OOM{Process: wire.Process{Namespace: ns, ID: "not there"}})
		w.HandleExit(wire.Exited{Process: wire.Process{Namespace: ns, ID: "not there"}})
		w.HandleExit(wire.Exited{Process: wire.Process{Namespace: ns, ID: "c", Exec: "not there"}})
		w.HandleExit(wire.Exited{Process: wire.Process{Namespace: ns, ID: "c"}, Exit: wire.Exit{Code: 137, OOM: true}})
		w.HandleExit(wire.Exited{Process: wire.Process{Namespace: ns, ID: "c"}, Exit: wire.Exit{Code: 1}}) // told twice
		w.events.want(t, "create c (created)", "start c (running)", "oom c (running)", "oom c (exited)", "exit c (exited)")
		if exit, err := w.Wait(t.Context(), ns, "c", ""); err != nil || exit.Code != 137 || !exit.OOM {
			t.Errorf("exit %v, %v", exit, err)
		}
	})
}

func pointer[T any](v T) *T { return &v }

func TestUpdate(t *testing.T) {
	for _, s := range []State{Created, Running, Exited} {
		t.Run(string(s), func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				w.bring(s)
				for _, r := range []specs.LinuxResources{
					{Memory: &specs.LinuxMemory{Limit: pointer(int64(64 << 20))}},
					{Memory: &specs.LinuxMemory{Reservation: pointer(int64(32 << 20))}, CPU: &specs.LinuxCPU{Shares: pointer(uint64(512))}},
					{Memory: &specs.LinuxMemory{Limit: pointer(int64(128 << 20))}},
				} {
					w.ok(w.Update(t.Context(), ns, "c", &r))
				}
				if n := w.sandboxes.called("update"); n != map[State]int{Running: 3}[s] {
					t.Errorf("the supervisor was told %d times", n)
				}
				doc, err := w.Spec(t.Context(), ns, "c")
				w.ok(err)
				r := doc.Linux.Resources
				if *r.Memory.Limit != 128<<20 || *r.Memory.Reservation != 32<<20 || *r.CPU.Shares != 512 {
					t.Errorf("limits %+v %+v", r.Memory, r.CPU)
				}
				w.again()
				w.recover()
				if c, err := w.Get(t.Context(), ns, "c"); err != nil || *c.Request.Resources.Memory.Limit != 128<<20 {
					t.Errorf("recorded: %+v, %v", c.Request.Resources, err)
				}
			})
		})
	}
}

// TestUpdateOfOneThatJoinsAnother does not need the other.
func TestUpdateOfOneThatJoinsAnother(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.bring(Running)
		o := w.options("joined")
		o.Request.Namespaces = map[string]string{"network": "container:c"}
		w.create(o)
		w.start("joined")
		w.sandboxes.exit(t, "c", "", 0)
		w.settled()
		memory := &specs.LinuxMemory{Limit: pointer(int64(64 << 20))}
		w.ok(w.Update(t.Context(), ns, "joined", &specs.LinuxResources{Memory: memory}))
		w.sandboxes.exit(t, "joined", "", 0)
		w.settled()
		again := w.start("c")
		w.start("joined")
		doc, err := w.Spec(t.Context(), ns, "joined")
		w.ok(err)
		if *doc.Linux.Resources.Memory.Limit != 64<<20 {
			t.Errorf("limits %+v", doc.Linux.Resources.Memory)
		}
		path := fmt.Sprintf("/proc/%d/ns/net", again.PID)
		if !slices.ContainsFunc(doc.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Path == path }) {
			t.Errorf("namespaces %v; want %s", doc.Linux.Namespaces, path)
		}
	})
}

func TestUpdateFails(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.bring(Running)
		w.sandboxes.setFail(`update {"memory":{"limit":67108864}} c`, errBroken)
		w.sandboxes.setFail(`update {"memory":{"limit":67108864}}`, errBroken)
		err := w.Update(t.Context(), ns, "c", &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: pointer(int64(64 << 20))}})
		w.is(err, errBroken)
		if c, err := w.Get(t.Context(), ns, "c"); err != nil || c.Request.Resources != nil {
			t.Errorf("recorded all the same: %+v, %v", c.Request.Resources, err)
		}
		w.events.want(t, "create c (created)", "start c (running)")
	})
}

func TestMergeResources(t *testing.T) {
	old := &specs.LinuxResources{
		Memory:         &specs.LinuxMemory{Limit: pointer(int64(1)), Swap: pointer(int64(2))},
		Unified:        map[string]string{"a": "1"},
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 5}},
		BlockIO: &specs.LinuxBlockIO{WeightDevice: []specs.LinuxWeightDevice{
			{LinuxBlockIODevice: specs.LinuxBlockIODevice{Major: 8}, Weight: pointer(uint16(10)), LeafWeight: pointer(uint16(20))},
		}},
	}
	over := &specs.LinuxResources{
		Memory:  &specs.LinuxMemory{Limit: pointer(int64(3))},
		Unified: map[string]string{"b": "2"},
		BlockIO: &specs.LinuxBlockIO{WeightDevice: []specs.LinuxWeightDevice{
			{LinuxBlockIODevice: specs.LinuxBlockIODevice{Major: 9}, Weight: pointer(uint16(30))},
		}},
	}
	want := &specs.LinuxResources{
		Memory:         &specs.LinuxMemory{Limit: pointer(int64(3)), Swap: pointer(int64(2))},
		Unified:        map[string]string{"a": "1", "b": "2"},
		HugepageLimits: old.HugepageLimits,
		BlockIO:        over.BlockIO,
	}
	for name, c := range map[string]Container{
		"request": {Request: &spec.Request{Resources: old}},
		"spec":    {Spec: &specs.Spec{Linux: &specs.Linux{Resources: old}}},
	} {
		got, err := mergeResources(c, over)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if *old.Memory.Limit != 1 || len(old.Unified) != 1 {
			t.Errorf("%s: the old limits are changed", name)
		}
	}
	if got, err := mergeResources(Container{Request: &spec.Request{}}, over); err != nil || !reflect.DeepEqual(got, over) {
		t.Errorf("of none: %+v, %v", got, err)
	}
}

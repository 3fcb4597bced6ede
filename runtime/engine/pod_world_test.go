package engine

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/internal/testenv"
)

// podOptions are of a pod with everything of its own, the process namespace included.
func (w *world) podOptions(id string) PodOptions {
	w.t.Helper()
	testenv.Root(w.t)
	return PodOptions{ID: id, Name: "web", PodNamespace: "shop", UID: "1-2", PID: ModePod}
}

// run runs a pod.
func (w *world) run(o PodOptions) Pod {
	w.t.Helper()
	p, err := w.RunPod(w.t.Context(), ns, o)
	w.ok(err)
	return p
}

// within makes a container in a pod, and starts it.
func (w *world) within(pod, id string) {
	w.t.Helper()
	o := w.options(id)
	o.Pod = pod
	w.create(o)
	w.start(id)
}

// podState is a pod's as it is on disk; "-" when it has no record.
func (w *world) podState(id string) PodState {
	w.t.Helper()
	p, err := w.Pods.Get(ns, id)
	if errdefs.IsNotFound(err) {
		return "-"
	}
	w.ok(err)
	return p.State
}

// gone removes a pod, and nothing may be left.
func (w *world) gone(id string) {
	w.t.Helper()
	if err := w.RemovePod(context.Background(), ns, id); err != nil && !errdefs.IsNotFound(err) {
		w.t.Error(err)
	}
	w.settled()
	w.clean()
}

// kinds are pods of every make.
func (w *world) kinds() map[string]PodOptions {
	maps := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	all := map[string]PodOptions{}
	for _, pid := range []string{ModePod, ModeContainer, ModeNode} {
		for _, ipc := range []string{ModePod, ModeNode} {
			for _, net := range []string{ModePod, ModeNode} {
				o := w.podOptions("p")
				o.PID, o.IPC, o.Network = pid, ipc, net
				all[fmt.Sprintf("pid %s, ipc %s, network %s", pid, ipc, net)] = o
			}
		}
	}
	o := w.podOptions("p")
	o.UIDMap, o.GIDMap = maps, maps
	all["a user namespace"] = o
	return all
}

package cri

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/engine"
)

// RunPodSandbox makes a pod and its network. The same metadata asked for again, also while the first call is under way,
// gives the same pod.
func (s *runtimeServer) RunPodSandbox(ctx context.Context, r *v1.RunPodSandboxRequest) (*v1.RunPodSandboxResponse, error) {
	if err := s.checkHandler(r.GetRuntimeHandler()); err != nil {
		return nil, err
	}
	o, done, err := s.podOptions(ctx, r.GetConfig(), r.GetRuntimeHandler())
	if err != nil {
		return nil, err
	}
	defer done()
	p, err := s.Engine.RunPod(ctx, Namespace, o)
	if err != nil {
		return nil, err
	}
	return &v1.RunPodSandboxResponse{PodSandboxId: p.ID}, nil
}

// checkHandler refuses a runtime handler that is not configured.
func (d *Deps) checkHandler(name string) error {
	runtimes := d.Runtimes()
	if _, known := runtimes[name]; known || name == "" {
		return nil
	}
	known := `only the default one ("")`
	if names := slices.DeleteFunc(slices.Sorted(maps.Keys(runtimes)), func(n string) bool { return n == "" }); len(names) > 0 {
		known = `"" (the default) and ` + strings.Join(names, ", ")
	}
	return invalid("runtime handler %.64q is not known: there is %s; others come from [runtimes] in the configuration", name, known)
}

// StopPodSandbox is idempotent; a pod that is not there is stopped.
func (s *runtimeServer) StopPodSandbox(ctx context.Context, r *v1.StopPodSandboxRequest) (*v1.StopPodSandboxResponse, error) {
	if err := checkID("pod", r.GetPodSandboxId()); err != nil {
		return nil, err
	}
	err := s.Engine.StopPod(ctx, Namespace, r.GetPodSandboxId())
	return &v1.StopPodSandboxResponse{}, unlessGone(err)
}

// RemovePodSandbox is idempotent; the pod's containers go with it.
func (s *runtimeServer) RemovePodSandbox(ctx context.Context, r *v1.RemovePodSandboxRequest) (*v1.RemovePodSandboxResponse, error) {
	if err := checkID("pod", r.GetPodSandboxId()); err != nil {
		return nil, err
	}
	err := s.Engine.RemovePod(ctx, Namespace, r.GetPodSandboxId())
	return &v1.RemovePodSandboxResponse{}, unlessGone(err)
}

// UpdatePodSandboxResources notes what the kubelet has written to the pod's cgroup.
func (s *runtimeServer) UpdatePodSandboxResources(ctx context.Context, r *v1.UpdatePodSandboxResourcesRequest) (*v1.UpdatePodSandboxResourcesResponse, error) {
	p, err := s.pod(ctx, r.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	resources, err := linuxResources(r.GetResources(), &s.Host)
	if err != nil {
		return nil, err
	}
	overhead, err := linuxResources(r.GetOverhead(), &s.Host)
	if err != nil {
		return nil, err
	}
	if err := s.Engine.UpdatePod(ctx, Namespace, p.ID, resources, overhead); err != nil {
		return nil, err
	}
	return &v1.UpdatePodSandboxResourcesResponse{}, nil
}

// checkID refuses what can be no id, before it is looked for.
func checkID(what, id string) error {
	if id == "" {
		return invalid("the %s's id is empty: name one", what)
	}
	if len(id) > 128 {
		return invalid("the %s's id has %d characters: none has more than 128", what, len(id))
	}
	return nil
}

// unlessGone turns "not found" into success, for what is to be gone.
func unlessGone(err error) error {
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// pod finds a pod that can be seen: one that is being removed cannot, unless that has failed.
func (s *runtimeServer) pod(ctx context.Context, id string) (engine.Pod, error) {
	if err := checkID("pod", id); err != nil {
		return engine.Pod{}, err
	}
	p, err := s.Engine.Pod(ctx, Namespace, id)
	if err == nil && !podVisible(p) {
		return engine.Pod{}, notFound("pod %s is %s", p.ID, p.State)
	}
	return p, err
}

func podVisible(p engine.Pod) bool {
	return p.State == engine.PodReady || p.State == engine.PodStopped || p.Left != ""
}

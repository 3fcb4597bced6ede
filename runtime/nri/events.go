package nri

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/nri/pkg/adaptation"
	"github.com/containerd/nri/pkg/api"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/minirt/mini/runtime/plugin"
)

// Hold keeps plugins from joining until it is released.
func (a *Adaptation) Hold() func() { return a.lib.BlockPluginSync().Unblock }

// Pod tells plugins of a pod. An error is that of a plugin, which did not time out.
func (a *Adaptation) Pod(ctx context.Context, event plugin.PodEvent, p plugin.Pod) error {
	switch event {
	case plugin.PodRun:
		return a.lib.RunPodSandbox(ctx, &adaptation.RunPodSandboxRequest{Pod: pod(p)})
	case plugin.PodUpdated:
		return a.lib.PostUpdatePodSandbox(ctx, &adaptation.PostUpdatePodSandboxRequest{Pod: pod(p)})
	case plugin.PodStopped:
		return a.lib.StopPodSandbox(ctx, &adaptation.StopPodSandboxRequest{Pod: pod(p)})
	case plugin.PodRemoved:
		return a.lib.RemovePodSandbox(ctx, &adaptation.RemovePodSandboxRequest{Pod: pod(p)})
	}
	return fmt.Errorf("nri: there is no event %q of pods", event)
}

// UpdatePod tells plugins of what a pod's client is about to account for it.
func (a *Adaptation) UpdatePod(ctx context.Context, p plugin.Pod, overhead, resources *specs.LinuxResources) error {
	_, err := a.lib.UpdatePodSandbox(ctx, &adaptation.UpdatePodSandboxRequest{
		Pod: pod(p), OverheadLinuxResources: limits(overhead), LinuxResources: limits(resources),
	})
	return err
}

// Create has plugins change a container that is being made. What they make of its limits is apart from the rest, for
// later changes of the limits.
func (a *Adaptation) Create(ctx context.Context, p plugin.Pod, c plugin.Container) (plugin.Adjusted, error) {
	of := container(c)
	before := of.Env
	answer, err := a.lib.CreateContainer(ctx, &adaptation.CreateContainerRequest{Pod: pod(p), Container: of})
	if err != nil {
		return plugin.Adjusted{}, err
	}
	answer.Adjust.Env = append(answer.Adjust.Env, removed(before, of.Env)...)
	adjusted := plugin.Adjusted{Updates: updates(answer.GetUpdate())}
	adjustment := answer.GetAdjust().Strip()
	if r := adjustment.GetLinux().GetResources(); r != nil {
		adjusted.Resources = asked(r)
		if adjusted.Resources, err = a.blockIO(adjusted.Resources, r); err != nil {
			return plugin.Adjusted{}, err
		}
		adjustment.Linux.Resources = nil
		adjustment = adjustment.Strip()
	}
	if adjustment == nil {
		return adjusted, nil
	}
	adjusted.Changes, err = protojson.Marshal(adjustment)
	return adjusted, err
}

// blockIO adds to limits what the class of block I/O means that a plugin asks for.
func (a *Adaptation) blockIO(limits *specs.LinuxResources, r *api.LinuxResources) (*specs.LinuxResources, error) {
	class := r.GetBlockioClass().Get()
	if class == nil || *class == "" {
		return limits, nil
	}
	if a.BlockIO == nil {
		return nil, fmt.Errorf("a plugin asks for the block I/O class %q, and there are none here: %w", *class, errdefs.ErrFailedPrecondition)
	}
	means, err := a.BlockIO(*class)
	if err != nil || means == nil {
		return limits, err
	}
	if limits == nil {
		limits = &specs.LinuxResources{}
	}
	limits.BlockIO = means
	return limits, nil
}

// removed are the marks of environment variables that plugins have taken away: the library does so in the request, and
// leaves them out of the answer.
func removed(before, after []string) []*adaptation.KeyValue {
	has := map[string]bool{}
	for _, e := range after {
		key, _, _ := strings.Cut(e, "=")
		has[key] = true
	}
	var marks []*adaptation.KeyValue
	for _, e := range before {
		if key, _, _ := strings.Cut(e, "="); !has[key] {
			marks = append(marks, &adaptation.KeyValue{Key: api.MarkForRemoval(key)})
		}
	}
	return marks
}

// Adjust makes the changes of Create in a document.
func (a *Adaptation) Adjust(s *specs.Spec, changes json.RawMessage) error {
	var adjustment adaptation.ContainerAdjustment
	if err := protojson.Unmarshal(changes, &adjustment); err != nil {
		return err
	}
	return adjust(s, &adjustment, a.CDI)
}

// Update has plugins change limits that a container is to have.
func (a *Adaptation) Update(ctx context.Context, p plugin.Pod, c plugin.Container, r *specs.LinuxResources) (*specs.LinuxResources, []plugin.Update, error) {
	answer, err := a.lib.UpdateContainer(ctx, &adaptation.UpdateContainerRequest{Pod: pod(p), Container: container(c), LinuxResources: limits(r)})
	if err != nil {
		return nil, nil, err
	}
	var own *specs.LinuxResources
	var others []plugin.Update
	for _, u := range answer.GetUpdate() { // the library adds the container's own, which may be nil
		switch {
		case u.GetContainerId() == c.ID:
			own = asked(u.GetLinux().GetResources())
		case u != nil:
			others = append(others, update(u))
		}
	}
	return own, others, nil
}

// Container tells plugins of a container.
func (a *Adaptation) Container(ctx context.Context, event plugin.ContainerEvent, p plugin.Pod, c plugin.Container) ([]plugin.Update, error) {
	of, in := container(c), pod(p)
	switch event {
	case plugin.ContainerCreated:
		return nil, a.lib.PostCreateContainer(ctx, &adaptation.PostCreateContainerRequest{Pod: in, Container: of})
	case plugin.ContainerStart:
		return nil, a.lib.StartContainer(ctx, &adaptation.StartContainerRequest{Pod: in, Container: of})
	case plugin.ContainerStarted:
		return nil, a.lib.PostStartContainer(ctx, &adaptation.PostStartContainerRequest{Pod: in, Container: of})
	case plugin.ContainerUpdated:
		return nil, a.lib.PostUpdateContainer(ctx, &adaptation.PostUpdateContainerRequest{Pod: in, Container: of})
	case plugin.ContainerStopped:
		answer, err := a.lib.StopContainer(ctx, &adaptation.StopContainerRequest{Pod: in, Container: of})
		return updates(answer.GetUpdate()), err
	case plugin.ContainerRemoved:
		return nil, a.lib.RemoveContainer(ctx, &adaptation.RemoveContainerRequest{Pod: in, Container: of})
	}
	return nil, fmt.Errorf("nri: there is no event %q of containers", event)
}

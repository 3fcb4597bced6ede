package cri

import (
	"context"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/engine"
)

// ContainerStatus tells of one container.
func (s *runtimeServer) ContainerStatus(ctx context.Context, r *v1.ContainerStatusRequest) (*v1.ContainerStatusResponse, error) {
	c, err := s.container(ctx, r.GetContainerId())
	if err != nil {
		return nil, err
	}
	k := unpack(c)
	out := &v1.ContainerStatusResponse{Status: s.containerStatus(ctx, k)}
	if r.GetVerbose() {
		out.Info, err = s.containerInfo(ctx, k)
	}
	return out, err
}

// containerStatus is a container's status with all fields.
func (s *runtimeServer) containerStatus(ctx context.Context, k kept) *v1.ContainerStatus {
	out := &v1.ContainerStatus{
		Id: k.ID, Metadata: k.metadata(), State: containerState(k.Container), CreatedAt: nanos(k.CreatedAt),
		Image: imageSpec(k), ImageRef: k.ImageID, ImageId: k.ImageID, Labels: k.Labels, Annotations: k.config.GetAnnotations(),
		Mounts: k.config.GetMounts(), LogPath: k.Log.Path, StopSignal: stopSignal(k.Container),
	}
	if out.State != v1.ContainerState_CONTAINER_CREATED {
		out.StartedAt = nanos(k.StartedAt)
	}
	if e := k.Exit; e != nil && !alive(k.Container) {
		out.FinishedAt, out.ExitCode = nanos(e.Time), int32(e.Code)
		out.Reason, out.Message = exitReason(k.Container)
	}
	if q := k.Request; q != nil {
		out.Resources = &v1.ContainerResources{Linux: criResources(q.Resources, q.OOMScoreAdj)}
	}
	if document, err := s.Engine.Spec(ctx, Namespace, k.ID); err == nil {
		out.User = containerUserOf(document)
	}
	return out
}

func containerState(c engine.Container) v1.ContainerState {
	switch c.State {
	case engine.Created:
		return v1.ContainerState_CONTAINER_CREATED
	case engine.Running, engine.Paused:
		return v1.ContainerState_CONTAINER_RUNNING
	case engine.Exited:
		return v1.ContainerState_CONTAINER_EXITED
	case engine.Removing: // in vain so far
		if c.Exit != nil {
			return v1.ContainerState_CONTAINER_EXITED
		}
	}
	return v1.ContainerState_CONTAINER_UNKNOWN
}

// exitReason are the words that Kubernetes shows for how a container ended.
func exitReason(c engine.Container) (reason, message string) {
	switch e := c.Exit; {
	case c.ForbiddenCalls != "":
		return "seccomp killed", "Used forbidden syscalls: " + c.ForbiddenCalls // the words of CRI-O
	case c.StartedAt.IsZero():
		return "StartError", e.Reason
	case e.OOM:
		return "OOMKilled", ""
	case e.Reason != "":
		return "Unknown", e.Reason
	case e.Code == 0:
		return "Completed", ""
	}
	return "Error", ""
}

// imageSpec is the image as the client asked for it, by the name that it resolved to.
func imageSpec(k kept) *v1.ImageSpec {
	out := &v1.ImageSpec{Image: k.Image}
	if asked := k.config.GetImage(); asked != nil {
		out = proto.CloneOf(asked)
		if k.Image != "" {
			out.Image = k.Image
		}
		out.ImageRef = k.ImageID
	}
	return out
}

func stopSignal(c engine.Container) v1.Signal {
	for _, name := range []string{value(c.Request).StopSignal, c.ImageConfig.StopSignal, "TERM"} {
		if sig := signalOf(name); name != "" && sig != v1.Signal_SIGNAL_RUNTIME_DEFAULT {
			return sig
		}
	}
	return v1.Signal_SIGNAL_RUNTIME_DEFAULT
}

func containerUserOf(document *specs.Spec) *v1.ContainerUser {
	if document == nil || document.Process == nil {
		return nil
	}
	u := document.Process.User
	out := &v1.LinuxContainerUser{Uid: int64(u.UID), Gid: int64(u.GID)}
	for _, g := range u.AdditionalGids {
		out.SupplementalGroups = append(out.SupplementalGroups, int64(g))
	}
	return &v1.ContainerUser{Linux: out}
}

// containerInfo is what a client sees that asks for details, with the keys that containerd has made usual.
func (s *runtimeServer) containerInfo(ctx context.Context, k kept) (map[string]string, error) {
	details := map[string]any{
		"sandboxID": k.Pod, "pid": k.PID, "removing": k.State == engine.Removing, "snapshotKey": k.Snapshot,
		"snapshotter": k.Snapshotter, "runtimeType": k.Runtime, "config": k.config, "supervisor": k.Supervisor,
		"cgroupPaths": k.CgroupPaths, "imageDigest": k.ImageDigest,
	}
	if len(k.Warnings) > 0 {
		details["warnings"] = k.Warnings
	}
	if document, err := s.Engine.Spec(ctx, Namespace, k.ID); err == nil {
		details["runtimeSpec"] = document
	}
	return info(details)
}

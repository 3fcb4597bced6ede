package cri

import (
	"context"
	"math"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/engine"
)

// StartContainer runs the first process; a container of a restored pod goes on where its checkpoint was made.
func (s *runtimeServer) StartContainer(ctx context.Context, r *v1.StartContainerRequest) (*v1.StartContainerResponse, error) {
	c, err := s.container(ctx, r.GetContainerId())
	if err != nil {
		return nil, err
	}
	if c.State != engine.Created {
		return nil, unable("container %s is %s: a container is started once", c.ID, c.State)
	}
	restore := unpack(c).Restore
	if _, err := s.Engine.Start(ctx, Namespace, c.ID, engine.StartOptions{Restore: restore, TCPEstablished: restore != ""}); err != nil {
		return nil, err
	}
	return &v1.StartContainerResponse{}, nil
}

// StopContainer is idempotent. The signal is the container's, else its image's, else TERM.
func (s *runtimeServer) StopContainer(ctx context.Context, r *v1.StopContainerRequest) (*v1.StopContainerResponse, error) {
	timeout, err := seconds("stop timeout", r.GetTimeout())
	if err != nil {
		return nil, err
	}
	c, err := s.container(ctx, r.GetContainerId())
	if errdefs.IsNotFound(err) || err == nil && !alive(c) {
		return &v1.StopContainerResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	err = s.Engine.Stop(ctx, Namespace, c.ID, engine.StopOptions{Timeout: timeout})
	if errdefs.IsFailedPrecondition(err) {
		// It may have ended by itself between the two looks.
		if now, gone := s.Engine.Get(ctx, Namespace, c.ID); errdefs.IsNotFound(gone) || gone == nil && !alive(now) {
			err = nil
		}
	}
	return &v1.StopContainerResponse{}, unlessGone(err)
}

// RemoveContainer is idempotent, and kills what runs.
func (s *runtimeServer) RemoveContainer(ctx context.Context, r *v1.RemoveContainerRequest) (*v1.RemoveContainerResponse, error) {
	if err := checkID("container", r.GetContainerId()); err != nil {
		return nil, err
	}
	_, err := s.Engine.Delete(ctx, Namespace, r.GetContainerId(), engine.DeleteOptions{Force: true})
	if err = unlessGone(err); err != nil {
		return nil, err
	}
	return &v1.RemoveContainerResponse{}, nil
}

// ReopenContainerLog makes the log file anew, after the kubelet has renamed it.
func (s *runtimeServer) ReopenContainerLog(ctx context.Context, r *v1.ReopenContainerLogRequest) (*v1.ReopenContainerLogResponse, error) {
	c, err := s.running(ctx, r.GetContainerId())
	if err != nil {
		return nil, err
	}
	if err := s.Engine.ReopenLog(ctx, Namespace, c.ID); err != nil {
		return nil, err
	}
	return &v1.ReopenContainerLogResponse{}, nil
}

// UpdateContainerResources changes limits; what is 0 or "" stays as it is.
func (s *runtimeServer) UpdateContainerResources(ctx context.Context, r *v1.UpdateContainerResourcesRequest) (*v1.UpdateContainerResourcesResponse, error) {
	c, err := s.container(ctx, r.GetContainerId())
	if err != nil {
		return nil, err
	}
	resources, err := linuxResources(r.GetLinux(), &s.Host)
	if err == nil {
		resources, err = s.Policy().Resources(c.Runtime, resources, &s.Host)
	}
	if err != nil {
		return nil, err
	}
	if resources != nil {
		if err := s.checkMemory(ctx, c, resources.Memory); err != nil {
			return nil, err
		}
		if err := s.Engine.Update(ctx, Namespace, c.ID, resources); err != nil {
			return nil, err
		}
	}
	return &v1.UpdateContainerResourcesResponse{}, nil
}

// checkMemory refuses a memory limit below what a running container needs already: the kernel would end its processes
// (cgroup v2), or refuse with EBUSY (v1). What it could give back, old pages of files, does not count.
func (s *runtimeServer) checkMemory(ctx context.Context, c engine.Container, m *specs.LinuxMemory) error {
	limit := value(value(m).Limit)
	if limit <= 0 || !alive(c) {
		return nil
	}
	all, err := s.Engine.Stats(ctx, Namespace, []string{c.ID}, 0)
	if err != nil {
		return err
	}
	if needs := all[c.ID].Memory.WorkingSet; needs > uint64(limit) {
		return unable("container %s: memory limit %d is below the %d bytes that it needs now: have it give some back first, or make a new one", c.ID, limit, needs)
	}
	return nil
}

// container finds a container that can be seen.
func (s *runtimeServer) container(ctx context.Context, id string) (engine.Container, error) {
	if err := checkID("container", id); err != nil {
		return engine.Container{}, err
	}
	c, err := s.Engine.Get(ctx, Namespace, id)
	if err == nil && !visible(c) {
		return engine.Container{}, notFound("container %s is %s", c.ID, c.State)
	}
	return c, err
}

// running finds a container that has a process.
func (s *runtimeServer) running(ctx context.Context, id string) (engine.Container, error) {
	c, err := s.container(ctx, id)
	if err == nil && !alive(c) {
		return engine.Container{}, unable("container %s is %s: it must be running", c.ID, c.State)
	}
	return c, err
}

func alive(c engine.Container) bool { return c.State == engine.Running || c.State == engine.Paused }

// visible leaves out what is being made or removed, and the process that holds a pod's PID namespace. What a removal has
// left is seen: else nobody would remove it again.
func visible(c engine.Container) bool {
	return c.Role == "" && (c.Left != "" || c.State != engine.Creating && c.State != engine.Removing)
}

// seconds is a timeout of a request.
func seconds(what string, n int64) (time.Duration, error) {
	if n < 0 {
		return 0, invalid("%s %d s: it can't be negative", what, n)
	}
	return time.Duration(min(n, math.MaxInt64/int64(time.Second))) * time.Second, nil
}

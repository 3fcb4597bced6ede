package cri

import (
	"context"
	"fmt"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/engine"
)

// CreateContainer makes a container in a pod that is ready.
func (s *runtimeServer) CreateContainer(ctx context.Context, r *v1.CreateContainerRequest) (*v1.CreateContainerResponse, error) {
	p, err := s.pod(ctx, r.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	if p.State != engine.PodReady {
		return nil, unable("pod %s is %s: a container needs one that is ready", p.ID, p.State)
	}
	config := r.GetConfig()
	o, err := containerOptions(p, config, &s.Host)
	if err != nil {
		return nil, err
	}
	o.ImageVolumes = s.ImageVolumes
	keepAbsent(o.Request.Mounts, s.RejectAbsent)
	if err := s.target(ctx, p, config.GetLinux().GetSecurityContext().GetNamespaceOptions(), o.Request); err != nil {
		return nil, err
	}
	// The id is kept: the image may have lost its name, or be gone, while the container is still asked about.
	image, err := s.Images.Resolve(ctx, Namespace, config.GetImage().GetImage(), "")
	if err != nil {
		return nil, err
	}
	if o.Front, err = keepContainer(config, image.ConfigDigest.String(), ""); err != nil {
		return nil, err
	}
	c, err := s.Engine.Create(ctx, Namespace, o)
	if err != nil {
		return nil, err
	}
	return &v1.CreateContainerResponse{ContainerId: c.ID}, nil
}

// target checks the container whose processes another one is to see: it must run, in the same pod.
func (s *runtimeServer) target(ctx context.Context, p engine.Pod, o *v1.NamespaceOption, r *spec.Request) error {
	if o.GetPid() != v1.NamespaceMode_TARGET {
		return nil
	}
	c, err := s.running(ctx, o.GetTargetId())
	if err != nil {
		return fmt.Errorf("target of the pid namespace: %w", err)
	}
	if c.Pod != p.ID {
		return invalid("target of the pid namespace: container %s is not of pod %s", c.ID, p.ID)
	}
	r.Namespaces["pid"] = "container:" + c.ID
	return nil
}

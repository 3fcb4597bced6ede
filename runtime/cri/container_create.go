package cri

import (
	"context"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/engine"
)

// CreateContainer makes a container in a pod that is ready.
func (s *runtimeServer) CreateContainer(ctx context.Context, r *v1.CreateContainerRequest) (*v1.CreateContainerResponse, error) {
	p, err := s.pod(ctx, r.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	if p.State != engine.PodReady {
		return nil, unable("pod %s is not ready: make a new one", p.ID)
	}
	config := r.GetConfig()
	o, err := containerOptions(p, config, &s.Host)
	if err != nil {
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

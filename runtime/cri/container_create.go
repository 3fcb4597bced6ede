package cri

import (
	"context"
	"fmt"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/engine"
	images "github.com/minirt/mini/runtime/image"
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
	if limit := s.Policy().CreateTimeout(p.Runtime); limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, fmt.Errorf("container_create_timeout of the runtime handler, %s, is over", limit))
		defer cancel()
	}
	config := r.GetConfig()
	saved, err := s.archivedContainer(ctx, config)
	if err != nil {
		return nil, err
	}
	if saved != nil {
		config = saved.config
	}
	o, err := s.containerOptions(ctx, p, config)
	if err != nil {
		return nil, err
	}
	if err := s.target(ctx, p, config.GetLinux().GetSecurityContext().GetNamespaceOptions(), o.Request); err != nil {
		return nil, err
	}
	// The id is kept: the image may have lost its name, or be gone, while the container is still asked about.
	image, err := s.Images.Resolve(ctx, Namespace, config.GetImage().GetImage(), "")
	if err != nil {
		return nil, err
	}
	asked := config.GetImage().GetUserSpecifiedImage()
	err = s.Images.CheckTrust(ctx, Namespace, images.TrustOptions{Image: config.GetImage().GetImage(), Name: asked, Namespace: p.PodNamespace})
	if err != nil {
		return nil, imageError(ctx, err)
	}
	o.InPod = config.GetMetadata().GetName()
	if o.Front, err = keepContainer(config, image.ConfigDigest.String(), saved.images()); err != nil {
		return nil, err
	}
	if saved != nil {
		o.ID = saved.id
	}
	c, err := s.Engine.Create(ctx, Namespace, o)
	if err == nil && saved != nil {
		err = s.unpackArchive(ctx, saved, c)
	}
	if err != nil {
		return nil, err
	}
	return &v1.CreateContainerResponse{ContainerId: c.ID}, nil
}

// containerOptions is what the client asks for, with what the owner of the node says of it.
func (s *runtimeServer) containerOptions(ctx context.Context, p engine.Pod, config *v1.ContainerConfig) (engine.CreateOptions, error) {
	o, err := containerOptions(p, config, &s.Host)
	if err != nil {
		return o, err
	}
	settings, sandbox := s.Policy(), podConfig(p)
	if err := settings.Container(&o, p, sandbox, config, &s.Host); err != nil {
		return o, err
	}
	if ref := settings.Artifact(p, sandbox.GetAnnotations(), config); ref != "" {
		if o.Request.SeccompProfile, err = s.seccompArtifact(ctx, ref); err != nil {
			return o, fmt.Errorf("container %s: seccomp profile of the image %s: %w", config.GetMetadata().GetName(), ref, err)
		}
	}
	return o, nil
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

package cri

import (
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/proto"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/engine"
)

// podFront is what is kept with a pod's record.
type podFront struct {
	Config []byte `json:"config"` // PodSandboxConfig, in protobuf's encoding
}

// containerFront is what is kept with a container's record.
type containerFront struct {
	Config  []byte `json:"config"`            // ContainerConfig, in protobuf's encoding
	ImageID string `json:"imageID,omitempty"` // digest of the image's config
	Restore string `json:"restore,omitempty"` // directory of the checkpoint that a start goes on from
}

func keepPod(config *v1.PodSandboxConfig) (json.RawMessage, error) {
	data, err := proto.Marshal(config)
	if err != nil {
		return nil, invalid("pod configuration: %v", err)
	}
	return json.Marshal(podFront{Config: data})
}

func keepContainer(config *v1.ContainerConfig, imageID, restore string) (json.RawMessage, error) {
	data, err := proto.Marshal(config)
	if err != nil {
		return nil, invalid("container configuration: %v", err)
	}
	return json.Marshal(containerFront{Config: data, ImageID: imageID, Restore: restore})
}

// podConfig is what the client sent for a pod. One that was made otherwise, or whose record is damaged, has an empty one:
// it can still be listed, stopped and removed.
func podConfig(p engine.Pod) *v1.PodSandboxConfig {
	var front podFront
	config := &v1.PodSandboxConfig{}
	if json.Unmarshal(p.Front, &front) != nil || proto.Unmarshal(front.Config, config) != nil {
		return &v1.PodSandboxConfig{}
	}
	return config
}

// kept is a container's record with what the client sent for it.
type kept struct {
	engine.Container
	containerFront
	config *v1.ContainerConfig
}

// unpack reads what is kept with a container. As with pods, a damaged one is empty.
func unpack(c engine.Container) kept {
	k := kept{Container: c, config: &v1.ContainerConfig{}}
	if json.Unmarshal(c.Front, &k.containerFront) != nil || proto.Unmarshal(k.containerFront.Config, k.config) != nil {
		k.config = &v1.ContainerConfig{}
	}
	return k
}

// metadata is a container's name towards the kubelet; one that was made by another client goes by its id.
func (k kept) metadata() *v1.ContainerMetadata {
	if m := k.config.GetMetadata(); m != nil {
		return m
	}
	return &v1.ContainerMetadata{Name: k.ID}
}

// podKey names a pod towards the client: a second request for it joins the first.
func podKey(m *v1.PodSandboxMetadata) string {
	return fmt.Sprintf("%s/%s/%s/%d", m.GetNamespace(), m.GetName(), m.GetUid(), m.GetAttempt())
}

// containerKey names a container towards the client.
func containerKey(pod string, m *v1.ContainerMetadata) string {
	return fmt.Sprintf("%s/%s/%d", pod, m.GetName(), m.GetAttempt())
}

package cri

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/engine"
)

// PodSandboxStatus tells of a pod and of its containers.
func (s *runtimeServer) PodSandboxStatus(ctx context.Context, r *v1.PodSandboxStatusRequest) (*v1.PodSandboxStatusResponse, error) {
	p, err := s.pod(ctx, r.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	// Taken before the states are read: the kubelet must not take them for newer than they are.
	out := &v1.PodSandboxStatusResponse{Status: podStatus(p), Timestamp: time.Now().UnixNano()}
	if out.ContainersStatuses, err = s.podContainers(ctx, p.ID); err != nil {
		return nil, err
	}
	if r.GetVerbose() {
		out.Info, err = podInfo(p)
	}
	return out, err
}

// podContainers are the statuses of a pod's containers, the newest first: of several attempts at one, the kubelet takes
// the first that it finds for the last.
func (s *runtimeServer) podContainers(ctx context.Context, pod string) ([]*v1.ContainerStatus, error) {
	all, err := s.containers(ctx)
	if err != nil {
		return nil, err
	}
	var out []*v1.ContainerStatus
	for _, c := range all {
		if c.Pod == pod {
			out = append(out, s.containerStatus(ctx, unpack(c)))
		}
	}
	slices.Reverse(out)
	return out, nil
}

func podStatus(p engine.Pod) *v1.PodSandboxStatus {
	out := &v1.PodSandboxStatus{
		Id: p.ID, Metadata: podMetadata(p), State: podState(p), CreatedAt: nanos(p.CreatedAt), Labels: p.Labels,
		Annotations: p.Annotations, RuntimeHandler: p.Runtime, Network: &v1.PodSandboxNetworkStatus{},
		Linux: &v1.LinuxPodSandboxStatus{Namespaces: &v1.Namespace{Options: namespaceOptions(p)}},
	}
	for i, ip := range podIPs(p) {
		if i == 0 {
			out.Network.Ip = ip
			continue
		}
		out.Network.AdditionalIps = append(out.Network.AdditionalIps, &v1.PodIP{Ip: ip})
	}
	return out
}

// podIPs are a pod's own addresses, the preferred one first. With the host's network there are none: the kubelet knows
// the host's.
func podIPs(p engine.Pod) []string {
	if p.Attachment == nil {
		return nil
	}
	var ips []string
	for _, ip := range p.Attachment.IPs {
		ips = append(ips, ip.String())
	}
	return ips
}

func podMetadata(p engine.Pod) *v1.PodSandboxMetadata {
	return &v1.PodSandboxMetadata{Name: p.Name, Uid: p.UID, Namespace: p.PodNamespace, Attempt: p.Attempt}
}

func podState(p engine.Pod) v1.PodSandboxState {
	if p.State == engine.PodReady {
		return v1.PodSandboxState_SANDBOX_READY
	}
	return v1.PodSandboxState_SANDBOX_NOTREADY
}

// namespaceOptions are those that the pod was made with.
func namespaceOptions(p engine.Pod) *v1.NamespaceOption {
	asked := podConfig(p).GetLinux().GetSecurityContext().GetNamespaceOptions()
	out := &v1.NamespaceOption{UsernsOptions: asked.GetUsernsOptions(), TargetId: asked.GetTargetId()}
	mode := func(m string) v1.NamespaceMode {
		switch m {
		case engine.ModeNode:
			return v1.NamespaceMode_NODE
		case engine.ModeContainer:
			return v1.NamespaceMode_CONTAINER
		}
		return v1.NamespaceMode_POD
	}
	out.Network, out.Pid, out.Ipc = mode(p.Network), mode(p.PID), mode(p.IPC)
	return out
}

// podInfo is what a client sees that asks for details, in the form that containerd has made usual.
func podInfo(p engine.Pod) (map[string]string, error) {
	config := podConfig(p)
	p.Front = nil // the same again, in a form for machines
	return info(map[string]any{
		"id": p.ID, "runtimeHandler": p.Runtime, "config": config, "record": p, "attachment": p.Attachment,
	})
}

// info puts details under the one key that clients look for.
func info(details map[string]any) (map[string]string, error) {
	data, err := json.Marshal(details)
	if err != nil {
		return nil, err
	}
	return map[string]string{"info": string(data)}, nil
}

// nanos is a time as the CRI has it; the zero time is 0.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// pod is what ps -o wide wants to know of a container's pod.
type pod struct {
	name, namespace string
	ips             []string
	ports           []string // published ones: HOST->CONTAINER/protocol
}

// podsOf asks for the pods of containers, each once. One that goes meanwhile is left out.
func (r *runtime) podsOf(ctx context.Context, all []*cri.Container) (map[string]pod, error) {
	pods := map[string]pod{}
	for _, c := range all {
		if _, known := pods[c.PodSandboxId]; known {
			continue
		}
		answer, err := r.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: c.PodSandboxId, Verbose: true})
		if notFound(err) {
			pods[c.PodSandboxId] = pod{name: "unknown", namespace: "unknown"}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("status of pod %s: %w", c.PodSandboxId, err)
		}
		pods[c.PodSandboxId] = podOf(answer)
	}
	return pods, nil
}

func podOf(answer *cri.PodSandboxStatusResponse) pod {
	s := answer.GetStatus()
	p := pod{name: s.GetMetadata().GetName(), namespace: s.GetMetadata().GetNamespace(), ports: mappedPorts(answer.GetInfo())}
	if ip := s.GetNetwork().GetIp(); ip != "" {
		p.ips = append(p.ips, ip)
	}
	for _, more := range s.GetNetwork().GetAdditionalIps() {
		p.ips = append(p.ips, more.GetIp())
	}
	return p
}

// mapping is a published port, in the spellings that runtimes use for the pod's configuration.
type mapping struct {
	Protocol       any   `json:"protocol"` // a number (the CRI's enumeration) or its name
	HostPort       int32 `json:"host_port"`
	HostPort2      int32 `json:"hostPort"`
	ContainerPort  int32 `json:"container_port"`
	ContainerPort2 int32 `json:"containerPort"`
}

// mappedPorts finds the port mappings in the runtime's verbose information: the CRI's status does not have them.
func mappedPorts(info map[string]string) []string {
	var found struct {
		Config struct {
			Ports  []mapping `json:"port_mappings"`
			Ports2 []mapping `json:"portMappings"`
		} `json:"config"`
	}
	if json.Unmarshal([]byte(info["info"]), &found) != nil {
		return nil // not every runtime tells
	}
	var ports []string
	for _, m := range append(found.Config.Ports, found.Config.Ports2...) {
		host, container := max(m.HostPort, m.HostPort2), max(m.ContainerPort, m.ContainerPort2)
		protocol := cri.Protocol_TCP.String()
		switch p := m.Protocol.(type) {
		case float64:
			protocol = cri.Protocol(int32(p)).String()
		case string:
			protocol = p
		}
		text := fmt.Sprintf("%d/%s", container, strings.ToLower(protocol))
		if host != 0 {
			text = fmt.Sprintf("%d->%s", host, text)
		}
		ports = append(ports, text)
	}
	return ports
}

// portsOf are a container's ports as the kubelet has noted them, or else its pod's published ones.
func portsOf(p pod, c *cri.Container) []string {
	var noted []struct {
		HostPort      int32  `json:"hostPort"`
		ContainerPort int32  `json:"containerPort"`
		Protocol      string `json:"protocol"`
	}
	if json.Unmarshal([]byte(c.Annotations[annotationPorts]), &noted) != nil || len(noted) == 0 {
		return p.ports
	}
	var ports []string
	for _, n := range noted {
		text := fmt.Sprintf("%d/%s", n.ContainerPort, strings.ToLower(n.Protocol))
		if n.HostPort != 0 {
			text = fmt.Sprintf("%d->%s", n.HostPort, text)
		}
		ports = append(ports, text)
	}
	return ports
}

package cri

import (
	"context"
	"encoding/json"
	"net/netip"
	"runtime"
	"strings"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// runtimeName is what clients see as the name of this runtime.
	runtimeName = "minid"
	// kubeletAPIVersion is what the kubelet compares with its own; it has been this since the CRI began.
	kubeletAPIVersion = "0.1.0"
	apiVersion        = "v1"
)

// Version tells who answers.
func (s *runtimeServer) Version(context.Context, *v1.VersionRequest) (*v1.VersionResponse, error) {
	return &v1.VersionResponse{
		Version: kubeletAPIVersion, RuntimeName: runtimeName, RuntimeVersion: semantic(s.Deps.Version), RuntimeApiVersion: apiVersion,
	}, nil
}

// semantic is a version that the CRI's clients can parse; a build without one is 0.0.0.
func semantic(version string) string {
	version = strings.TrimPrefix(version, "v")
	if version == "" || version[0] < '0' || version[0] > '9' {
		if version == "" {
			return "0.0.0"
		}
		return "0.0.0-" + strings.Trim(strings.ReplaceAll(version, "_", "-"), "()")
	}
	return version
}

// Status tells whether pods can be run, and what the runtime handlers can do.
func (s *runtimeServer) Status(ctx context.Context, r *v1.StatusRequest) (*v1.StatusResponse, error) {
	ready, reason, message := s.Engine.NetworkStatus(ctx)
	runtimes := s.Engine.Runtimes(ctx)
	out := &v1.StatusResponse{
		Status: &v1.RuntimeStatus{Conditions: []*v1.RuntimeCondition{
			{Type: v1.RuntimeReady, Status: true},
			{Type: v1.NetworkReady, Status: ready, Reason: reason, Message: message},
		}},
		RuntimeHandlers: handlers(runtimes),
		Features: &v1.RuntimeFeatures{
			SupplementalGroupsPolicy: true,
			// The pod's user namespace and the host's network go together here: sysfs is bound then instead of mounted.
			UserNamespacesHostNetwork: runtimes[0].UserNamespaces,
			MountOptions:              true,
		},
	}
	if !r.GetVerbose() {
		return out, nil
	}
	details := map[string]any{"config": s.configuration(), "golang": runtime.Version(), "host": s.Host}
	if s.Networks != nil {
		for k, v := range s.Networks() {
			details[k] = v
		}
	}
	if p := problems(runtimes); len(p) > 0 {
		details["runtimeHandlerProblems"] = p
	}
	out.Info = make(map[string]string, len(details))
	for k, v := range details {
		data, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		out.Info[k] = string(data)
	}
	return out, nil
}

func (s *runtimeServer) configuration() any {
	if s.Config == nil {
		return nil
	}
	return s.Config()
}

// RuntimeConfig tells the kubelet which cgroup driver to use.
func (s *runtimeServer) RuntimeConfig(context.Context, *v1.RuntimeConfigRequest) (*v1.RuntimeConfigResponse, error) {
	driver := v1.CgroupDriver_CGROUPFS
	if s.CgroupDriver == "systemd" {
		driver = v1.CgroupDriver_SYSTEMD
	}
	return &v1.RuntimeConfigResponse{Linux: &v1.LinuxRuntimeConfiguration{CgroupDriver: driver}}, nil
}

// UpdateRuntimeConfig takes the ranges of the node's pods, one of each family at most.
func (s *runtimeServer) UpdateRuntimeConfig(ctx context.Context, r *v1.UpdateRuntimeConfigRequest) (*v1.UpdateRuntimeConfigResponse, error) {
	cidrs, err := podCIDRs(r.GetRuntimeConfig().GetNetworkConfig().GetPodCidr())
	if err != nil {
		return nil, err
	}
	if len(cidrs) > 0 {
		if err := s.Engine.SetPodCIDR(ctx, cidrs); err != nil {
			return nil, err
		}
	}
	return &v1.UpdateRuntimeConfigResponse{}, nil
}

func podCIDRs(list string) ([]string, error) {
	if strings.TrimSpace(list) == "" {
		return nil, nil
	}
	var cidrs []string
	families := map[bool]bool{}
	for text := range strings.SplitSeq(list, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return nil, invalid("pod cidr %.64q: give a range like 10.244.0.0/24", text)
		}
		if v4 := p.Addr().Is4(); families[v4] {
			return nil, invalid("pod cidr %.128q: two ranges of one family: give one of IPv4 and one of IPv6 at most", list)
		} else {
			families[v4] = true
		}
		cidrs = append(cidrs, p.Masked().String())
	}
	return cidrs, nil
}

package policy

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/pin"
)

// Pod changes what a pod is to be. free finds as many ids in a row that no other pod has.
func (s *Settings) Pod(o *engine.PodOptions, config *v1.PodSandboxConfig, free func(in IDRange, size uint32) (uint32, error)) error {
	security := config.GetLinux().GetSecurityContext()
	if s.HostNetworkDisableSELinux && o.Network == engine.ModeNode {
		o.SELinux = ""
	}
	//lint:ignore SA1019 older kubelets send nothing else
	silent := security.GetSeccomp() == nil && security.GetSeccompProfilePath() == ""
	if !security.GetPrivileged() {
		o.Seccomp = s.filter(o.Runtime, o.Seccomp, silent)
	}
	if text, ok := s.said(o.Runtime, config.GetAnnotations(), shmSize, ""); ok {
		size, err := bytesOf(text)
		if err != nil {
			return err
		}
		o.ShmSize = size
	}
	if text, ok := s.said(o.Runtime, config.GetAnnotations(), usernsMode, ""); ok {
		if err := s.userNamespace(o, security, text, free); err != nil {
			return fmt.Errorf("annotation %s: %w", usernsMode.name, err)
		}
	}
	if s.NoHostPorts {
		o.Ports = nil
	}
	o.Sysctls = s.sysctls(*o)
	return nil
}

// sysctls are a pod's kernel parameters with the default ones that it has the namespaces for.
func (s *Settings) sysctls(o engine.PodOptions) map[string]string {
	set := map[string]string{}
	for name, v := range s.Sysctls {
		file, err := pin.SysctlPath(name)
		if err != nil {
			continue // the configuration was checked
		}
		kind, _ := spec.SysctlNamespace(file)
		switch kind {
		case specs.NetworkNamespace, specs.UTSNamespace:
			if o.Network == engine.ModePod {
				set[name] = v
			}
		case specs.IPCNamespace:
			if o.IPC == engine.ModePod {
				set[name] = v
			}
		}
	}
	maps.Copy(set, o.Sysctls)
	if len(set) == 0 {
		return nil
	}
	return set
}

// bytesOf reads a number of bytes with a unit of Kubernetes or of Docker: 64Mi, 64m, 1G.
func bytesOf(text string) (int64, error) {
	digits := strings.TrimRight(strings.TrimSuffix(strings.ToLower(text), "b"), "kmgi")
	n, err := strconv.ParseInt(digits, 10, 40)
	unit := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(text)[len(digits):], "b"), "i")
	shift, known := map[string]int{"": 0, "k": 10, "m": 20, "g": 30}[unit]
	if err != nil || n <= 0 || !known || n >= 1<<40>>shift {
		return 0, invalid("annotation %s: %.64q is no size like 64Mi", shmSize.name, text)
	}
	return n << shift, nil
}

package policy

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
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
		o.SELinuxOptions = []string{"disable"}
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
	if volume, ok := s.said(o.Runtime, config.GetAnnotations(), linkLogs, ""); ok {
		dir, err := s.emptyDir(o.UID, volume)
		if err != nil {
			return fmt.Errorf("annotation %s: %w", linkLogs.name, err)
		}
		if o.LogDir != "" {
			o.LogLink = dir
		}
	}
	if s.NoHostPorts {
		o.Ports = nil
	}
	o.Sysctls = s.sysctls(*o)
	return nil
}

// volumeName is a label of DNS (RFC 1123, section 2.1), as Kubernetes names volumes.
var volumeName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// emptyDir is where the kubelet has a pod's volume of that kind.
func (s *Settings) emptyDir(uid, volume string) (string, error) {
	if !volumeName.MatchString(volume) {
		return "", invalid("%.64q is no name of a volume: it has up to 63 lowercase letters, digits and -", volume)
	}
	if !filepath.IsLocal(uid) || strings.Contains(uid, "/") {
		return "", invalid("the pod's uid %.64q is no name of a directory", uid)
	}
	dir := filepath.Join(s.KubeletDir, "pods", uid, "volumes/kubernetes.io~empty-dir", volume)
	if _, err := os.Stat(dir); err != nil {
		return "", invalid("the pod has no emptyDir volume %s: %s is not there (cri.kubelet_dir says where the kubelet's directory is)", volume, dir)
	}
	return dir, nil
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

package policy

import (
	"cmp"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/engine"
)

// runtimeDefault is how spec.Request names the built-in profile.
const runtimeDefault = "default"

// seccomp says what the words of the client mean here.
func (c *making) seccomp() error {
	if action, ok := c.annotation(seccompNotifier); ok {
		if action != engine.ForbiddenLog && action != engine.ForbiddenStop && action != "" {
			return invalid("annotation %s: %.64q: there are log and stop", seccompNotifier.name, action)
		}
		c.o.Forbidden = cmp.Or(action, engine.ForbiddenLog)
	}
	s := c.config.GetLinux().GetSecurityContext()
	//lint:ignore SA1019 older kubelets send nothing else
	silent := s.GetSeccomp() == nil && s.GetSeccompProfilePath() == ""
	switch {
	case c.privileged():
		if c.s.PrivilegedSeccomp != "" && s.GetSeccomp().GetProfileType() != v1.SecurityProfile_Unconfined || c.s.PrivilegedSeccomp != "" && s.GetSeccomp() == nil {
			c.r.Seccomp = c.s.PrivilegedSeccomp
		}
	default:
		c.r.Seccomp = c.s.filter(c.pod.Runtime, c.r.Seccomp, silent)
	}
	return nil
}

// filter is the profile of what is not privileged.
func (s *Settings) filter(handler, asked string, silent bool) string {
	if silent && s.UnsetSeccomp != "" {
		asked = s.UnsetSeccomp
	}
	if asked != runtimeDefault && asked != "runtime/default" {
		return asked
	}
	for _, profile := range []string{s.Handlers[handler].SeccompProfile, s.SeccompProfile} {
		if profile != "" {
			return profile
		}
	}
	return runtimeDefault
}

// Artifact is the image that a container's system call filter is to come from, by an annotation of its pod. The client's
// word goes before it.
func (s *Settings) Artifact(pod engine.Pod, annotations map[string]string, config *v1.ContainerConfig) string {
	profile := config.GetLinux().GetSecurityContext().GetSeccomp()
	if profile != nil && profile.GetProfileType() != v1.SecurityProfile_Unconfined {
		return ""
	}
	if ref, ok := s.said(pod.Runtime, annotations, seccompArtifact, config.GetMetadata().GetName()); ok {
		return ref
	}
	ref, _ := s.said(pod.Runtime, annotations, seccompArtifact, "POD")
	return ref
}

package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// annotation is one by which a pod asks for more than the CRI has words for: its name, and the one that it had before.
type annotation struct {
	name, old string
	perPod    bool // a container cannot be named
}

// The annotations that a handler or a workload may allow.
var (
	usernsMode       = annotation{"userns-mode.crio.io", "io.kubernetes.cri-o.userns-mode", true}
	shmSize          = annotation{"shm-size.crio.io", "io.kubernetes.cri-o.ShmSize", true}
	cgroupWritable   = annotation{"cgroup2-mount-hierarchy-rw.crio.io", "io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw", true}
	deviceList       = annotation{"devices.crio.io", "io.kubernetes.cri-o.Devices", false}
	trySkipLabel     = annotation{"try-skip-volume-selinux-label.crio.io", "io.kubernetes.cri-o.TrySkipVolumeSELinuxLabel", true}
	umask            = annotation{"umask.crio.io", "io.kubernetes.cri-o.umask", true}
	unifiedCgroup    = annotation{"unified-cgroup.crio.io", "io.kubernetes.cri-o.UnifiedCgroup", false}
	cpuLoadBalancing = annotation{"cpu-load-balancing.crio.io", "", false}
	cpuQuota         = annotation{"cpu-quota.crio.io", "", false}
	cpuCStates       = annotation{"cpu-c-states.crio.io", "", true}
	cpuGovernor      = annotation{"cpu-freq-governor.crio.io", "", true}
	cpuShared        = annotation{"cpu-shared.crio.io", "", false}
	irqBalancing     = annotation{"irq-load-balancing.crio.io", "", false}
	linkLogs         = annotation{"link-logs.crio.io", "io.kubernetes.cri-o.LinkLogs", true}
	seccompNotifier  = annotation{"seccomp-notifier-action.crio.io", "io.kubernetes.cri-o.seccompNotifierAction", true}
	seccompArtifact  = annotation{"seccomp-profile.crio.io", "seccomp-profile.kubernetes.cri-o.io", false}
)

func annotations() []annotation {
	return []annotation{
		usernsMode, shmSize, cgroupWritable, deviceList, umask, unifiedCgroup, cpuLoadBalancing, cpuQuota, cpuCStates,
		cpuGovernor, cpuShared, irqBalancing, linkLogs, trySkipLabel, seccompNotifier, seccompArtifact,
	}
}

// skipGOMAXPROCS is an annotation that takes away, and so needs nobody's permission.
const skipGOMAXPROCS = "skip-gomaxprocs.crio.io"

// CheckAllowed refuses a word of allowed_annotations that is none.
func CheckAllowed(words []string) error {
	var known []string
	for _, a := range annotations() {
		known = append(known, a.name)
	}
	for _, w := range words {
		if !slices.ContainsFunc(annotations(), func(a annotation) bool { return a.is(w) }) {
			return invalid("%q: the annotations that can be allowed are %s", w, strings.Join(known, ", "))
		}
	}
	return nil
}

func (a annotation) is(word string) bool { return word == a.name || a.old != "" && word == a.old }

// allowed says whether pods of a handler, with these annotations, may ask by this one: the handler allows it, or the
// workload that they choose.
func (s *Settings) allowed(handler string, pod map[string]string, a annotation) bool {
	words := s.Handlers[handler].AllowedAnnotations
	if w, ok := s.workload(pod); ok {
		words = slices.Concat(words, w.AllowedAnnotations)
	}
	return slices.ContainsFunc(words, a.is)
}

// said is what a pod says by an annotation that it may use, of one of its containers or, when that has no name, of itself.
func (s *Settings) said(handler string, pod map[string]string, a annotation, container string) (string, bool) {
	if !s.allowed(handler, pod, a) {
		return "", false
	}
	for _, from := range []map[string]string{pod, s.Handlers[handler].DefaultAnnotations} {
		for _, name := range []string{a.name, a.old} {
			if name == "" {
				continue
			}
			if !a.perPod && container != "" {
				for _, separator := range []string{"/", "."} {
					if v, ok := from[name+separator+container]; ok {
						return v, true
					}
				}
			}
			if v, ok := from[name]; ok {
				return v, true
			}
		}
	}
	return "", false
}

func (c *making) annotation(a annotation) (string, bool) {
	return c.s.said(c.pod.Runtime, c.sandbox.GetAnnotations(), a, c.name)
}

// disabled reads the annotations that switch something off: CRI-O takes true too.
func (c *making) disabled(a annotation) (bool, error) {
	switch text, ok := c.annotation(a); {
	case !ok, text == "enable", text == "false":
		return false, nil
	case text == "disable", text == "true":
		return true, nil
	default:
		return false, invalid("annotation %s: %.64q: there are disable and enable", a.name, text)
	}
}

func octal(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil || n > 0o777 {
		return 0, invalid("annotation %s: %.64q is no octal number up to 777", umask.name, text)
	}
	return uint32(n), nil
}

// pairs reads KEY=VALUE;KEY=VALUE.
func pairs(a annotation, text string) (map[string]string, error) {
	out := map[string]string{}
	for part := range strings.SplitSeq(text, ";") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		key, v, ok := strings.Cut(part, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("annotation %s: %w", a.name, invalid("%.64q is not KEY=VALUE", part))
		}
		out[strings.TrimSpace(key)] = strings.TrimSpace(v)
	}
	return out, nil
}

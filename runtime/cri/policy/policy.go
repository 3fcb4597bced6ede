// Package policy is what the owner of a node says of pods and containers beside what the kubelet asks for: defaults, bounds,
// what a runtime handler is allowed, and the annotations by which a pod asks for more. It is pure: settings and a request
// give the options that the engine gets, and what they come to is recorded with the pod or the container. New settings are
// for what is made after them.
//
// The names are those of containerd's and CRI-O's configuration, and the annotations are CRI-O's, in both spellings.
package policy

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/logs"
	"github.com/minirt/mini/runtime/logs/driver"
)

// PullInPod has images pulled in the cgroup of the pod that they are for.
const PullInPod = "pod"

// Settings are those in force. The zero value has no opinion, but that it gives no process unprivileged ports.
type Settings struct {
	Handlers  map[string]Handler // by name, the default one's is empty
	Workloads map[string]Workload

	PullCgroup string // where images are pulled: a cgroup, a slice, PullInPod, or empty: by the daemon itself

	// Of pods.
	Sysctls           map[string]string // where the pod has the namespace for them
	UnprivilegedPorts bool              // processes of a pod with a network of its own bind any port
	UnprivilegedICMP  bool              // and may ping
	UserRange         IDRange           // from which user namespaces get their ids that ask for any
	KubeletDir        string            // the kubelet's, for pods that ask for their logs in a volume

	// Of containers: what they get that say nothing.
	Defaults            spec.Defaults
	SeccompProfile      string // path of what RuntimeDefault means; empty: the built-in one
	UnsetSeccomp        string // where a client says nothing: a path, runtime/default, or unconfined (also when empty)
	PrivilegedSeccomp   string // path of the profile of privileged containers; empty: none
	PidsLimit           int64  // 0: none
	AdditionalDevices   []spec.Device
	AllowedDevices      []string // paths that the annotation of devices may name
	MinGOMAXPROCS       int64    // 0: the variable is not set
	Timezone            string   // a name of the zone database, or Local; empty: the image's
	MaxLogLine          int      // bytes; 0: logs.MaxLine
	LogToJournald       bool     // lines are in the journal too
	LogSizeMax          int64    // bytes after which a log is begun anew; 0: never
	SharedCPUs          string   // a list
	ImageVolumes        string   // what becomes of the volumes that an image declares, one of engine.ImageVolumes…
	ReadOnly            bool     // no container writes to its root filesystem
	NoPivot             bool     // the root is changed without pivot_root(2), for hosts whose root is a ramdisk
	NoHostPorts         bool     // ports of pods are not published: somebody else does
	RejectAbsentSources []string // paths of the host that are not made when a mount of them finds nothing

	DeviceOwnership           bool // devices belong to the container's user
	TolerateMissingHugetlb    bool // limits of huge pages are dropped where there is no controller for them
	DisableHugetlb            bool // and everywhere
	DisableProcMount          bool // /proc is masked whatever the client says
	HostNetworkDisableSELinux bool // pods with the host's network have no label

	PodMetrics []string // groups of them that are told; empty, or all: every one
	// NamespacedAuth is a directory of credentials for images that pods of a namespace need; empty: there are none.
	NamespacedAuth string

	Classes Classes
	// Housekeeping are the processors, of a container's, that keep the interrupts; nil: the first one.
	Housekeeping func(cpus []int) []int
}

// Classes finds the classes of a container by annotations, its own and its pod's; *classes.Classes does.
type Classes interface {
	BlockIO(container string, own, pod map[string]string) (*specs.LinuxBlockIO, error)
	RDT(container string, own, pod map[string]string) (string, error)
}

// Handler is what is said of the pods of one runtime handler.
type Handler struct {
	AllowedAnnotations   []string          // names of annotations that change how pods and containers are made
	ContainerAnnotations []string          // patterns of those that the document gets; empty: all
	DefaultAnnotations   map[string]string // of documents, and where a pod does not say otherwise
	BaseSpec             string            // path of a document that is laid under those of containers
	Snapshotter          string            // empty: the daemon's default
	SeccompProfile       string            // over Settings.SeccompProfile
	MinMemory            int64             // bytes; the least limit that a container may have
	CreateTimeout        time.Duration     // 0: the client's alone
	ExecCPUAffinity      string            // first: of executed processes, the first of the container's processors
	CgroupWritable       bool

	PrivilegedWithoutHostDevices bool
	PrivilegedAllDevicesAllowed  bool
}

// CreateTimeout bounds the making of a container; 0: the client's patience does.
func (s *Settings) CreateTimeout(handler string) time.Duration {
	return s.Handlers[handler].CreateTimeout
}

// Container changes what a container of a pod is to be. r is the host's view of its configuration already.
func (s *Settings) Container(o *engine.CreateOptions, pod engine.Pod, sandbox *v1.PodSandboxConfig, config *v1.ContainerConfig, h *spec.Host) error {
	c := &making{
		s: s, handler: s.Handlers[pod.Runtime], o: o, r: o.Request, pod: pod, sandbox: sandbox, config: config, host: h,
		name: config.GetMetadata().GetName(),
	}
	o.Snapshotter, o.NoPivot = c.handler.Snapshotter, s.NoPivot
	o.Request.ReadOnly = o.Request.ReadOnly || s.ReadOnly
	c.r.Defaults = c.defaults()
	o.ImageVolumes = s.ImageVolumes
	c.logs()
	for _, step := range []func() error{
		c.security, c.devices, c.mounts, c.resources, c.workload, c.processors, c.classes, c.seccomp,
	} {
		if err := step(); err != nil {
			return fmt.Errorf("container %s: %w", c.name, err)
		}
	}
	c.gomaxprocs()
	c.annotations()
	return nil
}

// making is one container on its way.
type making struct {
	s       *Settings
	handler Handler
	o       *engine.CreateOptions
	r       *spec.Request
	pod     engine.Pod
	sandbox *v1.PodSandboxConfig
	config  *v1.ContainerConfig
	host    *spec.Host
	name    string
}

func (c *making) defaults() *spec.Defaults {
	d := c.s.Defaults
	d.Base = c.handler.BaseSpec
	d.CgroupWritable = c.handler.CgroupWritable
	if value, ok := c.annotation(cgroupWritable); ok {
		d.CgroupWritable = value == "true"
	}
	return &d
}

func (c *making) logs() {
	if c.o.Log.Driver == "none" {
		return
	}
	c.o.Log.MaxLine = c.s.MaxLogLine
	if c.s.LogToJournald && c.o.Log.Driver == logs.DriverCRI {
		c.o.Logging.Driver = driver.Journald
	}
	if c.s.LogSizeMax > 0 {
		c.o.Log.MaxSize, c.o.Log.MaxFiles = c.s.LogSizeMax, 1
	}
}

func (c *making) privileged() bool {
	return c.config.GetLinux().GetSecurityContext().GetPrivileged()
}

func (c *making) security() error {
	if c.privileged() {
		c.r.PrivilegedWithoutHostDevices = c.handler.PrivilegedWithoutHostDevices
		c.r.PrivilegedAllDevicesAllowed = c.handler.PrivilegedAllDevicesAllowed
	} else if c.s.DisableProcMount {
		c.r.MaskedPaths, c.r.ReadonlyPaths = nil, nil
	}
	if c.s.HostNetworkDisableSELinux && c.pod.Network == engine.ModeNode {
		c.r.SELinuxOptions = []string{"disable"}
	}
	if text, ok := c.annotation(umask); ok {
		mask, err := octal(text)
		if err != nil {
			return err
		}
		c.r.Umask = &mask
	}
	return nil
}

// mounts refuses to make up what must be there, and adds the time zone.
func (c *making) mounts() error {
	for i := range c.r.Mounts {
		if slices.Contains(c.s.RejectAbsentSources, path.Clean(c.r.Mounts[i].Source)) {
			c.r.Mounts[i].CreateSource = false
		}
		if text, ok := c.annotation(trySkipLabel); ok && text == "true" && c.r.Mounts[i].Relabel != "" {
			c.r.Mounts[i].Relabel = spec.RelabelOnce
		}
	}
	const target = "/etc/localtime"
	if c.s.Timezone == "" || slices.ContainsFunc(c.r.Mounts, func(m spec.Mount) bool { return path.Clean(m.Target) == target }) {
		return nil
	}
	source := target
	if c.s.Timezone != "Local" {
		source = path.Join("/usr/share/zoneinfo", c.s.Timezone)
	}
	c.r.Mounts = append(c.r.Mounts, spec.Mount{Type: "bind", Source: source, Target: target, Options: []string{"bind", "ro", "rprivate", "nosuid", "nodev", "noexec"}})
	return nil
}

// annotations are those of the document.
func (c *making) annotations() {
	own := c.r.Annotations
	if patterns := c.handler.ContainerAnnotations; len(patterns) > 0 {
		own = map[string]string{}
		for k, v := range c.r.Annotations {
			if slices.ContainsFunc(patterns, func(p string) bool { ok, err := path.Match(p, k); return ok && err == nil }) {
				own[k] = v
			}
		}
	} else if len(c.handler.DefaultAnnotations) > 0 {
		own = maps.Clone(own)
		if own == nil {
			own = map[string]string{}
		}
	}
	for k, v := range c.handler.DefaultAnnotations {
		_, has := own[k]
		if pods, said := c.sandbox.GetAnnotations()[k]; said {
			v = pods
		}
		if !has {
			own[k] = v
		}
	}
	c.r.Annotations = own
}

// invalid is an error of class ErrInvalidArgument.
func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
}

// unable is an error of class ErrFailedPrecondition.
func unable(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrFailedPrecondition)...)
}

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// list is the words of a text between commas, without blanks.
func list(text string) []string {
	var words []string
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word != "" {
			words = append(words, word)
		}
	}
	return words
}

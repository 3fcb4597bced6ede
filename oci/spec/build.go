// Package spec makes runtime-spec documents: a container's config.json from what a user asks (Request), what the image
// says and what the host can do, and the Process document of an exec.
//
// Build is an ordered list of small rules, each in the file of its noun. Rules decide and do not act: nothing here
// makes a directory, a cgroup or a device. What they must look up goes through Input (users in the container's root
// filesystem, device nodes of the host, CDI), so that a test can give all of it. Facts about the host come from
// ProbeHost, once.
//
// Writing the document into a bundle and checking one from elsewhere is oci/bundle.
package spec

import (
	"fmt"
	"io/fs"
	"strings"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Input is all that a container's document depends on. Only ID is required.
type Input struct {
	ID        string
	Name      string // the daemon's own name, the first part of cgroup paths; "minid" by default
	Namespace string // of the record, the second part; "default" by default
	Request   Request
	Image     ocispec.ImageConfig
	// Rootfs is the container's mounted root filesystem: where users are looked up, and the document's root.path unless
	// Request.Rootfs is set. Empty: the document says "rootfs", relative to the bundle, and users must be numbers.
	Rootfs string
	// Files is where /etc/passwd and /etc/group are read; nil: Rootfs, through OpenRootfs.
	Files fs.FS
	Host  Host
	// NamespacePaths finds the namespace of a container by its ID, for modes "container:ID"; nsType is runtime-spec's.
	NamespacePaths func(container, nsType string) (string, error)
	// Devices lists the device nodes at a path of the host: itself, or all below a directory. nil: HostDevices.
	Devices func(path string) ([]specs.LinuxDevice, error)
	// CDI injects devices by their qualified names; nil: none are known.
	CDI CDI
	// CgroupDriver is the daemon's choice over Host.CgroupDriver.
	CgroupDriver string
	// CgroupParent is the daemon's own group or slice, below which each namespace has one; empty: Name. A request's parent
	// is taken as it is.
	CgroupParent string
	Defaults     Defaults
}

// Defaults are settings of whoever asks for many containers, which a request overrides where it is not silent.
type Defaults struct {
	Sysctls      map[string]string `json:"sysctls,omitempty"`      // applied where the container has the namespace for them
	Capabilities *[]string         `json:"capabilities,omitempty"` // instead of DefaultCapabilities
	// Inheritable puts the capabilities into the inheritable set too: programs that are not root's get those that their
	// files name as inheritable.
	Inheritable    bool                `json:"inheritable,omitempty"`
	Rlimits        []specs.POSIXRlimit `json:"rlimits,omitempty"`
	Env            []string            `json:"env,omitempty"`            // below the image's
	SeccompProfile []byte              `json:"seccompProfile,omitempty"` // instead of the library's default profile; Docker's or runtime-spec's JSON
	AppArmor       string              `json:"apparmor,omitempty"`       // the profile used where the host has AppArmor and the request is silent; empty: none
	ShmSize        int64               `json:"shmSize,omitempty"`        // bytes; 0: 64 MiB
	CgroupWritable bool                `json:"cgroupWritable,omitempty"` // /sys/fs/cgroup is writable in unprivileged containers with their own cgroup namespace (v2)
	// Base is the path of a document that is laid under the finished one: see baseRule.
	Base string `json:"base,omitempty"`
}

// rule is one step of Build. It reads the builder's input and what earlier rules wrote, and adds its part.
type rule struct {
	name  string
	apply func(*builder) error
}

// builder carries one document through the rules.
type builder struct {
	in       *Input
	req      *Request
	host     *Host
	spec     *specs.Spec
	files    fs.FS
	home     string // of the process's user
	warnings []string
}

// rules returns the order of Build. A rule may rely only on those above it.
func rules() []rule {
	return []rule{
		{"root", rootRule},
		{"process", processRule},
		{"namespaces", namespacesRule},
		{"hostname", hostnameRule},
		{"user", userRule},
		{"env", envRule},
		{"default mounts", defaultMountsRule},
		{"tmpfs", tmpfsRule},
		{"mounts", mountsRule},
		{"paths", pathsRule},
		{"cgroup", cgroupRule},
		{"resources", resourcesRule},
		{"block devices' limits", blockLimitsRule},
		{"devices", devicesRule},
		{"network devices", netDevicesRule},
		{"sysctls", sysctlsRule},
		{"rlimits", rlimitsRule},
		{"oom score", oomScoreRule},
		{"scheduling", schedulingRule},
		{"capabilities", capabilitiesRule},
		{"security", securityRule},
		{"memory policy", memoryPolicyRule},
		{"personality", personalityRule},
		{"rdt", rdtRule},
		{"hooks", hooksRule},
		{"annotations", annotationsRule},
		{"cdi", cdiRule},
		{"seccomp", seccompRule}, // after every rule that grants capabilities
		{"base document", baseRule},
		{"patch", patchRule}, // last: the user's word on everything above
	}
}

// Build makes a container's document and returns warnings: what was asked for and cannot be had on this host, but is
// no reason to refuse the container. Errors are of class ErrInvalidArgument (the request is wrong), ErrNotFound (a
// user, device or container it names), or ErrFailedPrecondition (this host cannot do it).
func Build(in Input) (*specs.Spec, []string, error) {
	if in.ID == "" {
		return nil, nil, fmt.Errorf("a container needs an id: %w", errdefs.ErrInvalidArgument)
	}
	if in.Name == "" {
		in.Name = "minid"
	}
	if in.Namespace == "" {
		in.Namespace = "default"
	}
	b := &builder{in: &in, req: &in.Request, host: &in.Host, files: in.Files, spec: empty()}
	if dir := b.rootfs(); b.files == nil && dir != "" {
		root, err := OpenRootfs(dir)
		if err != nil {
			return nil, nil, err
		}
		defer root.Close()
		b.files = root
	}
	for _, r := range rules() {
		if err := r.apply(b); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", r.name, err)
		}
	}
	return b.spec, b.warnings, nil
}

// empty is a document with the parts that every rule may write to.
func empty() *specs.Spec {
	return &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{},
		Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}},
		Linux:   &specs.Linux{Resources: &specs.LinuxResources{}},
	}
}

// rootfs is the directory on the host that becomes the container's root; empty when only the bundle knows.
func (b *builder) rootfs() string {
	if b.req.Rootfs != "" {
		return b.req.Rootfs
	}
	return b.in.Rootfs
}

func (b *builder) warn(format string, args ...any) {
	b.warnings = append(b.warnings, fmt.Sprintf(format, args...))
}

// invalid is an error of class ErrInvalidArgument.
func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
}

// unable is an error of class ErrFailedPrecondition: the request is sound, the host cannot do it.
func unable(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrFailedPrecondition)...)
}

// rootRule sets the root filesystem. https://github.com/opencontainers/runtime-spec/blob/v1.3.0/config.md#root
func rootRule(b *builder) error {
	b.spec.Root.Path = b.rootfs()
	if b.spec.Root.Path == "" {
		b.spec.Root.Path = "rootfs"
	}
	b.spec.Root.Readonly = b.req.ReadOnly
	switch p := b.req.RootfsPropagation; p {
	case "", "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable":
		b.spec.Linux.RootfsPropagation = p
	default:
		return invalid("rootfs propagation %q: use private, slave, shared or unbindable, or one with an r before it for all mounts below", p)
	}
	return nil
}

// annotationsRule copies the annotations.
func annotationsRule(b *builder) error {
	for k, v := range b.req.Annotations {
		if strings.TrimSpace(k) == "" {
			return invalid("annotation with the value %q has no key", v)
		}
		if b.spec.Annotations == nil {
			b.spec.Annotations = make(map[string]string, len(b.req.Annotations))
		}
		b.spec.Annotations[k] = v
	}
	return nil
}

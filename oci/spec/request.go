package spec

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Request is what a user asks a container to be, before the image's defaults and the host's facts are merged in. The
// native API carries it as JSON. The zero value means "the default" everywhere.
type Request struct {
	NoShm bool `json:"noShm,omitempty"` // no /dev/shm
	// CgroupWritable makes /sys/fs/cgroup writable in an unprivileged container with a cgroup namespace of its own (v2).
	CgroupWritable bool `json:"cgroupWritable,omitempty"`

	// Process.
	Args       []string  `json:"args,omitempty"`       // replaces the image's Cmd
	Entrypoint *[]string `json:"entrypoint,omitempty"` // replaces the image's; an empty list clears it, and Cmd with it
	Env        []string  `json:"env,omitempty"`        // KEY=VALUE over the image's; KEY alone removes it
	Cwd        string    `json:"cwd,omitempty"`
	User       string    `json:"user,omitempty"`   // name|uid[:group|gid], resolved in the container's /etc/passwd
	Groups     []string  `json:"groups,omitempty"` // supplementary, names or numbers
	// GroupPolicy says where supplementary groups come from: "" adds the user's of /etc/group unless User names a group,
	// merge adds them always, strict never.
	GroupPolicy string     `json:"groupPolicy,omitempty"`
	Umask       *uint32    `json:"umask,omitempty"`
	Terminal    bool       `json:"terminal,omitempty"`
	ConsoleSize *specs.Box `json:"consoleSize,omitempty"`
	StopSignal  string     `json:"stopSignal,omitempty"`

	// Root filesystem and mounts.
	Rootfs            string            `json:"rootfs,omitempty"` // a directory on the host instead of an image
	ReadOnly          bool              `json:"readOnly,omitempty"`
	RootfsPropagation string            `json:"rootfsPropagation,omitempty"`
	Mounts            []Mount           `json:"mounts,omitempty"`
	NoDefaultMounts   bool              `json:"noDefaultMounts,omitempty"`
	MaskedPaths       *[]string         `json:"maskedPaths,omitempty"`
	ReadonlyPaths     *[]string         `json:"readonlyPaths,omitempty"`
	ShmSize           int64             `json:"shmSize,omitempty"` // bytes; 64 MiB by default
	Tmpfs             map[string]string `json:"tmpfs,omitempty"`   // target → options

	// Names and namespaces. A mode is "" (default), "private", "host", "container:ID" or "path:/…".
	Hostname    string                           `json:"hostname,omitempty"`
	Domainname  string                           `json:"domainname,omitempty"`
	Namespaces  map[string]string                `json:"namespaces,omitempty"` // by runtime-spec type: pid ipc uts network mount user cgroup time
	UIDMap      []specs.LinuxIDMapping           `json:"uidMap,omitempty"`     // makes a user namespace
	GIDMap      []specs.LinuxIDMapping           `json:"gidMap,omitempty"`
	TimeOffsets map[string]specs.LinuxTimeOffset `json:"timeOffsets,omitempty"`
	Sysctls     map[string]string                `json:"sysctls,omitempty"`

	// Limits.
	Resources    *specs.LinuxResources  `json:"resources,omitempty"`
	BlockLimits  []BlockLimit           `json:"blockLimits,omitempty"`
	CgroupParent string                 `json:"cgroupParent,omitempty"`
	Rlimits      []specs.POSIXRlimit    `json:"rlimits,omitempty"`
	OOMScoreAdj  *int                   `json:"oomScoreAdj,omitempty"`
	Scheduler    *specs.Scheduler       `json:"scheduler,omitempty"`
	IOPriority   *specs.LinuxIOPriority `json:"ioPriority,omitempty"`
	CPUAffinity  *specs.CPUAffinity     `json:"cpuAffinity,omitempty"`
	IntelRdt     *specs.LinuxIntelRdt   `json:"intelRdt,omitempty"`
	RDTClass     string                 `json:"rdtClass,omitempty"`
	// MemoryPolicy is the NUMA policy of the process (runtime-spec 1.3).
	MemoryPolicy *specs.LinuxMemoryPolicy `json:"memoryPolicy,omitempty"`

	// Security.
	Privileged                   bool     `json:"privileged,omitempty"`
	PrivilegedWithoutHostDevices bool     `json:"privilegedWithoutHostDevices,omitempty"`
	PrivilegedAllDevicesAllowed  bool     `json:"privilegedAllDevicesAllowed,omitempty"` // with the one above: any device node that it makes can be used
	CapAdd                       []string `json:"capAdd,omitempty"`                      // with or without CAP_; ALL
	CapDrop                      []string `json:"capDrop,omitempty"`
	CapAmbient                   []string `json:"capAmbient,omitempty"`
	AllowNewPrivileges           bool     `json:"allowNewPrivileges,omitempty"`
	Seccomp                      string   `json:"seccomp,omitempty"`        // "" or "default", "unconfined", or a profile's path
	SeccompProfile               []byte   `json:"seccompProfile,omitempty"` // Docker's or runtime-spec's JSON, over Seccomp
	AppArmor                     string   `json:"apparmor,omitempty"`
	// RootfsSize is how large the root filesystem is to be, in bytes; 0: as its snapshotter makes it.
	RootfsSize int64 `json:"rootfsSize,omitempty"`
	// SELinuxOptions are parts of a label (user:U, role:R, type:T, level:L), or disable; the labels are whole ones, which go
	// before them.
	SELinuxOptions    []string `json:"selinuxOptions,omitempty"`
	SELinuxLabel      string   `json:"selinuxLabel,omitempty"`
	SELinuxMountLabel string   `json:"selinuxMountLabel,omitempty"`

	// Devices.
	Devices    []Device `json:"devices,omitempty"`
	CDIDevices []string `json:"cdiDevices,omitempty"`
	// NetDevices moves network interfaces of the host, by name, into the container's network namespace (runtime-spec 1.3).
	NetDevices map[string]specs.LinuxNetDevice `json:"netDevices,omitempty"`

	// The rest of the runtime spec.
	Defaults    *Defaults         `json:"defaults,omitempty"` // what it is silent about
	Personality string            `json:"personality,omitempty"`
	Hooks       *specs.Hooks      `json:"hooks,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// Patch is an RFC 7396 merge patch for config.json, applied last: the way to anything that has no field here.
	Patch []byte `json:"patch,omitempty"`
}

// Mount is one mount asked for. Type is bind, tmpfs, any filesystem, or image or volume, which whoever runs the container
// turns into binds before Build sees them; for a bind with no Source made yet, CreateSource makes a directory.
type Mount struct {
	Type         string                 `json:"type"`
	Source       string                 `json:"source,omitempty"`
	Target       string                 `json:"target"`
	Options      []string               `json:"options,omitempty"` // as mount(8) and the runtime spec: ro, rro, rbind, rslave, size=…
	CreateSource bool                   `json:"createSource,omitempty"`
	UIDMap       []specs.LinuxIDMapping `json:"uidMap,omitempty"` // idmapped mount, Linux 5.12
	GIDMap       []specs.LinuxIDMapping `json:"gidMap,omitempty"`
	SubPath      string                 `json:"subPath,omitempty"`   // of an image or a volume
	Volume       *Volume                `json:"volume,omitempty"`    // of type volume, whose Source is its name
	Inherited    bool                   `json:"inherited,omitempty"` // from another container
	// Relabel gives what is mounted the label of the container's files, where the host has SELinux: private, or shared
	// with others. Empty: it stays as it is.
	Relabel string `json:"relabel,omitempty"`
}

// Who may use what is relabelled for a container.
const (
	RelabelPrivate = "private"
	RelabelOnce    = "once" // as private, unless what is mounted has the label already; what is below it is not looked at
	RelabelShared  = "shared"
)

// Volume is what a mount asks of its volume. One that is not there is made; without a name, it gets one, for this
// container.
type Volume struct {
	Driver    string            `json:"driver,omitempty"`
	Options   map[string]string `json:"options,omitempty"` // of the driver
	Labels    map[string]string `json:"labels,omitempty"`
	NoCopy    bool              `json:"noCopy,omitempty"`    // an empty one does not get the image's files
	Anonymous bool              `json:"anonymous,omitempty"` // its name was made up
}

// Device is a device node of the host put into the container, or a directory of them.
type Device struct {
	Source      string `json:"source"`
	Target      string `json:"target,omitempty"`      // the same by default
	Permissions string `json:"permissions,omitempty"` // rwm by default
	// UID and GID are its owners in the container; nil: those on the host.
	UID *uint32 `json:"uid,omitempty"`
	GID *uint32 `json:"gid,omitempty"`
}

// Exec is what a user asks of a process executed in a running container. What is not set is as the container's first
// process has it.
type Exec struct {
	Args               []string   `json:"args"`
	Env                []string   `json:"env,omitempty"`
	Cwd                string     `json:"cwd,omitempty"`
	User               string     `json:"user,omitempty"`
	Terminal           bool       `json:"terminal,omitempty"`
	ConsoleSize        *specs.Box `json:"consoleSize,omitempty"`
	Privileged         bool       `json:"privileged,omitempty"`
	CapAdd             []string   `json:"capAdd,omitempty"`
	AllowNewPrivileges bool       `json:"allowNewPrivileges,omitempty"`
}

package engine

import (
	"encoding/json"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/stats"
)

// PodState is where a pod stands.
//
//	creating ──▶ ready ──▶ stopped      (stopped is final: a pod is not started again)
//	    │          │          │
//	    └──────────┴──────────┴──▶ removing ──▶ (no record)
type PodState string

// The states of a pod.
const (
	PodCreating PodState = "creating"
	PodReady    PodState = "ready"
	PodStopped  PodState = "stopped"
	PodRemoving PodState = "removing"
)

// Modes of a pod's namespaces.
const (
	ModePod       = "pod"       // shared by the pod's containers
	ModeContainer = "container" // each container has its own; for processes only
	ModeNode      = "node"      // the host's
)

// PodOptions is what a client says of a new pod.
type PodOptions struct {
	ID string `json:"id"` // empty: made
	// Key names the pod towards its client: one that is asked for twice under the same key is made once. Empty: none.
	Key string `json:"key,omitempty"`

	Name         string            `json:"name"`
	PodNamespace string            `json:"podNamespace"` // Kubernetes' namespace of it, not the record's
	UID          string            `json:"uid"`
	Attempt      uint32            `json:"attempt,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Runtime      string            `json:"runtime,omitempty"` // of its containers; empty: the built-in one

	Hostname  string                 `json:"hostname,omitempty"` // empty: the host's with the host's network, else made of the name
	DNS       *network.DNS           `json:"dns,omitempty"`      // nil: as the host's resolv.conf
	Ports     []network.Port         `json:"ports,omitempty"`
	Bandwidth *network.Bandwidth     `json:"bandwidth,omitempty"`
	Network   string                 `json:"network"` // ModePod or ModeNode
	PID       string                 `json:"pid"`     // ModePod, ModeContainer or ModeNode: the default of its containers
	IPC       string                 `json:"ipc"`     // ModePod or ModeNode
	UIDMap    []specs.LinuxIDMapping `json:"uidMap,omitempty"`
	GIDMap    []specs.LinuxIDMapping `json:"gidMap,omitempty"`
	Sysctls   map[string]string      `json:"sysctls,omitempty"`
	// Binding low ports, and ping, need a capability, as on the host.
	PrivilegedPorts bool   `json:"privilegedPorts,omitempty"`
	PrivilegedICMP  bool   `json:"privilegedICMP,omitempty"`
	Cgroup          string `json:"cgroup,omitempty"` // parent of its containers' cgroups; empty: the daemon's
	LogDir          string `json:"logDir,omitempty"` // made, and removed with nobody's help but the client's
	// LogLink is a directory of the host, a volume of the pod's, in which LogDir is shown read-only as "logs", with a
	// link ID.log to each container's. Empty: none.
	LogLink        string                `json:"logLink,omitempty"`
	SELinuxOptions []string              `json:"selinuxOptions,omitempty"` // parts of a label, as spec.Request has them
	Overhead       *specs.LinuxResources `json:"overhead,omitempty"`
	Resources      *specs.LinuxResources `json:"resources,omitempty"`
	ShmSize        int64                 `json:"shmSize,omitempty"` // bytes; 0: 64 MiB
	Seccomp        string                `json:"seccomp,omitempty"` // of the process that holds the PID namespace, as spec.Request
	// Front is what the front end keeps with the pod, and nobody else reads.
	Front json.RawMessage `json:"front,omitempty"`
}

// Pod is the record of a pod. What is on the host because of it (pinned namespaces, its network attachment, its files,
// the process that holds its PID namespace) is found from it alone.
type Pod struct {
	PodOptions
	Namespace  string              `json:"namespace"`
	State      PodState            `json:"state"`
	CreatedAt  time.Time           `json:"createdAt"`
	Left       string              `json:"-"`                    // why its last removal has not succeeded, as a container's
	Attachment *network.Attachment `json:"attachment,omitempty"` // with a network of its own, until it is stopped
	// SELinux and SELinuxFiles are the labels whose level its containers share; empty on a host without.
	SELinux      string `json:"selinux,omitempty"`
	SELinuxFiles string `json:"selinuxFiles,omitempty"`
}

// PodStats is the use of resources of a pod and of its running containers.
type PodStats struct {
	Pod        Pod
	Stats      stats.Stats            // of its cgroup, or the sum of its containers'; the network is the pod's
	Containers map[string]stats.Stats // by id
}

// StopOptions says how a container is brought to an end.
type StopOptions struct {
	Signal  string        // empty: the container's, else the image's, else TERM
	Timeout time.Duration // before SIGKILL; 0: at once
}

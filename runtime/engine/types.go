package engine

import (
	"context"
	"encoding/json"
	"os"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/logs/driver"
	"github.com/minirt/mini/runtime/logs/ship"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/supervisor/wire"
	"github.com/minirt/mini/runtime/tuning"
)

// State is where a container stands. The record says it; recovery corrects it by what lives.
//
//	creating ──▶ created ──▶ running ◀──▶ paused
//	    │           │           │           │
//	    │           │           ▼           │
//	    │           │        exited ◀───────┘      (exited ──▶ running: started again)
//	    ▼           ▼           ▼
//	    └───────▶ removing ◀────┘  ──▶ (no record)
type State string

// The states of a container.
const (
	Creating State = "creating"
	Created  State = "created"
	Running  State = "running"
	Paused   State = "paused"
	Exited   State = "exited"
	Removing State = "removing"
)

// Container is the record of a container. What is on the host because of it (snapshot, bundle, mounts, cgroup,
// processes, log files) is found from it alone.
type Container struct {
	ID           string            `json:"id"`
	Namespace    string            `json:"namespace"`
	State        State             `json:"state"`
	Image        string            `json:"image,omitempty"`        // normalised reference
	ImageDigest  string            `json:"imageDigest,omitempty"`  // of the manifest
	ConfigDigest string            `json:"configDigest,omitempty"` // digest of the image's config
	ChainID      string            `json:"chainID,omitempty"`
	Snapshotter  string            `json:"snapshotter,omitempty"`
	Snapshot     string            `json:"snapshot,omitempty"`
	Runtime      string            `json:"runtime,omitempty"`
	Supervisor   string            `json:"supervisor"` // the group it runs in
	Pod          string            `json:"pod,omitempty"`
	Role         string            `json:"role,omitempty"`  // RolePause, or empty
	Key          string            `json:"key,omitempty"`   // as CreateOptions has it
	InPod        string            `json:"inPod,omitempty"` // what it is called in its pod
	Front        json.RawMessage   `json:"front,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
	Log          wire.Log          `json:"log"`              // what its supervisor writes
	Logging      driver.Choice     `json:"logging,omitzero"` // that its client has made; none of pods, and of old records
	Stdin        bool              `json:"stdin,omitempty"`
	StdinOnce    bool              `json:"stdinOnce,omitempty"`
	AutoRemove   bool              `json:"autoRemove,omitempty"`
	StartFollows bool              `json:"startFollows,omitempty"`
	NoPivot      bool              `json:"noPivot,omitempty"`
	KeepSnapshot bool              `json:"keepSnapshot,omitempty"` // Remove leaves the snapshot
	TakeVolumes  bool              `json:"takeVolumes,omitempty"`  // Remove takes its anonymous volumes with it
	Request      *spec.Request     `json:"request,omitempty"`
	Spec         *specs.Spec       `json:"spec,omitempty"`    // given whole by the client, instead of a request
	Changes      json.RawMessage   `json:"changes,omitempty"` // of plugins, to the document of the request
	Tuning       *tuning.Wish      `json:"tuning,omitempty"`  // of its processors, while it runs
	// Forbidden says what becomes of it when it makes a system call that its filter forbids: ForbiddenLog, ForbiddenStop, or
	// nothing but that the call is refused. ForbiddenCalls are those for which it was stopped.
	Forbidden      string              `json:"forbidden,omitempty"`
	ForbiddenCalls string              `json:"forbiddenCalls,omitempty"`
	ImageConfig    ocispec.ImageConfig `json:"imageConfig"`
	CreatedAt      time.Time           `json:"createdAt"`
	StartedAt      time.Time           `json:"startedAt,omitzero"`
	PID            int                 `json:"pid,omitempty"`       // while running or paused
	StartTime      uint64              `json:"startTime,omitempty"` // of PID, field 22 of /proc/PID/stat
	CgroupPaths    map[string]string   `json:"cgroupPaths,omitempty"`
	Exit           *wire.Exit          `json:"exit,omitempty"`
	Warnings       []string            `json:"warnings,omitempty"`

	Name         string               `json:"name,omitempty"` // unique in the namespace
	Net          NetworkOptions       `json:"net,omitzero"`
	Attachments  []network.Attachment `json:"attachments,omitempty"` // while it runs, in the order of Net.Networks
	Restart      RestartPolicy        `json:"restart,omitzero"`
	RestartCount int                  `json:"restartCount,omitempty"` // by the policy, since a client has last started it
	Stopped      bool                 `json:"stopped,omitempty"`      // by a client, and not started since
	HealthCheck  *HealthCheck         `json:"healthCheck,omitempty"`
	StopTimeout  time.Duration        `json:"stopTimeout,omitempty"` // 0: DefaultStopTimeout; negative: no end
	Init         bool                 `json:"init,omitempty"`
	InitBinary   string               `json:"initBinary,omitempty"` // on the host; empty: the daemon's own
	Frozen       bool                 `json:"frozen,omitempty"`     // by the daemon, while it reads its files: see freeze

	// What is known only in memory, where a record is answered to a client.
	Restarting bool         `json:"-"` // it has exited, and its policy will start it again
	Health     *Health      `json:"-"` // nil: nothing checks it
	Left       string       `json:"-"` // why its last removal has not succeeded; "": none was tried, or one is under way
	Shipping   *ship.Status `json:"-"` // of its log; nil: it stays here
	NetworkIDs []string     `json:"-"` // of Net.Networks; empty: there is none of that name
}

// CreateOptions is what a client says of a new container.
type CreateOptions struct {
	ID             string // empty: made
	Image          string // empty: the request or the spec names a root filesystem
	Platform       string
	Snapshotter    string
	Runtime        string
	Labels         map[string]string
	SnapshotLabels map[string]string
	Request        *spec.Request
	Spec           *specs.Spec
	Log            wire.Log      // with a driver, all of it; else Logging counts
	Logging        driver.Choice // empty: the daemon's own
	Stdin          bool
	StdinOnce      bool
	AutoRemove     bool
	// StartFollows says that who makes it starts it next: until then the daemon's end undoes it.
	StartFollows bool
	NoPivot      bool
	Supervisor   string // the group, with supervisor scope "pod"; empty: the id
	// Pod is the id of the pod that the container joins: its namespaces, files, cgroup and runtime are the default.
	Pod  string
	Role string // RolePause, or empty
	// InPod is what the container is called in its pod.
	InPod string
	// Key names the container towards its client: one that is asked for twice under the same key is made once. Empty: none.
	Key string
	// Front is what the front end keeps with the container, and nobody else reads.
	Front  json.RawMessage
	Tuning *tuning.Wish // of its processors, while it runs; nil: none
	// Forbidden is ForbiddenLog, ForbiddenStop or empty.
	Forbidden string

	VolumesFrom  []string // CONTAINER[:ro|rw]: whose mounts it gets too
	ImageVolumes string   // what becomes of the volumes that the image declares, one of ImageVolumes…
	Name         string   // unique in the namespace; empty: none
	GenerateName bool     // when Name is empty
	Net          NetworkOptions
	Restart      RestartPolicy
	HealthCheck  *HealthCheck // nil: the image's
	StopTimeout  time.Duration
	Init         bool
	InitBinary   string // on the host; empty: the daemon's own
}

// Streams are the files of one attachment. They are handed over: the engine closes them, whatever happens.
type Streams struct {
	Stdin  *os.File // the supervisor reads it
	Stdout *os.File // the supervisor writes it
	Stderr *os.File
}

// ExecOptions is what a client says of a process executed in a running container.
type ExecOptions struct {
	ExecID  string // empty: made
	Process spec.Exec
	Stdin   bool
	Log     wire.Log // driver none by default
	Streams *Streams // attached before the process starts; nil for none
	// AutoRemove forgets the process when it has exited; only who has its Process can still wait for it.
	AutoRemove bool
	// Fleeting says that the process is of no use without who waits for it: it is removed as with AutoRemove, writes to
	// Streams itself where that is possible, and may not outlive their reader.
	Fleeting bool
}

// Process is what the engine knows of a process: a container's first one (no ExecID), or one executed in it.
type Process struct {
	ExecID   string
	PID      int
	State    State // created, running, paused, exited
	Terminal bool
	Args     []string
	Exit     *wire.Exit
	Warnings []string
	// Wait returns how this very process ended, when it has; unlike Engine.Wait also after its container has removed
	// itself.
	Wait func(context.Context) (wire.Exit, error)
}

// StartOptions changes how a container is started.
type StartOptions struct {
	Streams *Streams // attached before the process starts; nil for none
	// Restore is the directory of a checkpoint to start from.
	Restore        string
	TCPEstablished bool
}

// CheckpointOptions is what a client says of a checkpoint.
type CheckpointOptions struct {
	Path           string // directory; made
	WorkPath       string
	LeaveRunning   bool
	TCPEstablished bool
	FileLocks      bool
}

// ProcessInfo is one line of a container's process list.
type ProcessInfo struct {
	PID          int // on the host
	ContainerPID int // in the container's pid namespace
	PPID         int
	ExecID       string // when it is a process that the daemon started
	Command      string
	User         string
	StartedAt    time.Time
	RSS          int64 // bytes
}

// Problem is something that Check found.
type Problem struct {
	Kind, Object, Problem, Remedy string
	Repaired                      bool
}

// Known counts what the engine has.
type Known struct {
	Containers, Running, Paused int // Running counts those that are paused too
}

// Package plugin is what the engine tells those who watch pods and containers or change them, and what they answer, in
// plain types. Who the watchers are and how they are reached is in runtime/nri; when they are told is in runtime/engine.
package plugin

import (
	"encoding/json"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// PodEvent is what has happened to a pod, or is about to.
type PodEvent string

// The events of a pod.
const (
	PodRun     PodEvent = "run"     // its network and files are there; an error means that it shall not be
	PodUpdated PodEvent = "updated" // after Update
	PodStopped PodEvent = "stopped"
	PodRemoved PodEvent = "removed"
)

// ContainerEvent is what has happened to a container, or is about to.
type ContainerEvent string

// The events of a container.
const (
	ContainerCreated ContainerEvent = "created"
	ContainerStart   ContainerEvent = "start" // its first process is about to run; an error means that it shall not
	ContainerStarted ContainerEvent = "started"
	ContainerUpdated ContainerEvent = "updated"
	ContainerStopped ContainerEvent = "stopped" // its first process has exited
	ContainerRemoved ContainerEvent = "removed"
)

// Pod is a pod as plugins see it.
type Pod struct {
	ID, Name, UID, Namespace string // Namespace is Kubernetes' of the pod
	Labels, Annotations      map[string]string
	Runtime                  string // the handler's name
	CgroupParent             string
	Overhead, Resources      *specs.LinuxResources
	Namespaces               []specs.LinuxNamespace // those that are pinned for it
	IPs                      []string
	PID                      int // of the holder of its process namespace; 0: there is none
}

// Container is a container as plugins see it.
type Container struct {
	ID, Pod, Name      string
	State              string // created, running, paused or exited; empty while it is being made
	Labels             map[string]string
	Spec               *specs.Spec // its document, or the little that is known of it
	Image, ImageDigest string
	PID                int
	CreatedAt          time.Time
	StartedAt          time.Time
	FinishedAt         time.Time
	ExitCode           int
	Reason             string // why it exited as it did
}

// Adjusted is what plugins make of a container that is being created.
type Adjusted struct {
	// Changes are those to its document but for its limits. They are applied whenever the document is made, and only
	// who gave them can read them. nil: none.
	Changes json.RawMessage
	// Resources are the limits that plugins set; nil: none.
	Resources *specs.LinuxResources
	// Updates are of other containers.
	Updates []Update
}

// Update is a change of a container's limits that a plugin asks for.
type Update struct {
	ID            string
	Resources     *specs.LinuxResources
	IgnoreFailure bool
}

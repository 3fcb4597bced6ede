package view

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/minirt/mini/runtime/api"
)

// Event is what events prints, as docker's API has it.
type Event struct {
	Type     string
	Action   string
	Actor    Actor
	Scope    string `json:"scope"`
	Time     int64  `json:"time"`
	TimeNano int64  `json:"timeNano"`
	ID       string `json:"id,omitempty"`
	Status   string `json:"status,omitempty"`
	From     string `json:"from,omitempty"`
}

// Actor is what it happened to.
type Actor struct {
	ID         string
	Attributes map[string]string
}

// EventFilterKeys are those of events.
func EventFilterKeys() []string { return []string{"container", "event", "image", "label", "type"} }

// EventOf translates; events that docker does not have keep their names.
func EventOf(e *api.Event) Event {
	action := e.Action
	switch e.Type + " " + e.Action {
	case "container exit":
		action = "die"
	case "container delete":
		action = "destroy"
	case "container resume":
		action = "unpause"
	case "image delete":
		action = "untag"
	}
	out := Event{
		Type: e.Type, Action: action, Actor: Actor{ID: e.Id, Attributes: map[string]string{}}, Scope: "local", Time: e.Time / int64(time.Second), TimeNano: e.Time,
		ID: e.Id, Status: action,
	}
	maps.Copy(out.Actor.Attributes, e.Attributes)
	if code, ok := out.Actor.Attributes["code"]; ok && action == "die" {
		out.Actor.Attributes["exitCode"] = code
		delete(out.Actor.Attributes, "code")
	}
	if e.Namespace != "" && e.Namespace != "default" {
		out.Actor.Attributes["namespace"] = e.Namespace
	}
	out.From = out.Actor.Attributes["image"]
	return out
}

// Match says whether the filters let an event through.
func (e Event) Match(f Filters) bool {
	named := func(v string) bool { return strings.HasPrefix(e.Actor.ID, v) || e.Actor.Attributes["name"] == v }
	return f.any("type", func(v string) bool { return v == e.Type }) &&
		f.any("event", func(v string) bool { return v == e.Action }) &&
		f.any("container", func(v string) bool { return e.Type == "container" && named(v) }) &&
		f.any("image", func(v string) bool {
			return Familiar(e.From) == Familiar(v) || e.Type == "image" && Familiar(e.Actor.ID) == Familiar(v)
		}) &&
		f.labels(e.Actor.Attributes)
}

// String is the line that events prints without a format.
func (e Event) String() string {
	var attributes []string
	for _, k := range slices.Sorted(maps.Keys(e.Actor.Attributes)) {
		attributes = append(attributes, k+"="+e.Actor.Attributes[k])
	}
	line := time.Unix(0, e.TimeNano).Local().Format("2006-01-02T15:04:05.000000000Z07:00") + " " + e.Type + " " + e.Action + " " + e.Actor.ID
	if len(attributes) > 0 {
		line += " (" + strings.Join(attributes, ", ") + ")"
	}
	return line
}

// Info is what info prints, as far as docker's API has names for it.
type Info struct {
	ID                                                 string
	Containers, ContainersRunning, ContainersPaused    int64
	ContainersStopped, Images                          int64
	Driver, CgroupDriver, CgroupVersion, KernelVersion string
	OSType, OperatingSystem, Architecture              string
	Name, ServerVersion                                string
	DockerRootDir                                      string
	NCPU                                               int
	MemTotal                                           int64
	SecurityOptions, Warnings                          []string
	Features                                           map[string]bool
}

// InfoOf translates.
func InfoOf(i *api.InfoResponse, v *api.VersionResponse, paused int64) Info {
	out := Info{
		ID: i.Uuid, Containers: i.Containers, ContainersRunning: i.ContainersRunning - paused, ContainersPaused: paused,
		ContainersStopped: i.Containers - i.ContainersRunning, Images: i.Images, Driver: i.Snapshotter, CgroupDriver: i.CgroupDriver,
		CgroupVersion: "1", KernelVersion: i.Kernel, OSType: i.Os, Architecture: i.Arch, Name: i.Hostname, ServerVersion: v.GetVersion(),
		DockerRootDir: i.Root, OperatingSystem: i.OperatingSystem, NCPU: int(i.Cpus), MemTotal: i.Memory, Features: i.Features, Warnings: i.Warnings, SecurityOptions: []string{},
	}
	if i.CgroupMode == "v2" {
		out.CgroupVersion = "2"
	}
	for _, f := range []string{"apparmor", "seccomp", "selinux"} {
		if i.Features[f] {
			out.SecurityOptions = append(out.SecurityOptions, "name="+f)
		}
	}
	return out
}

// Lines are info for people.
func (i Info) Lines() string {
	var b strings.Builder
	for _, l := range [][2]string{
		{"Containers", fmt.Sprint(i.Containers)}, {" Running", fmt.Sprint(i.ContainersRunning)}, {" Paused", fmt.Sprint(i.ContainersPaused)},
		{" Stopped", fmt.Sprint(i.ContainersStopped)}, {"Images", fmt.Sprint(i.Images)}, {"Server Version", i.ServerVersion}, {"Storage Driver", i.Driver},
		{"Cgroup Driver", i.CgroupDriver}, {"Cgroup Version", i.CgroupVersion}, {"Kernel Version", i.KernelVersion}, {"Operating System", i.OperatingSystem}, {"OSType", i.OSType},
		{"Architecture", i.Architecture}, {"CPUs", strconv.Itoa(i.NCPU)}, {"Total Memory", units.BytesSize(float64(i.MemTotal))}, {"Name", i.Name}, {"ID", i.ID}, {"Root Dir", i.DockerRootDir},
		{"Security Options", strings.Join(i.SecurityOptions, " ")},
	} {
		fmt.Fprintf(&b, " %s: %s\n", l[0], l[1])
	}
	return b.String()
}

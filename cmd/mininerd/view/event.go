package view

import (
	"maps"
	"slices"
	"strings"
	"time"

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
func EventFilterKeys() []string {
	return []string{"container", "daemon", "event", "image", "label", "network", "scope", "type", "volume"}
}

// EventsOf translates: what docker tells as two events is two. Those that docker does not have keep their names.
func EventsOf(e *api.Event) []Event {
	a := maps.Clone(e.Attributes)
	if a == nil {
		a = map[string]string{}
	}
	move := func(from, to string) string {
		value, ok := a[from]
		delete(a, from)
		if ok && to != "" {
			a[to] = value
		}
		return value
	}
	if image, ok := a["image"]; ok {
		a["image"] = Familiar(image)
	}
	if e.Namespace != "" && e.Namespace != "default" {
		a["namespace"] = e.Namespace
	}
	kind, id, actions := e.Type, e.Id, []string{e.Action}
	switch e.Type + " " + e.Action {
	case "container exit":
		actions = []string{"die"}
		move("code", "exitCode")
		move("pid", "")
		if move("exec", "execID") != "" {
			actions = []string{"exec_die"}
		}
	case "container exec":
		move("exec", "execID")
		move("pid", "")
		command := move("command", "")
		actions = []string{"exec_create: " + command, "exec_start: " + command}
	case "container start":
		move("pid", "")
	case "container health_status":
		actions = []string{"health_status: " + move("health", "")}
	case "container delete", "network delete":
		actions = []string{"destroy"}
	case "container resume":
		actions = []string{"unpause"}
	case "container connect", "container disconnect":
		kind, id = "network", move("network_id", "")
		name := move("network", "")
		a = map[string]string{"container": e.Id, "name": name, "type": "bridge"}
	case "image delete":
		actions = []string{"untag"}
	case "image import":
		actions = []string{"load"}
	}
	var all []Event
	for _, action := range actions {
		out := Event{
			Type: kind, Action: action, Actor: Actor{ID: id, Attributes: a}, Scope: "local", Time: e.Time / int64(time.Second), TimeNano: e.Time,
			ID: id, Status: action, From: a["image"],
		}
		if kind == "network" { // docker has these of containers and images alone
			out.ID, out.Status, out.From = "", "", ""
		}
		all = append(all, out)
	}
	return all
}

// Match says whether the filters let an event through.
func (e Event) Match(f Filters) bool {
	named := func(v string) bool { return strings.HasPrefix(e.Actor.ID, v) || e.Actor.Attributes["name"] == v }
	word, _, _ := strings.Cut(e.Action, ":")
	return f.any("type", func(v string) bool { return v == e.Type }) &&
		f.any("event", func(v string) bool { return v == e.Action || v == word }) &&
		f.any("container", func(v string) bool { return e.Type == "container" && named(v) }) &&
		f.any("network", func(v string) bool { return e.Type == "network" && named(v) }) &&
		f.any("volume", func(v string) bool { return e.Type == "volume" && named(v) }) &&
		f.any("daemon", func(v string) bool { return e.Type == "daemon" && named(v) }) &&
		f.any("scope", func(v string) bool { return v == e.Scope }) &&
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

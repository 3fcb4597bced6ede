package engine

import (
	"maps"
	"time"

	"github.com/minirt/mini/runtime/events"
)

// show keeps what every event of a container says of it: its name and its image, and the labels of one without a pod.
// Those of pods' containers are told by the CRI.
func (l *live) show(c Container) {
	all := map[string]string{}
	if c.Pod == "" {
		maps.Copy(all, c.Labels)
	}
	if c.Image != "" {
		all["image"] = c.Image
	}
	if c.Name != "" {
		all["name"] = c.Name
	}
	l.shown.Store(&all)
}

// publish tells an event of a container; attributes are its own.
func (e *Engine) publish(l *live, action string, attributes map[string]string) {
	all := map[string]string{}
	if shown := l.shown.Load(); shown != nil {
		maps.Copy(all, *shown)
	}
	maps.Copy(all, attributes)
	e.Events.Publish(events.Event{
		Time: time.Now(), Namespace: l.key.ns, Type: "container", Action: action, ID: l.key.id, Attributes: all,
	})
}

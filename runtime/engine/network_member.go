package engine

import "github.com/minirt/mini/runtime/network"

// memberOf says how a container belongs to a network, if it does: it is attached, or will be when it starts.
func memberOf(c Container, r network.Record) (NetworkMember, bool) {
	m := NetworkMember{ID: c.ID, Name: c.Name}
	for i, a := range c.Attachments {
		if a.Network == r.ID {
			m.Attachment = &c.Attachments[i]
			return m, true
		}
	}
	if len(c.Attachments) > 0 {
		return m, false
	}
	for _, wanted := range c.Net.Networks {
		if named(wanted.Network, r) {
			return m, true
		}
	}
	return m, false
}

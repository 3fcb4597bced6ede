package engine

import (
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/oci/bundle"
	"github.com/minirt/mini/runtime/network"
)

// joinedBy are the networks that a container is in, with its interfaces there.
func joinedBy(c Container) string {
	var all []string
	for i, n := range c.Net.Networks {
		text := n.Network
		if i < len(c.Attachments) {
			text += "=" + c.Attachments[i].Links[0].Interface
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

func TestConnect(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		o := w.bridged("c")
		o.Name = "web"
		for _, name := range []string{"red", "blue"} {
			_, err := w.CreateNetwork(t.Context(), ns, NewNetwork{Name: name})
			w.ok(err)
		}
		w.create(o)
		connect := func(name, want string) {
			t.Helper()
			c, err := w.Connect(t.Context(), ns, "web", NetworkAttachment{Network: name, Aliases: []string{"www"}})
			if w.ok(err); joinedBy(c) != want {
				t.Errorf("in %s; want %s", joinedBy(c), want)
			}
		}
		disconnect := func(name, want string) {
			t.Helper()
			c, err := w.Disconnect(t.Context(), ns, "web", name)
			if w.ok(err); joinedBy(c) != want {
				t.Errorf("in %s; want %s", joinedBy(c), want)
			}
		}
		connect("red", "bridge red")
		_, err := w.Connect(t.Context(), ns, "web", NetworkAttachment{Network: "red"})
		w.is(err, errdefs.ErrAlreadyExists)
		_, err = w.Connect(t.Context(), ns, "web", NetworkAttachment{Network: "green"})
		w.is(err, errdefs.ErrNotFound)
		_, err = w.Connect(t.Context(), ns, "web", NetworkAttachment{Network: "host"})
		w.is(err, errdefs.ErrInvalidArgument)
		_, err = w.Disconnect(t.Context(), ns, "web", "blue")
		w.is(err, errdefs.ErrNotFound)
		w.start("c")
		connect("blue", "bridge=eth0 red=eth1 blue=eth2")
		disconnect("red", "bridge=eth0 blue=eth2")
		connect("red", "bridge=eth0 blue=eth2 red=eth1")
		disconnect("bridge", "blue=eth2 red=eth1")
		if in := w.network.inside(); len(in) != 2 {
			t.Errorf("in the network are %v", in)
		}
		t.Log("it is known by its new name")
		c, err := w.Rename(t.Context(), ns, "web", "shop")
		if w.ok(err); len(c.Attachments) != 2 || !slices.Equal(c.Attachments[0].Names, []string{"shop", "c", "www"}) {
			t.Errorf("%+v", c.Attachments)
		}
		t.Log("out of every network it still runs, and ends without a trace")
		for _, name := range []string{"red", "blue"} {
			_, err := w.Disconnect(t.Context(), ns, "shop", name)
			w.ok(err)
		}
		_, err = w.Connect(t.Context(), ns, "shop", NetworkAttachment{Network: "red"})
		w.is(err, errdefs.ErrFailedPrecondition)
		w.ok(w.Stop(t.Context(), ns, "shop", StopOptions{}))
		w.start("c")
		c, err = w.Get(t.Context(), ns, "c")
		w.ok(err)
		s, err := bundle.Load(w.Bundle(c))
		w.ok(err)
		for _, n := range s.Linux.Namespaces {
			if n.Type == "network" && n.Path != "" {
				t.Errorf("it joins %s", n.Path)
			}
		}
		_, err = w.Delete(t.Context(), ns, "c", DeleteOptions{Force: true})
		w.ok(err)
		plain := w.options("plain")
		w.create(plain)
		_, err = w.Connect(t.Context(), ns, "plain", NetworkAttachment{Network: "red"})
		w.is(err, errdefs.ErrFailedPrecondition)
		_, err = w.Delete(t.Context(), ns, "plain", DeleteOptions{})
		w.ok(err)
		_, err = w.PruneNetworks(t.Context(), ns, func(network.Record) bool { return true })
		w.ok(err)
		w.settled()
		w.clean()
	})
}

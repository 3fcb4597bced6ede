package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/runtime/network"
)

func TestNetworks(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		red, err := w.CreateNetwork(t.Context(), ns, NewNetwork{Name: "red", Labels: map[string]string{"a": "b"}})
		w.ok(err)
		if red.State != network.NetworkReady || red.Driver != network.DriverBridge || len(red.ID) != 64 || !w.network.made[red.ID] || len(red.Subnets) != 1 {
			t.Errorf("made: %+v", red)
		}
		for name, class := range map[string]error{"red": errdefs.ErrAlreadyExists, "bridge": errdefs.ErrAlreadyExists, "none": errdefs.ErrAlreadyExists, "": errdefs.ErrInvalidArgument, "-x": errdefs.ErrInvalidArgument, "a b": errdefs.ErrInvalidArgument} {
			_, err := w.CreateNetwork(t.Context(), ns, NewNetwork{Name: name})
			w.is(err, class)
		}
		if _, err := w.CreateNetwork(t.Context(), "other", NewNetwork{Name: "red"}); err != nil {
			t.Errorf("the name in another namespace: %v", err)
		}
		list, err := w.ListNetworks(t.Context(), ns)
		w.ok(err)
		var names []string
		for _, n := range list {
			names = append(names, n.Name)
		}
		if !slices.Equal(names, []string{"bridge", "host", "none", "red"}) {
			t.Errorf("listed %v", names)
		}
		for _, by := range []string{"red", red.ID, red.ID[:12]} {
			n, err := w.InspectNetwork(t.Context(), ns, by)
			if err != nil || n.ID != red.ID {
				t.Errorf("%s: %v, %v", by, n.Name, err)
			}
		}
		for name, class := range map[string]error{"blue": errdefs.ErrNotFound, "": errdefs.ErrInvalidArgument} {
			_, err := w.InspectNetwork(t.Context(), ns, name)
			w.is(err, class)
		}
		for _, name := range []string{"bridge", "host", "none"} {
			_, err := w.RemoveNetwork(t.Context(), ns, name)
			w.is(err, errdefs.ErrPermissionDenied)
		}
		_, err = w.RemoveNetwork(t.Context(), ns, "red")
		w.ok(err)
		_, err = w.RemoveNetwork(t.Context(), ns, "red")
		w.is(err, errdefs.ErrNotFound)
		if w.network.made[red.ID] {
			t.Error("it is removed, and still there")
		}
	})
}

// TestNetworkIsUndone when it cannot be made, and kept when it cannot be taken away.
func TestNetworkIsUndone(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		for _, method := range []string{"PlanNetwork", "MakeNetwork"} {
			w.network.setFail(method, errBroken)
			_, err := w.CreateNetwork(t.Context(), ns, NewNetwork{Name: "red"})
			w.is(err, errBroken)
			if left := w.userNetworks(); len(left) > 0 {
				t.Errorf("%s: left %v", method, left)
			}
			w.network.setFail(method, nil)
		}
		_, err := w.CreateNetwork(t.Context(), ns, NewNetwork{Name: "red"})
		w.ok(err)
		w.network.setFail("RemoveNetwork", errBroken)
		_, err = w.RemoveNetwork(t.Context(), ns, "red")
		w.is(err, errBroken)
		if left := w.userNetworks(); len(left) != 1 || left[0].State != network.NetworkRemoving {
			t.Errorf("left %v", left)
		}
		// The next daemon ends what this one could not.
		w.again()
		w.recover()
		if left := w.userNetworks(); len(left) > 0 {
			t.Errorf("after the next start: %v", left)
		}
	})
}

func TestContainersInNetworks(t *testing.T) {
	testenv.Root(t)
	in(t, func(t *testing.T, w *world) {
		for _, o := range []NewNetwork{{Name: "red"}, {Name: "inner", Internal: true}, {Name: "unused"}} {
			_, err := w.CreateNetwork(t.Context(), ns, o)
			w.ok(err)
		}
		o := w.options("c")
		o.Name = "web"
		o.Net = NetworkOptions{Networks: []NetworkAttachment{{Network: "inner"}, {Network: "red", Aliases: []string{"www"}}}, Ports: []network.Port{{HostPort: 8080, ContainerPort: 80}}}
		w.create(o)
		for _, name := range []string{"red", "inner"} {
			_, err := w.RemoveNetwork(t.Context(), ns, name)
			w.is(err, errdefs.ErrFailedPrecondition)
			if !strings.Contains(err.Error(), "container web") {
				t.Errorf("%s, not running: %v", name, err)
			}
		}
		w.start("c")
		c, err := w.Get(t.Context(), ns, "c")
		w.ok(err)
		if len(c.Attachments) != 2 || c.Attachments[0].Links[0].Interface != "eth0" || c.Attachments[1].Links[0].Interface != "eth1" {
			t.Fatalf("attachments %+v", c.Attachments)
		}
		if len(c.Attachments[0].Ports) != 0 || len(c.Attachments[1].Ports) != 1 || fmt.Sprint(c.Attachments[1].Names) != "[web www]" {
			t.Errorf("attachments %+v", c.Attachments)
		}
		n, err := w.InspectNetwork(t.Context(), ns, "red")
		if err != nil || len(n.Members) != 1 || n.Members[0].Name != "web" || n.Members[0].Attachment == nil {
			t.Errorf("members %+v, %v", n.Members, err)
		}
		everything := func(network.Record) bool { return true }
		removed, err := w.PruneNetworks(t.Context(), ns, everything)
		if err != nil || len(removed) != 1 || removed[0].Name != "unused" {
			t.Errorf("pruned %v, %v", removed, err)
		}
		_, err = w.Delete(t.Context(), ns, "c", DeleteOptions{Force: true})
		w.ok(err)
		w.settled()
		if removed, err = w.PruneNetworks(t.Context(), ns, everything); err != nil || len(removed) != 2 {
			t.Errorf("pruned %v, %v", removed, err)
		}
		o.ID, o.Name, o.Net.Networks = "d", "", []NetworkAttachment{{Network: "red"}}
		w.create(o)
		_, err = w.Start(t.Context(), ns, "d", StartOptions{})
		w.is(err, errdefs.ErrNotFound)
		_, err = w.Delete(t.Context(), ns, "d", DeleteOptions{Force: true})
		w.ok(err)
		w.clean()
	})
}

func TestPickNetwork(t *testing.T) {
	all := []network.Record{{ID: "ab1", Name: "red"}, {ID: "ab2", Name: "blue"}, {ID: "c", Name: "ab"}}
	for name, want := range map[string]string{"red": "red", "ab2": "blue", "c": "ab", "ab": "ab"} {
		if r, err := pickNetwork(all, ns, name); err != nil || r.Name != want {
			t.Errorf("%s: %s, %v; want %s", name, r.Name, err, want)
		}
	}
	if _, err := pickNetwork(all, ns, "a"); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "red, blue") {
		t.Errorf("ambiguous: %v", err)
	}
}

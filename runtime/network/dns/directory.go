package dns

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// Host is a container in one network.
type Host struct {
	ID          string // of the container
	Network     string // id
	NetworkName string
	Names       []string // the first is what its addresses are called in return
	IPs         []netip.Addr
	Upstreams   []netip.AddrPort // asked for other names instead of the host's resolvers; empty: those
	Outside     bool             // the network leads out: other names may be asked for
}

type hostKey struct{ id, network string }

// Directory is who is in which network. The zero value is ready; it is for several goroutines.
type Directory struct {
	mu     sync.RWMutex
	hosts  map[hostKey]Host
	byAddr map[netip.Addr]hostKey
	byID   map[string][]string            // networks of a container, in the order in which it joined them
	byName map[string]map[string][]string // network → name in lower case → containers
}

// Set makes a container known, or known otherwise.
func (d *Directory) Set(h Host) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hosts == nil {
		d.hosts, d.byAddr = map[hostKey]Host{}, map[netip.Addr]hostKey{}
		d.byID, d.byName = map[string][]string{}, map[string]map[string][]string{}
	}
	k := hostKey{h.ID, h.Network}
	if old, ok := d.hosts[k]; ok {
		d.removeNames(old)
	} else {
		d.byID[h.ID] = append(d.byID[h.ID], h.Network)
	}
	d.hosts[k] = h
	for _, ip := range h.IPs {
		d.byAddr[ip] = k
	}
	names := d.byName[h.Network]
	if names == nil {
		names = map[string][]string{}
		d.byName[h.Network] = names
	}
	for _, name := range h.Names {
		name = strings.ToLower(name)
		if !slices.Contains(names[name], h.ID) {
			names[name] = append(names[name], h.ID)
		}
	}
}

// Remove forgets a container in one network.
func (d *Directory) Remove(id, network string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	k := hostKey{id, network}
	h, ok := d.hosts[k]
	if !ok {
		return
	}
	d.removeNames(h)
	delete(d.hosts, k)
	if d.byID[id] = slices.DeleteFunc(d.byID[id], func(n string) bool { return n == network }); len(d.byID[id]) == 0 {
		delete(d.byID, id)
	}
}

func (d *Directory) removeNames(h Host) {
	for _, ip := range h.IPs {
		if d.byAddr[ip] == (hostKey{h.ID, h.Network}) {
			delete(d.byAddr, ip)
		}
	}
	names := d.byName[h.Network]
	for _, name := range h.Names {
		name = strings.ToLower(name)
		if names[name] = slices.DeleteFunc(names[name], func(id string) bool { return id == h.ID }); len(names[name]) == 0 {
			delete(names, name)
		}
	}
	if len(names) == 0 {
		delete(d.byName, h.Network)
	}
}

// client is who asks, and what of the rest of the world it may ask for.
type client struct {
	networks  []string
	outside   bool
	upstreams []netip.AddrPort
}

// client finds who has the address; false when it is no container.
func (d *Directory) client(addr netip.Addr) (client, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	k, ok := d.byAddr[addr]
	if !ok {
		return client{}, false
	}
	c := client{networks: slices.Clone(d.byID[k.id])}
	for _, network := range c.networks {
		h := d.hosts[hostKey{k.id, network}]
		c.outside = c.outside || h.Outside
		if len(c.upstreams) == 0 {
			c.upstreams = h.Upstreams
		}
	}
	return c, true
}

// lookup finds the addresses of a name, or of NAME.NETWORK, in the first of the client's networks that knows it, in any
// order: of several containers with one alias, each gets its share.
func (d *Directory) lookup(c client, name string) ([]netip.Addr, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	name = strings.ToLower(name)
	for _, network := range c.networks {
		ids := d.byName[network][name]
		if len(ids) == 0 {
			if short, ok := strings.CutSuffix(name, "."+d.nameOf(network)); ok {
				ids = d.byName[network][short]
			}
		}
		if len(ids) == 0 {
			continue
		}
		var addrs []netip.Addr
		for _, id := range ids {
			addrs = append(addrs, d.hosts[hostKey{id, network}].IPs...)
		}
		rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
		return addrs, true
	}
	return nil, false
}

// nameOf is the name of a network that has containers. Called with mu held.
func (d *Directory) nameOf(network string) string {
	for _, ids := range d.byName[network] {
		for _, id := range ids {
			return strings.ToLower(d.hosts[hostKey{id, network}].NetworkName)
		}
	}
	return ""
}

// reverse is the name of an address in one of the client's networks.
func (d *Directory) reverse(c client, addr netip.Addr) (string, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	k, ok := d.byAddr[addr]
	if !ok || !slices.Contains(c.networks, k.network) {
		return "", false
	}
	h := d.hosts[k]
	if len(h.Names) == 0 {
		return "", false
	}
	return h.Names[0] + "." + h.NetworkName, true
}

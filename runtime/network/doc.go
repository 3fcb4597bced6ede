// Package network gives a pod its network: a namespace pinned at a path, an attachment made in it by CNI plugins or by
// the built-in bridge, and all of it taken away again. It knows neither the engine nor any protocol; only packages below
// this one touch CNI and nftables.
//
// The flow of a pod:
//
//	NewNamespace(path)     a spare namespace is pinned at the path, one made ahead where possible
//	Attach(request)        CNI ADD, or the built-in network: address, veth pair, routes, published ports
//	  the caller keeps the Attachment in the pod's record; nothing else remembers it
//	Detach(request, …)     the reverse, from the record, or from the request alone when there is no record yet
//	RemoveNamespace(path)  unmount, remove the file
//
// The flow of a daemon: New, then Restore with the attachments of all records before anything else, Collect with the ids
// that live once the records are recovered, and Close; Destroy instead takes away what outlives a daemon: the bridge and
// the rules.
//
// Containers join networks by AttachTo and the network's record, one attachment for each interface. Such networks are made,
// restored and removed by their records, which the engine keeps (record.go).
//
// Which provider makes an attachment is decided at each Attach: CNI when its directory holds a configuration, otherwise
// the built-in one. Whoever made it undoes it.
//
//	netns    namespaces: made, pinned, entered
//	cni      the CNI provider: configuration directory, capability arguments, plugins
//	bridge   the built-in provider: bridges, veth pairs, spare interfaces made ahead, bandwidth; users' networks
//	dns      the names of containers in users' networks
//	ipam     addresses of a subnet, in memory
//	relay    ports of the host that the kernel does not forward from, as on ::1
//	ports    who holds which port of the host, in memory
//	rules    the daemon's nftables table: decided as text, applied over netlink
package network

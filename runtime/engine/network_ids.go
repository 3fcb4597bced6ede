package engine

import (
	"context"

	"github.com/minirt/mini/runtime/network"
)

// withNetworkIDs completes containers of one namespace with the ids of the networks that they are in, or will be when they
// start. Those that are attached know them.
func (e *Engine) withNetworkIDs(ctx context.Context, ns string, list []Container) {
	var known []network.Record // looked for once, when somebody wants it
	for i, c := range list {
		for n, wanted := range c.Net.Networks {
			id := ""
			switch {
			case n < len(c.Attachments) && c.Attachments[n].Network != "":
				id = c.Attachments[n].Network
			case wanted.Network == network.Default:
				id = network.PredefinedID(network.Default)
			default:
				if known == nil {
					all, err := e.listNetworks(ctx, ns)
					if err != nil {
						e.Log.Warn("the networks of containers are not known", "namespace", ns, "error", err)
					}
					known = append(all, network.Record{})
				}
				if r, err := pickNetwork(known[:len(known)-1], ns, wanted.Network); err == nil {
					id = r.ID
				}
			}
			list[i].NetworkIDs = append(list[i].NetworkIDs, id)
		}
	}
}

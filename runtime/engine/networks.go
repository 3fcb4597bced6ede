package engine

import (
	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/network"
)

// userNetworks are the records of the networks that users have made, of all namespaces.
func (e *Engine) userNetworks() []network.Record {
	records, err := e.Networks.List("")
	if errdefs.IsDataLoss(err) {
		e.Log.Error("some networks are not known; see what check says", "error", err)
	} else if err != nil {
		e.Log.Error("the networks are not known", "error", err)
	}
	all := make([]network.Record, len(records))
	for i, r := range records {
		all[i] = r.Value
	}
	return all
}

package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/minirt/mini/internal/footprint"
	"github.com/minirt/mini/runtime/events"
)

// restAfter is how long after the start, or after the last image has come, the memory for it is given back.
const restAfter = time.Second

// rest keeps the daemon small: what its start and what pulls and imports have used goes back to the system a while after
// them. Nothing else is that large; the pages of the program that pods are run with come back with the first one, and stay.
func (d *Daemon) rest(ctx context.Context) {
	images, err := events.ParseFilter([]string{"type==image"})
	if err != nil {
		d.Log.Error("memory is not given back", "error", err)
		return
	}
	came := d.events.Subscribe(events.Options{Filter: images})
	defer came.Close()
	for {
		quiet, cancel := context.WithTimeout(ctx, restAfter)
		_, err := came.Next(quiet)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			if err := footprint.Release(); err != nil {
				d.Log.Debug("memory is not given back", "error", err)
			}
			_, err = came.Next(ctx)
		}
		if err != nil {
			return // the daemon stops
		}
	}
}

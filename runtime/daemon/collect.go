package daemon

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/containerd/errdefs"
)

// collectGarbage collects now and then, until ctx ends.
func (d *Daemon) collectGarbage(ctx context.Context) {
	for {
		var due <-chan time.Time
		if interval := time.Duration(d.config.Load().GC.Interval); interval > 0 {
			due = time.After(interval)
		}
		select {
		case <-ctx.Done():
			return
		case <-d.paced:
		case <-due:
			d.collectOnce(ctx)
		}
	}
}

func (d *Daemon) collectOnce(ctx context.Context) {
	start := time.Now()
	gone, err := d.engine.RemoveAgain(ctx)
	if gone > 0 {
		d.Log.Info("removed what earlier removals had left", "containers and pods", gone)
	}
	if err != nil && ctx.Err() == nil {
		d.Log.Warn("what an earlier removal has left is still there; it is tried again", "error", err)
	}
	c, err := d.engine.CollectGarbage(ctx, false)
	switch {
	case ctx.Err() != nil:
		return
	case errdefs.IsUnavailable(err):
		d.Log.Debug("garbage is not collected now", "error", err)
		return
	case err != nil:
		d.Log.Error("collect garbage", "error", err)
		return
	}
	if d.metrics != nil {
		d.metrics.collected.Inc()
		d.metrics.freed.Add(float64(c.Bytes))
	}
	if len(c.Blobs)+len(c.Snapshots) > 0 {
		d.Log.Info("collected garbage", "blobs", len(c.Blobs), "snapshots", len(c.Snapshots), "bytes", c.Bytes, "took", time.Since(start).Round(time.Millisecond))
	}
	// What the last pulls have used goes back to the system: a daemon is idle for most of its life.
	debug.FreeOSMemory()
}

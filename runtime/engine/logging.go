package engine

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/runtime/logs"
	"github.com/minirt/mini/runtime/logs/driver"
	"github.com/minirt/mini/runtime/logs/ship"
)

const (
	// targetTimeout is how long the target of a log may take to answer before its container starts.
	targetTimeout = 5 * time.Second
	// shipGrace is how long the removal of a container waits for the last of its log to be shipped.
	shipGrace = 2 * time.Second
)

// chooseLog completes what is said of a new container's log, and decides what its supervisor writes.
func (e *Engine) chooseLog(c *Container) error {
	if c.Log.Driver == "" {
		c.Logging = overDefault(c.Logging, driver.Choice{Driver: e.Config.LogDriver, Options: e.Config.LogOptions})
		plan, err := driver.Decide(c.Logging, e.logInfo(*c), e.logFiles(*c))
		if err != nil {
			return err
		}
		c.Log = plan.File
		return nil
	}
	if c.Log.Driver != logs.DriverNone && c.Log.Path == "" {
		c.Log.Path = e.logPath(*c)
	}
	if c.Log.MaxSize == 0 && c.Log.Driver == logs.DriverJSON {
		c.Log.MaxSize, c.Log.MaxFiles = e.Config.LogMaxSize, e.Config.LogMaxFiles
	}
	return nil
}

// overDefault lays a choice over the daemon's own, whose options count for its driver alone, as with Docker.
func overDefault(c, standard driver.Choice) driver.Choice {
	if standard.Driver == "" {
		standard.Driver = logs.DriverJSON
	}
	if c.Driver == "" {
		c.Driver = standard.Driver
	}
	if c.Driver != standard.Driver || len(standard.Options) == 0 {
		return c
	}
	options := maps.Clone(standard.Options)
	maps.Copy(options, c.Options)
	c.Options = options
	return c
}

func (e *Engine) logFiles(c Container) driver.Files {
	return driver.Files{Path: e.logPath(c), MaxSize: e.Config.LogMaxSize, MaxFiles: e.Config.LogMaxFiles}
}

// logInfo is what of a container can be in its log.
func (e *Engine) logInfo(c Container) driver.Info {
	info := driver.Info{ID: c.ID, Name: orID(c), Namespace: c.Namespace, ImageID: c.ImageDigest, ImageName: c.Image, Labels: c.Labels, Env: c.ImageConfig.Env, DaemonName: e.Name}
	if ref, err := name.Parse(c.Image); err == nil {
		info.ImageName = strings.TrimSuffix(ref.Familiar(), ":latest")
	}
	entrypoint, args := c.ImageConfig.Entrypoint, c.ImageConfig.Cmd
	if r := c.Request; r != nil {
		info.Env = slices.Concat(info.Env, r.Env)
		if r.Entrypoint != nil {
			entrypoint, args = *r.Entrypoint, nil
		}
		if len(r.Args) > 0 {
			args = r.Args
		}
	}
	info.Args = slices.Concat(entrypoint, args)
	return info
}

// logPlan is what becomes of the output of a container.
func (e *Engine) logPlan(c Container) (driver.Plan, error) {
	if c.Log.Driver == logs.DriverCRI && c.Logging.Driver == driver.Journald {
		return driver.Beside(c.Log, e.logInfo(c))
	}
	if c.Logging.Driver == "" {
		return driver.Plan{File: c.Log, Hidden: c.Log.Driver == logs.DriverNone}, nil
	}
	return driver.Decide(c.Logging, e.logInfo(c), e.logFiles(c))
}

// reachTarget makes sure that the place that a container logs to answers, before a client starts it, as Docker does. Where the
// lines are in a kubelet's file too, the container does not wait for the place.
func (e *Engine) reachTarget(ctx context.Context, l *live) error {
	plan, err := e.logPlan(l.record())
	if err != nil || plan.Ship == nil || plan.File.Driver == logs.DriverCRI || ship.Deferred(*plan.Ship) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, targetTimeout)
	defer cancel()
	t, err := ship.Open(ctx, *plan.Ship)
	if err != nil {
		return fmt.Errorf("initialize logging driver: %w: %w", err, errdefs.ErrFailedPrecondition)
	}
	return t.Close()
}

// shipping is the shipper of a container's log, at work.
type shipping struct {
	*ship.Shipper
	cancel context.CancelFunc
	done   chan struct{}
}

// startShipping ships a container's log, where its driver wants that, until all is sent after over. One that was at work is
// followed by another, which goes on where it was.
func (e *Engine) startShipping(l *live, over <-chan struct{}) {
	c := l.record()
	plan, err := e.logPlan(c)
	if err != nil {
		e.Log.Warn("a log is not shipped", "id", c.ID, "error", err)
		return
	}
	if plan.Ship == nil || e.ctx.Err() != nil {
		return
	}
	if err := os.MkdirAll(e.home(c), 0o700); err != nil { // where there is only the cursor
		e.Log.Warn("a log is not shipped", "id", c.ID, "error", err)
		return
	}
	l.stopShipping()
	ctx, cancel := context.WithCancel(e.ctx)
	s := &shipping{cancel: cancel, done: make(chan struct{})}
	s.Shipper = ship.New(ship.Options{
		Ship: *plan.Ship, Format: c.Log.Driver, Path: c.Log.Path, Cursor: filepath.Join(e.home(c), "shipped"), Done: over, Log: e.Log,
		Changed: func(st ship.Status) { e.tellShipping(l, plan.Ship.Driver, st) },
	})
	l.mu.Lock()
	l.shipping = s
	l.mu.Unlock()
	e.background.Go(func() {
		defer close(s.done)
		defer cancel()
		if err := s.Run(ctx); err != nil && ctx.Err() == nil {
			e.Log.Error("a log is not shipped any more; it is when the daemon starts again", "id", c.ID, "driver", plan.Ship.Driver, "error", err)
		}
	})
}

func (e *Engine) tellShipping(l *live, to string, st ship.Status) {
	action, attributes := "log-resumed", map[string]string{"driver": to}
	if st.Error != "" {
		action, attributes["error"] = "log-stalled", st.Error
	}
	e.publish(l, action, attributes)
}

func (l *live) shipper() *shipping {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shipping
}

// stopShipping ends the shipping where it is.
func (l *live) stopShipping() {
	if s := l.shipper(); s != nil {
		s.cancel()
		<-s.done
	}
}

// endShipping lets the last of a log be sent before the log is removed, unless its target is in trouble.
func (l *live) endShipping() {
	s := l.shipper()
	if s == nil {
		return
	}
	t := time.NewTimer(shipGrace)
	defer t.Stop()
	for tick := time.NewTicker(shipGrace / 40); s.Status().Error == ""; {
		select {
		case <-s.done:
			tick.Stop()
			return
		case <-t.C:
			tick.Stop()
			l.stopShipping()
			return
		case <-tick.C:
		}
	}
	l.stopShipping()
}

// over is the end of what has ended already.
func over() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

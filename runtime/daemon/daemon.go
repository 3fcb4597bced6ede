// Package daemon puts minid together: it reads the configuration, constructs every part in order, serves, and takes
// them apart in reverse. No part knows of it. What minid does is in the packages that it wires; the command line is in
// cmd/minid.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/minirt/mini/internal/apparmor"
	"github.com/minirt/mini/internal/cgroup"
	"github.com/minirt/mini/internal/grpcx"
	"github.com/minirt/mini/internal/selinux"
	"github.com/minirt/mini/internal/undo"
	"github.com/minirt/mini/oci/registry"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/oci/spec/cdi"
	"github.com/minirt/mini/runtime/classes"
	"github.com/minirt/mini/runtime/content"
	"github.com/minirt/mini/runtime/cri"
	"github.com/minirt/mini/runtime/cri/policy"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/events"
	"github.com/minirt/mini/runtime/image"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/network/outside"
	"github.com/minirt/mini/runtime/sandbox"
	"github.com/minirt/mini/runtime/server"
	"github.com/minirt/mini/runtime/store"
	"github.com/minirt/mini/runtime/stream"
	"github.com/minirt/mini/runtime/toolbox"
	"github.com/minirt/mini/runtime/trust"
	"github.com/minirt/mini/runtime/volume"
)

const defaultNamespace = "default"

const (
	// recoveryTimeout bounds how long a supervisor that does not answer can hold up the start.
	recoveryTimeout = 10 * time.Second
	// drainTimeout is how long running requests may go on after the daemon was told to stop.
	drainTimeout = 3 * time.Second
)

// Options are what a daemon is opened with.
type Options struct {
	Config    Config
	Path      string    // of the configuration file, for reloads
	Overrides Overrides // of the command line, for reloads
	Version   string
	Revision  string
	Log       *slog.Logger
	Level     *slog.LevelVar // that of Log
}

// Daemon is a minid that serves or can serve.
type Daemon struct {
	Options
	config     atomic.Pointer[Config]          // in force; Options.Config is that of the start
	registry   atomic.Pointer[registry.Client] // for requests that say nothing of the registry
	policy     atomic.Pointer[policy.Settings]
	classes    classes.Classes
	startedAt  time.Time
	uuid       string
	host       spec.Host
	additional additionalStores
	outside    *outside.Kit  // or nil: the daemon's network is the machine's
	paced      chan struct{} // the interval of the collections has changed
	closers    undo.Stack
	orderly    bool // the end is not a failure's
	lost       bool // the machine went down under the daemon before

	listener     net.Listener
	remote       net.Listener                     // for clients on other machines; nil: none
	peers        credentials.TransportCredentials // of remote; nil: it is not there
	store        *store.Store
	content      *content.Store
	judge        *trust.Judge
	snapshotters snapshotters
	namespaces   *store.Namespaces
	leases       *store.Leases
	events       *events.Bus
	images       *image.Service
	sandboxes    *sandbox.Sandboxes
	network      *network.Networks
	engine       *engine.Engine
	metrics      *metrics
	health       *health.Server
	grpc         *grpc.Server
}

// Open locks the directories, opens the socket and the stores, and recovers what ran under an earlier daemon. Clients
// that connect meanwhile wait. When it fails nothing is left behind.
func Open(ctx context.Context, o Options) (*Daemon, error) {
	d := &Daemon{Options: o, startedAt: time.Now(), paced: make(chan struct{}, 1)}
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"", d.openDirectories},
		{"", d.openRemote},
		{"", d.openStores},
		{"snapshots", d.openSnapshots},
		{"images", d.openImages},
		{"network", func(context.Context) error { return d.openNetwork() }},
		{"containers", d.openContainers},
		{"server", d.openServer},
		{"observation", d.openObservation},
	} {
		if err := step.do(ctx); err != nil {
			if step.what != "" {
				err = fmt.Errorf("%s: %w", step.what, err)
			}
			return nil, errors.Join(err, d.closers.Run(ctx))
		}
	}
	return d, nil
}

func (d *Daemon) openDirectories(context.Context) error {
	if d.Config.Metrics.Address != "" {
		d.metrics = newMetrics(d.Options.Version)
	}
	d.setConfig(d.Config)
	if err := d.setPolicy(d.Config); err != nil {
		return err
	}
	unlock, err := lockDirectories(d.Config.Root, d.Config.State)
	if err != nil {
		return err
	}
	d.closers.Add(unlock)
	if d.uuid, err = identity(d.Config.Root); err != nil {
		return err
	}
	d.lost = d.checkLastRun()
	if d.listener, err = listen(d.Config.Address); err != nil {
		return err
	}
	d.closers.Add(func(context.Context) error {
		if err := d.listener.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return nil
}

func (d *Daemon) openStores(ctx context.Context) (err error) {
	d.store, err = store.Open(ctx, store.Options{Path: filepath.Join(d.Config.Root, recordsFile), Logger: d.Log})
	if err != nil {
		return err
	}
	d.closers.Add(func(context.Context) error { return d.store.Close() })
	d.namespaces, d.leases = store.NewNamespaces(d.store), store.NewLeases(d.store)
	if err := d.namespaces.Ensure(defaultNamespace); err != nil {
		return err
	}
	d.content, err = content.Open(filepath.Join(d.Config.Root, "content"), store.NewTable[content.Record](d.store, "content", 1, nil), d.Log)
	if err != nil {
		return err
	}
	d.closers.Add(func(context.Context) error { return d.content.Close() })
	d.events = events.New()
	d.closers.Add(func(context.Context) error { d.events.Close(); return nil })
	return nil
}

func (d *Daemon) openSnapshots(ctx context.Context) (err error) {
	d.additional = d.readAdditional(ctx)
	d.content.Behind(d.additional.content...)
	d.snapshotters, err = openSnapshotters(ctx, d.Config, opening{store: d.store, owner: d.uuid, elsewhere: d.additional.layers, log: d.Log})
	for _, s := range d.snapshotters.all {
		d.closers.Add(func(context.Context) error { return s.Close() })
	}
	return err
}

func (d *Daemon) openImages(context.Context) (err error) {
	if d.judge, err = newJudge(d); err != nil {
		return err
	}
	scratch, err := d.scratch()
	if err != nil {
		return err
	}
	d.images, err = image.New(image.Deps{
		Content: d.content, Snapshotters: d.snapshotters.all, Default: d.snapshotters.fallback, NewRegistry: d.newRegistry, ShortNames: d.shortNames,
		Embedded: image.Embedded{Name: toolbox.Name, Open: toolbox.Archive}, Verifier: imageVerifier(d), Judge: d.judge,
		Images: image.WithAdditional(store.NewTable[image.Image](d.store, "images", 1, nil), d.additional.images), Leases: d.leases, Events: d.events, Log: d.Log,
		Apart: apart{d}, ApartDir: scratch, Config: d.Config.imageService(),
	})
	return err
}

func (c Config) imageService() image.Config {
	return image.Config{
		MaxDownloads: c.Registry.MaxConcurrentDownloads, MaxUnpacks: c.Image.MaxConcurrentUnpacks,
		PartSize: int64(c.Image.LayerPartSize), ProgressTimeout: time.Duration(c.Image.PullProgressTimeout),
		NoSync: !c.Image.SyncFS, WholePulls: !c.Image.PartialPulls, LeaseExpiry: time.Duration(c.GC.Grace),
	}
}

func (d *Daemon) openContainers(ctx context.Context) (err error) {
	d.host = spec.ProbeHost()
	driver := d.Config.Cgroup.Driver
	if driver == "" {
		driver = string(cgroup.DetectDriver())
	}
	d.host.CgroupDriver = driver
	plugins, err := newPlugins(d)
	if err != nil {
		return err
	}
	binary, err := supervisorBinary(d.Config.Supervisor.Path)
	if err != nil {
		return err
	}
	tuner, err := d.openTuner()
	if err != nil {
		return err
	}
	var labels engine.SELinux
	if host := selinux.ThisHost(d.Config.OCI.SELinuxCategories); host != nil && d.Config.OCI.SELinux {
		labels = host
	}
	d.host.SELinux = labels != nil
	d.engine, err = engine.New(withPlugins(engine.Deps{
		Name: d.Config.Name, Root: d.Config.Root, State: d.Config.State,
		Containers: store.NewTable[engine.Container](d.store, "containers", 1, nil),
		Pods:       store.NewTable[engine.Pod](d.store, "pods", 1, nil), Network: d.network,
		Networks: store.NewTable[network.Record](d.store, "networks", 1, nil),
		Volumes:  store.NewTable[volume.Record](d.store, "volumes", 1, nil),
		Images:   d.images, Snapshotters: d.snapshotters.all, Snapshotter: d.snapshotters.fallback,
		Leases: d.leases, Namespaces: d.namespaces, Store: d.store, Events: d.events, Host: d.host, CDI: cdi.New(d.Config.OCI.CDISpecDirs...), Tuner: tuner, Log: d.Log,
		AppArmor: apparmor.ThisHost(), SELinux: labels,
		Config: engine.Config{
			CgroupDriver: driver, CgroupParent: d.Config.Cgroup.Parent, Runtimes: d.Config.engineRuntimes(),
			SupervisorPath: binary, Pause: binary, RecoveryTimeout: recoveryTimeout,
			LogMaxSize: int64(d.Config.Log.MaxSize), LogMaxFiles: d.Config.Log.MaxFiles,
			LogDriver: d.Config.Log.Driver, LogOptions: d.Config.Log.Options,
		},
	}, plugins, d.Config))
	if err != nil {
		return err
	}
	d.sandboxes, err = sandbox.Open(ctx, sandbox.Config{
		Binary: binary, StateDir: d.Config.State, Name: d.Config.Name, Scope: d.Config.Supervisor.Scope, Log: d.Log,
		Debug: d.Config.LogLevel == "debug", Patience: recoveryTimeout,
	}, sandbox.Handlers{Exit: d.engine.HandleExit, OOM: d.engine.HandleOOM, Lost: d.engine.HandleLost})
	if err != nil {
		return err
	}
	d.closers.Add(func(ctx context.Context) error {
		d.sandboxes.ShutdownIdle(ctx) // those with containers go on without us
		if len(d.sandboxes.Info()) == 0 && driver == string(cgroup.Cgroupfs) && d.Config.Cgroup.Parent == "" {
			cgroup.RemoveEmpty(d.Config.Name)
		}
		return d.sandboxes.Close()
	})
	d.closers.Add(func(context.Context) error { return d.engine.Close() })
	d.engine.Use(d.sandboxes)
	if err := d.listenForbidden(); err != nil {
		return err
	}
	if err := d.engine.Recover(ctx); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	return d.startPlugins(plugins)
}

func (d *Daemon) openServer(ctx context.Context) error {
	if d.metrics != nil {
		d.metrics.count(d.engine.Counts)
	}
	tracing, stop, err := startTracing(ctx, d.Config.Tracing, d.Config.Name, d.Options.Version, d.Log)
	if err != nil {
		return err
	}
	d.closers.Add(stop)
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	options := grpcx.ServerOptions(grpcx.Interceptors{Log: d.Log, Observe: d.metrics.observer()}, d.peers)
	d.grpc = grpc.NewServer(append(options, tracing...)...)
	server.Register(d.grpc, server.Deps{
		Engine: d.engine, Images: d.images, Content: d.content, Snapshotters: d.snapshotters.all, Snapshotter: d.snapshotters.fallback,
		Namespaces: d.namespaces, Leases: d.leases, Events: d.events, Daemon: d, Log: d.Log,
		Serving: serving,
	})
	streaming, err := d.openStreaming()
	if err != nil {
		stopServing()
		return err
	}
	cri.Register(d.grpc, cri.Deps{
		Engine: d.engine, Images: d.images, Streams: urls{streaming}, Events: d.events, Disk: disk{d}, Host: d.host,
		Version: d.Options.Version, CgroupDriver: d.host.CgroupDriver, Config: func() any { return d.config.Load() }, Networks: d.networks,
		Runtimes: func() map[string]string { return d.config.Load().engineRuntimes().Paths }, Policy: d.policy.Load,
		Pinned: d.pinned, Log: d.Log, Serving: serving,
	})
	d.health = health.NewServer()
	healthpb.RegisterHealthServer(d.grpc, d.health)
	reflection.Register(d.grpc)
	d.closers.Add(func(context.Context) error {
		stopServing()
		return d.stopServer()
	})
	return nil
}

// openStreaming serves the streams of the CRI beside its socket.
func (d *Daemon) openStreaming() (*stream.Server, error) {
	c := d.Config.CRI
	s, err := stream.New(stream.Config{
		Address: c.StreamAddress, CertFile: c.StreamCert, KeyFile: c.StreamKey, IdleTimeout: time.Duration(c.StreamIdleTimeout),
	}, newStreamer(d), d.Log)
	if err != nil {
		return nil, err
	}
	d.showStreaming(s.Addr())
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	d.closers.Add(func(context.Context) error {
		s.Stop()
		return <-served
	})
	return s, nil
}

// stopServer lets running requests end, for a while. Those that would never end have been told, subscriptions are by
// the closing of the bus.
func (d *Daemon) stopServer() error {
	d.health.Shutdown()
	d.events.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.grpc.GracefulStop()
	}()
	select {
	case <-done:
	case <-time.After(drainTimeout):
		go d.grpc.Stop() // ends the requests' contexts, and waits as well
		select {
		case <-done:
		case <-time.After(drainTimeout):
			d.Log.Warn("some requests do not end; they are cut off")
		}
	}
	return nil
}

func (d *Daemon) openObservation(context.Context) error {
	if d.metrics != nil {
		stop, err := serveHTTP(d.Config.Metrics.Address, d.metrics.handler(), d.Log)
		if err != nil {
			return err
		}
		d.closers.Add(stop)
	}
	if d.Config.Debug.Pprof {
		stop, err := serveHTTP(debugSocket(d.Config.State), profiles(), d.Log)
		if err != nil {
			return err
		}
		d.closers.Add(stop)
	}
	return nil
}

// Serve answers until ctx ends, and then closes everything; containers run on. Each value from reload makes it read its
// configuration again.
func (d *Daemon) Serve(ctx context.Context, reload <-chan os.Signal) error {
	collectCtx, stopCollecting := context.WithCancel(ctx)
	var tidying sync.WaitGroup
	tidying.Go(func() { d.collectGarbage(collectCtx) })
	tidying.Go(func() { d.rest(collectCtx) })
	if d.lost {
		tidying.Go(func() { d.checkAfterLoss(collectCtx) })
	}
	d.closers.Add(func(context.Context) error {
		stopCollecting()
		tidying.Wait()
		return nil
	})
	served := d.serve()
	d.notify(sd.SdNotifyReady)
	d.Log.Info("serving", "version", d.Options.Version, "address", d.listener.Addr().String(), "name", d.Config.Name, "pid", os.Getpid(),
		"took", time.Since(d.startedAt).Round(time.Millisecond))
	for {
		select {
		case <-reload:
			if _, _, err := d.Reload(ctx); err != nil {
				d.Log.Error("the configuration is not reloaded; that in force stays", "error", err)
			}
		case err := <-served:
			return errors.Join(err, d.closers.Run(ctx))
		case <-ctx.Done():
			d.notify(sd.SdNotifyStopping)
			d.orderly = true
			d.Log.Info("stopping; containers run on", "containers", d.engine.Counts().Running)
			return d.closers.Run(ctx)
		}
	}
}

// notify tells systemd, when it listens (sd_notify(3)).
func (d *Daemon) notify(state string) {
	if _, err := sd.SdNotify(false, state); err != nil {
		d.Log.Warn("tell systemd", "state", state, "error", err)
	}
}

// Package nri lets plugins of the Node Resource Interface watch the pods and containers of Kubernetes, and change them,
// as they do with other runtimes: it is the one user of the interface's library, and turns its protocol into the plain
// types of runtime/plugin. When plugins are told of what is the engine's business.
//
// https://github.com/containerd/nri
package nri

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/nri/pkg/adaptation"
	nrilog "github.com/containerd/nri/pkg/log"
	"github.com/containerd/nri/plugins/default-validator/builtin"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/plugin"
)

// Where plugins expect the runtime to be.
const (
	DefaultSocket    = adaptation.DefaultSocketPath
	DefaultPlugins   = adaptation.DefaultPluginPath
	DefaultConfigDir = adaptation.DefaultPluginConfigPath

	DefaultRegistrationTimeout = adaptation.DefaultPluginRegistrationTimeout
	DefaultRequestTimeout      = adaptation.DefaultPluginRequestTimeout
)

// Validator is the configuration of the library's own plugin, which refuses kinds of changes by others.
type Validator = builtin.DefaultValidatorConfig

// Options are what an adaptation is made with. Empty paths and timeouts are the library's.
type Options struct {
	Version             string // of the runtime; its name towards plugins is "minid"
	Socket              string // plugins connect to it
	DisableConnections  bool   // only plugins of the directory
	PluginDir           string // those in it are started with the runtime
	ConfigDir           string
	RegistrationTimeout time.Duration // of a plugin that has connected or was started
	RequestTimeout      time.Duration // one that has not answered by then is dropped
	Validator           Validator
	CDI                 spec.CDI // nil: plugins cannot ask for CDI devices
	// BlockIO is what a class of block I/O means; nil: plugins cannot ask for one.
	BlockIO func(class string) (*specs.LinuxBlockIO, error)
	Log     *slog.Logger
}

// Runtime is what plugins see and change of it; *engine.Engine is one.
type Runtime interface {
	Objects(ctx context.Context) ([]plugin.Pod, []plugin.Container, error)
	ApplyUpdates(ctx context.Context, updates []plugin.Update) (failed []plugin.Update, err error)
}

// Adaptation is the runtime's side of the interface. Until Start there are no plugins, and to tell them is cheap.
type Adaptation struct {
	Options
	lib     *adaptation.Adaptation
	runtime Runtime
}

// LogTo says where the library logs, for the whole process, before the first adaptation is made.
func LogTo(l *slog.Logger) { nrilog.Set(logger{l.With("part", "nri")}) }

// New makes an adaptation. The library keeps its timeouts for the whole process.
func New(o Options) (*Adaptation, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Socket == "" {
		o.Socket = DefaultSocket
	}
	if o.RegistrationTimeout > 0 {
		adaptation.SetPluginRegistrationTimeout(o.RegistrationTimeout)
	}
	if o.RequestTimeout > 0 {
		adaptation.SetPluginRequestTimeout(o.RequestTimeout)
	}
	options := []adaptation.Option{adaptation.WithSocketPath(o.Socket), adaptation.WithDefaultValidator(&o.Validator)}
	if o.PluginDir != "" {
		options = append(options, adaptation.WithPluginPath(o.PluginDir))
	}
	if o.ConfigDir != "" {
		options = append(options, adaptation.WithPluginConfigPath(o.ConfigDir))
	}
	if o.DisableConnections {
		options = append(options, adaptation.WithDisabledExternalConnections())
	}
	a := &Adaptation{Options: o}
	var err error
	a.lib, err = adaptation.New("minid", o.Version, a.synchronize, a.unsolicited, options...)
	if err != nil {
		return nil, fmt.Errorf("nri: %w", err)
	}
	return a, nil
}

// Start starts the plugins of the directory, and lets others connect.
func (a *Adaptation) Start(r Runtime) error {
	if !a.DisableConnections {
		// The library would take the socket away from another runtime.
		if conn, err := net.Dial("unix", a.Socket); err == nil {
			conn.Close()
			return fmt.Errorf("nri: another runtime serves plugins at %s: set nri.socket_path to another path, or nri.disable: %w", a.Socket, errdefs.ErrAlreadyExists)
		}
	}
	a.runtime = r
	if err := a.lib.Start(); err != nil {
		return fmt.Errorf("nri: %w", err)
	}
	return nil
}

// Close ends the plugins that Start has started, and takes no more connections. Plugins that have connected see the end
// of their connection with that of the process.
func (a *Adaptation) Close() { a.lib.Stop() }

// synchronize tells a plugin that joins of all there is. What it wants changed is done beside: the operations whose locks
// it takes may wait for the plugin to have joined.
func (a *Adaptation) synchronize(ctx context.Context, tell adaptation.SyncCB) error {
	pods, containers, err := a.runtime.Objects(ctx)
	if err != nil {
		return err
	}
	var toldPods []*adaptation.PodSandbox
	for _, p := range pods {
		toldPods = append(toldPods, pod(p))
	}
	var toldContainers []*adaptation.Container
	for _, c := range containers {
		toldContainers = append(toldContainers, container(c))
	}
	asked, err := tell(ctx, toldPods, toldContainers)
	if err != nil || len(asked) == 0 {
		return err
	}
	go func() {
		if _, err := a.runtime.ApplyUpdates(context.WithoutCancel(ctx), updates(asked)); err != nil {
			a.Log.Warn("what an nri plugin wants changed as it joins", "error", err)
		}
	}()
	return nil
}

// unsolicited makes changes that a plugin asks for by itself.
func (a *Adaptation) unsolicited(ctx context.Context, asked []*adaptation.ContainerUpdate) ([]*adaptation.ContainerUpdate, error) {
	failed, err := a.runtime.ApplyUpdates(ctx, updates(asked))
	var failures []*adaptation.ContainerUpdate
	for _, f := range failed {
		for _, u := range asked {
			if u.GetContainerId() == f.ID {
				failures = append(failures, u)
				break
			}
		}
	}
	return failures, err
}

// logger is the library's way to log.
type logger struct{ to *slog.Logger }

func (l logger) Debugf(ctx context.Context, format string, args ...any) {
	l.log(ctx, slog.LevelDebug, format, args)
}

// The library tells at this level of every step of a connection.
func (l logger) Infof(ctx context.Context, format string, args ...any) {
	l.log(ctx, slog.LevelDebug, format, args)
}

func (l logger) Warnf(ctx context.Context, format string, args ...any) {
	l.log(ctx, slog.LevelWarn, format, args)
}

func (l logger) Errorf(ctx context.Context, format string, args ...any) {
	l.log(ctx, slog.LevelError, format, args)
}

func (l logger) log(ctx context.Context, level slog.Level, format string, args []any) {
	if l.to.Enabled(ctx, level) {
		l.to.Log(ctx, level, fmt.Sprintf(format, args...))
	}
}

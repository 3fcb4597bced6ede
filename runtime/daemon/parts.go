package daemon

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/oci/registry"
	"github.com/minirt/mini/runtime/image"
)

const supervisorName = "minid-supervisor"

// supervisorBinary finds the supervisor's program: where the configuration says, beside this one, or in $PATH.
func supervisorBinary(configured string) (string, error) {
	if configured != "" {
		if _, err := exec.LookPath(configured); err != nil {
			return "", fmt.Errorf("supervisor.path: %w", err)
		}
		return configured, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	beside := filepath.Join(filepath.Dir(self), supervisorName)
	if path, err := exec.LookPath(beside); err == nil {
		return path, nil
	}
	path, err := exec.LookPath(supervisorName)
	if err != nil {
		return "", fmt.Errorf("%s is neither at %s nor in $PATH: install it, or set supervisor.path: %w", supervisorName, beside, errdefs.ErrNotFound)
	}
	return filepath.Abs(path)
}

// newRegistry makes a client for one request. Those that say nothing of the registry share one, and its connections.
func (d *Daemon) newRegistry(o image.RegistryOptions) image.Registry {
	if o == (image.RegistryOptions{}) {
		return d.registry.Load()
	}
	return registryClient(*d.config.Load(), o, d.Options.Version, d.Log)
}

// shortNames completes the name of an image that has no registry in it.
func (d *Daemon) shortNames(ref string) ([]string, error) {
	return registry.ShortNames(d.config.Load().Registry.RegistriesConf, ref)
}

func registryClient(c Config, o image.RegistryOptions, version string, log *slog.Logger) *registry.Client {
	dirs := c.Registry.hostsDirs()
	if o.HostsDir != "" {
		dirs = append([]string{o.HostsDir}, dirs...)
	}
	return registry.New(registry.Options{
		HostsDirs: dirs, RegistriesConf: c.Registry.RegistriesConf, DockerConfig: cmp.Or(o.DockerConfig, c.Registry.DockerConfig), Override: o.Override, UserAgent: "minid/" + version, Logger: log, Trace: o.Trace,
	})
}

// setConfig brings a configuration into force.
func (d *Daemon) setConfig(c Config) {
	d.config.Store(&c)
	d.Level.Set(level(c.LogLevel))
	if d.judge != nil {
		d.judge.Set(c.trustSettings())
	}
	d.registry.Store(registryClient(c, image.RegistryOptions{}, d.Options.Version, d.Log))
	select {
	case d.paced <- struct{}{}:
	default:
	}
}

// Reload reads the configuration again and brings into force what a running daemon can obey.
func (d *Daemon) Reload(context.Context) (changed, needRestart []string, err error) {
	next, err := Load(d.Path, d.Overrides)
	if err != nil {
		return nil, nil, err
	}
	now := *d.config.Load()
	changed, needRestart = differences(now, next)
	merged := merge(now, next)
	if err := d.setPolicy(merged); err != nil {
		return nil, nil, err
	}
	if err := d.setOwnNetworks(merged); err != nil {
		return nil, nil, err
	}
	d.engine.SetRuntimes(merged.engineRuntimes())
	d.setConfig(merged)
	d.Log.Info("configuration reloaded", "changed", changed)
	if len(needRestart) > 0 {
		d.Log.Warn("some settings need a restart of the daemon; containers run on meanwhile", "keys", needRestart)
	}
	return changed, needRestart, nil
}

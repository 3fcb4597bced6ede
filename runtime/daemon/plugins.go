package daemon

import (
	"context"
	"time"

	"github.com/minirt/mini/oci/hooks"
	"github.com/minirt/mini/oci/spec/cdi"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/image"
	"github.com/minirt/mini/runtime/nri"
	"github.com/minirt/mini/runtime/verify"
)

// newPlugins makes the plugins' side of the runtime; nil when the configuration switches it off.
func newPlugins(d *Daemon) (*nri.Adaptation, error) {
	c := d.Config.NRI
	if c.Disable {
		return nil, nil
	}
	nri.LogTo(d.Log)
	return nri.New(nri.Options{
		Version: d.Options.Version, Socket: c.SocketPath, DisableConnections: c.DisableConnections,
		PluginDir: c.PluginPath, ConfigDir: c.PluginConfigPath, Validator: c.DefaultValidator,
		RegistrationTimeout: time.Duration(c.RegistrationTimeout), RequestTimeout: time.Duration(c.RequestTimeout),
		CDI: cdi.New(d.Config.OCI.CDISpecDirs...), BlockIO: d.classes.BlockIOClass, Log: d.Log,
	})
}

// withPlugins gives the engine those who may change containers.
func withPlugins(deps engine.Deps, plugins *nri.Adaptation, c Config) engine.Deps {
	if plugins != nil { // a nil pointer in an interface is not nil
		deps.Plugins = plugins
	}
	if len(c.OCI.HooksDirs) > 0 {
		deps.Hooks = hooks.Open(c.OCI.HooksDirs)
	}
	return deps
}

// startPlugins starts the plugins, once all that they are told of is known.
func (d *Daemon) startPlugins(plugins *nri.Adaptation) error {
	if plugins == nil {
		return nil
	}
	d.closers.Add(func(context.Context) error { plugins.Close(); return nil })
	return plugins.Start(d.engine)
}

// imageVerifier is who is asked before a pull; nil: nobody.
func imageVerifier(d *Daemon) image.Verifier {
	c := d.Config.ImageVerifier
	if c.BinDir == "" {
		return nil
	}
	return verify.Open(verify.Options{Dir: c.BinDir, Max: c.MaxVerifiers, Timeout: time.Duration(c.PerVerifierTimeout), Log: d.Log})
}

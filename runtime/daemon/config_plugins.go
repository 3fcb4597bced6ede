package daemon

import (
	"time"

	"github.com/minirt/mini/runtime/nri"
	"github.com/minirt/mini/runtime/verify"
)

// NRIConfig says how plugins of the Node Resource Interface are reached.
type NRIConfig struct {
	Disable             bool          `toml:"disable" comment:"true: no plugins are started or listened for. Plugins see and change the containers of pods."`
	SocketPath          string        `toml:"socket_path" comment:"Plugins connect to it. Of the runtimes of a machine only one can have it."`
	PluginPath          string        `toml:"plugin_path" comment:"A directory; plugins in it, named as 10-name, are started with the daemon."`
	PluginConfigPath    string        `toml:"plugin_config_path" comment:"A directory with their configuration: 10-name.conf or name.conf."`
	RegistrationTimeout Duration      `toml:"plugin_registration_timeout" comment:"How long a plugin may take to register after it was started or has connected."`
	RequestTimeout      Duration      `toml:"plugin_request_timeout" comment:"A plugin that has not answered by then is dropped, and the request goes on without it."`
	DisableConnections  bool          `toml:"disable_connections" comment:"Only the plugins of plugin_path; there is no socket."`
	DefaultValidator    nri.Validator `toml:"default_validator" comment:"What plugins may not change, and which plugins must be there for a container to be made."`
}

// OCIConfig is what all containers get.
type OCIConfig struct {
	HooksDirs         []string `toml:"hooks_dirs" comment:"Directories with hooks as in oci-hooks(5), in JSON files of version 1.0.0. A file in a later one stands for those of its name in earlier ones. Files are read when they change."`
	SELinux           bool     `toml:"selinux" comment:"Where the host has SELinux and a policy for containers, each container has a label of its own."`
	SELinuxCategories uint32   `toml:"selinux_category_range" comment:"Labels differ in two of so many categories: 2 to 1024."`
	CDISpecDirs       []string `toml:"cdi_spec_dirs" comment:"Directories with the files of CDI devices, the later ones first where two define the same device."`
}

// ImageVerifierConfig says who is asked whether an image may be pulled.
type ImageVerifierConfig struct {
	BinDir             string   `toml:"bin_dir" comment:"A directory; each program in it is run with -name, -digest and -stdin-media-type, and the descriptor on its standard input. An exit code other than 0 refuses the image. Empty, or not there: every image may be pulled."`
	MaxVerifiers       int      `toml:"max_verifiers" comment:"How many of the programs are run, by their names' order; -1: all."`
	PerVerifierTimeout Duration `toml:"per_verifier_timeout" comment:"A program that has not ended by then refuses the image."`
}

func defaultNRI() NRIConfig {
	return NRIConfig{
		Disable: true, SocketPath: nri.DefaultSocket, PluginPath: nri.DefaultPlugins, PluginConfigPath: nri.DefaultConfigDir,
		RegistrationTimeout: Duration(nri.DefaultRegistrationTimeout), RequestTimeout: Duration(nri.DefaultRequestTimeout),
		DefaultValidator: nri.Validator{RequiredPlugins: []string{}},
	}
}

func defaultOCI() OCIConfig {
	return OCIConfig{SELinux: true, SELinuxCategories: 1024, HooksDirs: []string{"/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d"}, CDISpecDirs: []string{"/etc/cdi", "/var/run/cdi"}}
}

func defaultImageVerifier() ImageVerifierConfig {
	return ImageVerifierConfig{BinDir: "/opt/containerd/image-verifier/bin", MaxVerifiers: verify.DefaultMax, PerVerifierTimeout: Duration(verify.DefaultTimeout)}
}

// checkPlugins complains of what cannot be meant of plugins, hooks, verifiers and runtimes.
func (c Config) checkPlugins(bad func(key, format string, args ...any), absolute func(key, path string)) {
	absolute("nri.socket_path", c.NRI.SocketPath)
	absolute("nri.plugin_path", c.NRI.PluginPath)
	absolute("nri.plugin_config_path", c.NRI.PluginConfigPath)
	absolute("image_verifier.bin_dir", c.ImageVerifier.BinDir)
	if n := c.OCI.SELinuxCategories; n < 2 || n > 1024 {
		bad("oci.selinux_category_range", "%d: policies have 1024 categories, and a label wants two", n)
	}
	for _, dir := range c.OCI.HooksDirs {
		absolute("oci.hooks_dirs", dir)
	}
	for _, dir := range c.OCI.CDISpecDirs {
		absolute("oci.cdi_spec_dirs", dir)
	}
	if len(c.NRI.SocketPath) > maxSocketPath {
		bad("nri.socket_path", "%q is longer than %d characters, the kernel's limit for a socket", c.NRI.SocketPath, maxSocketPath)
	}
	for key, d := range map[string]Duration{
		"nri.plugin_registration_timeout": c.NRI.RegistrationTimeout, "nri.plugin_request_timeout": c.NRI.RequestTimeout,
		"image_verifier.per_verifier_timeout": c.ImageVerifier.PerVerifierTimeout,
	} {
		if time.Duration(d) < time.Millisecond {
			bad(key, "%s is less than a millisecond", time.Duration(d))
		}
	}
	if n := c.ImageVerifier.MaxVerifiers; n == 0 || n < -1 {
		bad("image_verifier.max_verifiers", "%d is neither above 0 nor -1 for all; no bin_dir asks none", n)
	}
}

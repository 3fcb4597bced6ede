package daemon

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/logs/driver"
	"github.com/minirt/mini/runtime/network"
)

// validName is what a daemon may be called: its name is part of cgroup paths and systemd units.
var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$`)

// maxSocketPath is sun_path in sockaddr_un without its final zero, see unix(7).
const maxSocketPath = 107

// check complains of every setting that cannot be meant, each by its key.
func (c Config) check() error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s: %w", key, fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument))
	}
	oneOf := func(key, value string, allowed ...string) {
		if !slices.Contains(allowed, value) {
			quoted := strings.Join(slices.DeleteFunc(slices.Clone(allowed), func(s string) bool { return s == "" }), " or ")
			bad(key, "%q is not %s", value, quoted)
		}
	}
	absolute := func(key, path string) {
		if path != "" && !filepath.IsAbs(path) {
			bad(key, "%q is not an absolute path", path)
		}
	}
	if !validName.MatchString(c.Name) {
		bad("name", "%q: use letters, digits, _ . and -, begin with a letter or digit, at most 63", c.Name)
	}
	absolute("root", c.Root)
	absolute("state", c.State)
	absolute("address", c.Address)
	if c.Root == c.State {
		bad("state", "it is the root directory: the state is emptied by a reboot, the root must not be")
	}
	if len(c.Address) > maxSocketPath {
		bad("address", "%q is longer than %d characters, the kernel's limit for a socket", c.Address, maxSocketPath)
	}
	oneOf("log_level", c.LogLevel, "debug", "info", "warn", "error")
	oneOf("log_format", c.LogFormat, "text", "json")
	oneOf("cgroup.driver", c.Cgroup.Driver, "", "cgroupfs", "systemd", "none")
	oneOf("supervisor.scope", c.Supervisor.Scope, "node", "pod")
	absolute("supervisor.path", c.Supervisor.Path)
	absolute("cni.conf_dir", c.CNI.ConfDir)
	absolute("cni.conf_template", c.CNI.ConfTemplate)
	oneOf("cni.ip_pref", c.CNI.IPPref, "", "ipv4", "ipv6", "cni")
	oneOf("network.provider", c.Network.Provider, network.ProviderAuto, network.ProviderCNI, network.ProviderBuiltin)
	if _, err := parseSubnets(c.Network.Subnets); err != nil {
		bad("network.subnets", "%v", err)
	}
	for _, dir := range c.CNI.BinDirs {
		absolute("cni.bin_dirs", dir)
	}
	for _, dir := range c.Registry.hostsDirs() {
		absolute("registry.config_path", dir)
	}
	c.checkImage(bad, absolute)
	c.API.check(bad, absolute)
	c.checkPlugins(bad, absolute)
	c.checkSnapshotters(bad, absolute)
	c.checkRuntimes(bad, absolute)
	c.checkCRI(bad, absolute)
	c.checkNumbers(bad)
	if err := checkListener(c.Metrics.Address); err != nil {
		bad("metrics.address", "%s", err)
	}
	return errors.Join(errs...)
}

func (c Config) checkNumbers(bad func(key, format string, args ...any)) {
	if n := c.Network.Spares; n < 0 || n > 128 {
		bad("network.spares", "%d is not between 0 and 128", n)
	}
	if n := c.Network.MTU; n != 0 && (n < 1280 || n > 65535) {
		bad("network.mtu", "%d is not between 1280, the least that IPv6 needs, and 65535", n)
	}
	if n := c.Registry.MaxConcurrentDownloads; n < 1 || n > 64 {
		bad("registry.max_concurrent_downloads", "%d is not between 1 and 64", n)
	}
	if i := time.Duration(c.GC.Interval); i != 0 && i < time.Second {
		bad("gc.interval", "%s is less than a second: write e.g. \"10m\", or \"0s\" for never", i)
	}
	if g := time.Duration(c.GC.Grace); g < time.Minute {
		bad("gc.grace", "%s is less than a minute: what is being pulled could be collected", g)
	}
	if c.Log.MaxSize != 0 && c.Log.MaxSize < 4096 {
		bad("log.max_size", "%d bytes is less than 4096", c.Log.MaxSize)
	}
	if _, err := driver.Decide(driver.Choice{Driver: c.Log.Driver, Options: c.Log.Options}, driver.Info{ID: strings.Repeat("0", 64)}, driver.Files{Path: c.Root}); err != nil {
		bad("log.driver", "%v", err)
	}
	if c.Log.MaxFiles < 1 {
		bad("log.max_files", "%d is less than 1", c.Log.MaxFiles)
	}
	if s := c.Tracing.Sampling; s < 0 || s > 1 {
		bad("tracing.sampling", "%g is not between 0 and 1", s)
	}
}

// check lets nobody in unseen: who talks to the API is root.
func (c APIConfig) check(bad func(key, format string, args ...any), absolute func(key, path string)) {
	files := []struct{ key, path string }{{"api.tls_cert", c.TLSCert}, {"api.tls_key", c.TLSKey}, {"api.tls_ca", c.TLSCA}}
	var given, missing []string
	for _, f := range files {
		absolute(f.key, f.path)
		if f.path == "" {
			missing = append(missing, f.key)
		} else {
			given = append(given, f.key)
		}
	}
	if c.TCP == "" {
		return
	}
	host, _, err := net.SplitHostPort(c.TCP)
	switch {
	case err != nil:
		bad("api.tcp", "%q is not HOST:PORT, for example \"0.0.0.0:2376\"", c.TCP)
	case c.Insecure && len(given) > 0:
		bad("api.insecure", "%s are for TLS: take them out, or this", strings.Join(given, ", "))
	case c.Insecure && !isLoopback(host):
		bad("api.insecure", "%q is not a loopback address: everybody who reaches it would be root here: set api.tls_cert, api.tls_key and api.tls_ca", c.TCP)
	case !c.Insecure && len(missing) > 0:
		bad("api.tcp", "without %s everybody who reaches %s would be root here: set them (or, at a loopback address, insecure = true)", strings.Join(missing, ", "), c.TCP)
	}
}

// checkListener allows what only this machine can reach: there is no authentication behind it.
func checkListener(address string) error {
	if address == "" || filepath.IsAbs(address) {
		return nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is neither an absolute path nor host:port", address)
	}
	if !isLoopback(host) {
		return fmt.Errorf("%q is not a loopback address: everybody could read it there", address)
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (r RegistryConfig) hostsDirs() []string {
	return slices.DeleteFunc(strings.Split(r.ConfigPath, ":"), func(s string) bool { return s == "" })
}

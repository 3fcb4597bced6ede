package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/pelletier/go-toml/v2"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
)

// globalFlags stand before the command. Each has an environment variable and a key in mininerd.toml; the flag comes
// before the variable, which comes before the file.
func globalFlags() []cli.Flag {
	env := func(names ...string) []string { return names }
	return append([]cli.Flag{
		&cli.StringFlag{Name: "address", Aliases: []string{"a", "H", "host"}, Value: icli.DefaultAddress(), EnvVars: env("MININERD_ADDRESS", "MININERD_HOST", "MINID_ADDRESS"), Usage: "the daemon's `SOCKET`, or tcp://HOST:PORT"},
		&cli.StringFlag{Name: "namespace", Aliases: []string{"n"}, Value: "default", EnvVars: env("MININERD_NAMESPACE", "MINID_NAMESPACE"), Usage: "`NAME` of the namespace to work in"},
		&cli.StringFlag{Name: "snapshotter", Aliases: []string{"storage-driver"}, EnvVars: env("MININERD_SNAPSHOTTER", "MINID_SNAPSHOTTER"), Usage: "`NAME` of the snapshotter"},
		&cli.BoolFlag{Name: "insecure-registry", EnvVars: env("MININERD_INSECURE_REGISTRY"), Usage: "talk to registries without TLS, or without verifying it"},
		&cli.StringFlag{Name: "hosts-dir", EnvVars: env("MININERD_HOSTS_DIR"), Usage: "`DIRECTORY` of hosts.toml files, on the daemon's machine"},
		&cli.DurationFlag{Name: "timeout", EnvVars: env("MININERD_TIMEOUT"), Usage: "end the command after this time; 0: never"},
		&cli.DurationFlag{Name: "connect-timeout", EnvVars: env("MININERD_CONNECT_TIMEOUT"), Usage: "how long to wait for the daemon's socket; 0: 10 seconds"},
		&cli.BoolFlag{Name: "debug", Aliases: []string{"D"}, EnvVars: env("MININERD_DEBUG"), Usage: "print each call to the daemon, and how long it took"},
	}, icli.TLSFlags("MININERD", "MINID")...)
}

// file is mininerd.toml. What is not in it is nil.
type file struct {
	Address          *string `toml:"address"`
	Namespace        *string `toml:"namespace"`
	Snapshotter      *string `toml:"snapshotter"`
	InsecureRegistry *bool   `toml:"insecure_registry"`
	HostsDir         *string `toml:"hosts_dir"`
	Timeout          *string `toml:"timeout"`
	ConnectTimeout   *string `toml:"connect_timeout"`
	Debug            *bool   `toml:"debug"`
	TLS              *bool   `toml:"tls"`
	TLSVerify        *bool   `toml:"tlsverify"`
	TLSCACert        *string `toml:"tlscacert"`
	TLSCert          *string `toml:"tlscert"`
	TLSKey           *string `toml:"tlskey"`
	CertPath         *string `toml:"cert_path"`
}

// values are the file's, by the flags' names.
func (f file) values() map[string]string {
	out := map[string]string{}
	for name, v := range map[string]*string{
		"address": f.Address, "namespace": f.Namespace, "snapshotter": f.Snapshotter, "hosts-dir": f.HostsDir, "timeout": f.Timeout, "connect-timeout": f.ConnectTimeout,
		"tlscacert": f.TLSCACert, "tlscert": f.TLSCert, "tlskey": f.TLSKey, "cert-path": f.CertPath,
	} {
		if v != nil {
			out[name] = *v
		}
	}
	for name, v := range map[string]*bool{"insecure-registry": f.InsecureRegistry, "debug": f.Debug, "tls": f.TLS, "tlsverify": f.TLSVerify} {
		if v != nil {
			out[name] = strconv.FormatBool(*v)
		}
	}
	return out
}

// filePaths are where mininerd.toml may be: where MININERD_TOML says, else the user's, else the machine's.
func filePaths(env func(string) string) []string {
	if path := env("MININERD_TOML"); path != "" {
		return []string{path}
	}
	var all []string
	if dir := env("XDG_CONFIG_HOME"); dir != "" {
		all = append(all, filepath.Join(dir, "mininerd/mininerd.toml"))
	} else if home := env("HOME"); home != "" {
		all = append(all, filepath.Join(home, ".config/mininerd/mininerd.toml"))
	}
	return append(all, "/etc/mininerd/mininerd.toml")
}

// readSettings sets the global flags that neither the command line nor the environment has set as the file says.
func readSettings(c *cli.Context) error {
	for _, path := range filePaths(os.Getenv) {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) && os.Getenv("MININERD_TOML") == "" {
			continue
		}
		if err != nil {
			return fmt.Errorf("configuration: %w", err)
		}
		defer f.Close()
		var parsed file
		if err := toml.NewDecoder(f).DisallowUnknownFields().Decode(&parsed); err != nil {
			return fmt.Errorf("configuration %s: %w: %w", path, tomlError(err), errdefs.ErrInvalidArgument)
		}
		for name, value := range parsed.values() {
			if c.IsSet(name) {
				continue
			}
			if err := c.Set(name, value); err != nil {
				return fmt.Errorf("configuration %s: %s: %w: %w", path, name, err, errdefs.ErrInvalidArgument)
			}
		}
		return nil
	}
	return nil
}

// tomlError says which keys there are not.
func tomlError(err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		return fmt.Errorf("there is no key %q", strings.Join(strict.Errors[0].Key(), "."))
	}
	return err
}

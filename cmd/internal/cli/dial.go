package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/runtime/client"
)

// TLSFlags are the global flags for a daemon at tcp://, under docker's names. Each has a variable for each prefix, as
// MININERD_TLSCACERT.
func TLSFlags(prefixes ...string) []cli.Flag {
	env := func(name string) (all []string) {
		for _, p := range prefixes {
			all = append(all, p+"_"+name)
		}
		return all
	}
	return []cli.Flag{
		&cli.BoolFlag{Name: "tls", EnvVars: env("TLS"), Usage: "speak TLS to a daemon at tcp://; implied by the flags that follow"},
		&cli.BoolFlag{Name: "tlsverify", EnvVars: env("TLS_VERIFY"), Usage: "and look at the daemon's certificate (the default; with --tls, false takes any)"},
		&cli.StringFlag{Name: "tlscacert", EnvVars: env("TLSCACERT"), Usage: "`FILE` of the authority that has signed the daemon's certificate", TakesFile: true},
		&cli.StringFlag{Name: "tlscert", EnvVars: env("TLSCERT"), Usage: "`FILE` of this client's certificate", TakesFile: true},
		&cli.StringFlag{Name: "tlskey", EnvVars: env("TLSKEY"), Usage: "`FILE` of its key", TakesFile: true},
		&cli.StringFlag{Name: "cert-path", EnvVars: env("CERT_PATH"), Usage: "`DIRECTORY` of ca.pem, cert.pem and key.pem, for those of the three that have no flag", TakesFile: true},
	}
}

// Dial connects to the daemon that the global flags address, connect-timeout, debug and TLSFlags tell of.
func Dial(c *cli.Context) (*client.Client, error) {
	o := client.Options{Address: c.String("address"), ConnectTimeout: c.Duration("connect-timeout"), TLS: tlsOf(c)}
	if c.Bool("debug") {
		o.Trace = func(call string) { fmt.Fprintln(c.App.ErrWriter, "debug:", call) }
	}
	return client.Dial(c.Context, o)
}

// tlsOf reads TLSFlags; nil: no TLS is wanted. Of the user's directory only files that are there are meant.
func tlsOf(c *cli.Context) *client.TLS {
	t := &client.TLS{CA: c.String("tlscacert"), Cert: c.String("tlscert"), Key: c.String("tlskey")}
	dir := c.String("cert-path")
	if !c.Bool("tls") && !c.Bool("tlsverify") && *t == (client.TLS{}) && dir == "" {
		return nil
	}
	t.SkipVerify = c.Bool("tls") && c.IsSet("tlsverify") && !c.Bool("tlsverify")
	named := dir != ""
	if !named {
		config, err := os.UserConfigDir()
		if err != nil {
			return t
		}
		dir = filepath.Join(config, strings.ToLower(c.App.Name))
	}
	mine := t.Cert == "" && t.Key == "" // a pair is of one place
	for _, f := range []struct {
		to    *string
		name  string
		wants bool
	}{{&t.CA, "ca.pem", t.CA == "" && !t.SkipVerify}, {&t.Cert, "cert.pem", mine}, {&t.Key, "key.pem", mine}} {
		path := filepath.Join(dir, f.name)
		if _, err := os.Stat(path); f.wants && (named || err == nil) {
			*f.to = path
		}
	}
	return t
}

package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/runtime/api"
)

// registryFlags say how to talk to a registry; what they do not say, hosts.toml and Docker's config.json do.
func registryFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "skip-verify", Aliases: []string{"k"}, Usage: "do not verify the registry's certificate"},
		&cli.BoolFlag{Name: "plain-http", Usage: "talk without TLS"},
		&cli.StringFlag{Name: "user", Aliases: []string{"u"}, Usage: "`USER[:PASSWORD]`; asked for when missing"},
		&cli.StringFlag{Name: "refresh", Usage: "refresh `TOKEN` instead of a password"},
		&cli.StringFlag{Name: "hosts-dir", Usage: "`DIRECTORY` of hosts.toml files, on the daemon's machine"},
		&cli.StringFlag{Name: "tlscacert", Usage: "`FILE` of the registry's certificate authority"},
		&cli.StringFlag{Name: "tlscert", Usage: "`FILE` of the client's certificate"},
		&cli.StringFlag{Name: "tlskey", Usage: "`FILE` of the client's key"},
		&cli.BoolFlag{Name: "http-trace", Aliases: []string{"http-dump"}, Usage: "have the daemon log each request and answer, without secrets"},
	}
}

func registryOptions(c *cli.Context) (*api.RegistryOptions, error) {
	o := &api.RegistryOptions{
		SkipVerify: c.Bool("skip-verify"), PlainHttp: c.Bool("plain-http"), IdentityToken: c.String("refresh"),
		HostsDir: c.String("hosts-dir"), Ca: c.String("tlscacert"), Cert: c.String("tlscert"), Key: c.String("tlskey"),
		Trace: c.Bool("http-trace"),
	}
	user := c.String("user")
	if user == "" {
		return o, nil
	}
	name, password, ok := strings.Cut(user, ":")
	if !ok {
		var err error
		if password, err = icli.AskPassword(); err != nil {
			return nil, fmt.Errorf("--user: %w: write USER:PASSWORD", err)
		}
	}
	o.Username, o.Password = name, password
	return o, nil
}

func platformFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "platform", Usage: "`OS/ARCH[/VARIANT]`, by default this machine's"},
		&cli.BoolFlag{Name: "all-platforms", Usage: "every platform of the image"},
	}
}

func snapshotterFlag() cli.Flag {
	return &cli.StringFlag{Name: "snapshotter", EnvVars: []string{"MINID_SNAPSHOTTER"}, Usage: "`NAME` of the snapshotter: overlay, native, or one of the daemon's configuration"}
}

func labelFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "label", Usage: "set a label `KEY=VALUE`"}
}

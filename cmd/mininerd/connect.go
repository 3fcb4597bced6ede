package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/cmd/mininerd/view"
	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/client"
)

// daemon is a connection to minid, and the namespace that the command works in.
type daemon struct {
	*client.Client
	ns string
}

// connect dials the daemon that the global flags name.
func connect(c *cli.Context) (*daemon, error) {
	conn, err := icli.Dial(c)
	if err != nil {
		return nil, err
	}
	return &daemon{Client: conn, ns: c.String("namespace")}, nil
}

// with runs a command that talks to the daemon and takes this many arguments; most below 0: any number.
func with(least, most int, usage string, act func(*cli.Context, *daemon) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if err := icli.Args(c, least, most, usage); err != nil {
			return err
		}
		d, err := connect(c)
		if err != nil {
			return err
		}
		defer d.Close()
		return act(c, d)
	}
}

// each acts on every argument, and goes on after a failure. Each name that it worked for is printed, unless quiet.
func each(usage string, quiet bool, act func(c *cli.Context, d *daemon, name string) error) cli.ActionFunc {
	return with(1, -1, usage, func(c *cli.Context, d *daemon) error {
		var failed error
		for _, name := range c.Args().Slice() {
			if err := act(c, d, name); err != nil {
				failed = errors.Join(failed, missing(err, name))
			} else if !quiet {
				fmt.Fprintln(c.App.Writer, name)
			}
		}
		return failed
	})
}

// missing says that a container is not there as docker does, for scripts that look for its words.
func missing(err error, name string) error {
	if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "container "+name+": not in namespace") {
		return err
	}
	return fmt.Errorf("%s: %s: %w", view.NoSuchContainer, name, errdefs.ErrNotFound)
}

func (d *daemon) request(name string) *api.ContainerRequest {
	return &api.ContainerRequest{Namespace: d.ns, Id: name}
}

// container gets one with its documents.
func (d *daemon) container(c *cli.Context, name string, size bool) (*api.Container, error) {
	r := d.request(name)
	r.Spec, r.Size = true, size
	got, err := d.Containers.Get(c.Context, r)
	if err != nil {
		return nil, missing(err, name)
	}
	return got, nil
}

func warn(c *cli.Context, warnings []string) {
	for _, w := range warnings {
		fmt.Fprintln(c.App.ErrWriter, "WARNING:", w)
	}
}

func formatFlag() cli.Flag {
	return &cli.StringFlag{Name: "format", Usage: "`FORMAT`: table, 'table TEMPLATE', json, or a Go template"}
}

func templateFlag() cli.Flag {
	return &cli.StringFlag{Name: "format", Aliases: []string{"f"}, Usage: "`FORMAT`: json, or a Go template"}
}

func filterFlag(keys []string) cli.Flag {
	return &cli.StringSliceFlag{Name: "filter", Aliases: []string{"f"}, Usage: "only those with `KEY=VALUE`: " + strings.Join(keys, ", ")}
}

// pruneFilterFlag has no letter: -f is --force there.
func pruneFilterFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "filter", Usage: "only those with `KEY=VALUE`: " + strings.Join(view.PruneFilterKeys(), ", ")}
}

func noTruncFlag() cli.Flag { return &cli.BoolFlag{Name: "no-trunc", Usage: "print everything whole"} }

func quietFlag(usage string) cli.Flag {
	return &cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: usage}
}

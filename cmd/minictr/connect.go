package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
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

// with runs a command that talks to the daemon.
func with(act func(*cli.Context, *daemon) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		d, err := connect(c)
		if err != nil {
			return err
		}
		defer d.Close()
		return act(c, d)
	}
}

// each runs a verb for every argument, and goes on after a failure.
func each(c *cli.Context, usage string, act func(d *daemon, name string) error) error {
	if err := icli.Args(c, 1, -1, usage); err != nil {
		return err
	}
	d, err := connect(c)
	if err != nil {
		return err
	}
	defer d.Close()
	var failed error
	for _, name := range c.Args().Slice() {
		failed = errors.Join(failed, act(d, name))
	}
	return failed
}

// labelAction is the verb that sets labels of the object that the first argument names, and prints them all.
func labelAction(object string, set func(*cli.Context, *daemon, map[string]string) (map[string]string, error)) cli.ActionFunc {
	return func(c *cli.Context) error {
		if err := icli.Args(c, 2, -1, object+" KEY=VALUE..."); err != nil {
			return err
		}
		labels, err := icli.ParseLabels(c.Args().Tail())
		if err != nil {
			return err
		}
		return with(func(c *cli.Context, d *daemon) error {
			all, err := set(c, d, labels)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.App.Writer, icli.Labels(all))
			return nil
		})(c)
	}
}

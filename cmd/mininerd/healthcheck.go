package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
)

func healthcheckCommand() *cli.Command {
	return &cli.Command{
		Name: "healthcheck", Usage: "do a container's health check now; the code is 1 when it fails", ArgsUsage: "CONTAINER",
		Action: with(1, 1, "CONTAINER", func(c *cli.Context, d *daemon) error {
			name := c.Args().First()
			r, err := d.Containers.CheckHealth(c.Context, d.request(name))
			if err != nil {
				return missing(err, name)
			}
			if r.ExitCode == 0 {
				fmt.Fprintln(c.App.Writer, "healthy")
				return nil
			}
			fmt.Fprintln(c.App.Writer, "unhealthy")
			if out := strings.TrimSpace(r.Output); out != "" {
				fmt.Fprintln(c.App.ErrWriter, out)
			}
			return icli.ExitError{Code: 1}
		}),
	}
}

package main

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"
)

func systemPruneCommand() *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "remove containers that do not run, networks and images that no container uses",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "images with a tag too"}, forceFlag(), pruneFilterFlag()},
		Action: with(0, 0, "", func(c *cli.Context, d *daemon) error {
			images := "all dangling images"
			if c.Bool("all") {
				images = "all images without at least one container associated to them"
			}
			what := "This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n  - " + images + "\n"
			if ok, err := confirmed(c, what); !ok {
				return err
			}
			freed, err := pruneContainers(c, d)
			if err != nil {
				return err
			}
			if err := pruneNetworks(c, d); err != nil && !errdefs.IsNotImplemented(err) {
				return err
			}
			ofImages, err := pruneImages(c, d)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "Total reclaimed space: %s\n", units.HumanSize(float64(freed+ofImages)))
			return nil
		}),
	}
}

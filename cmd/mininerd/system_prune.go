package main

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/cmd/mininerd/view"
)

func systemPruneCommand() *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "remove containers that do not run, networks and images that no container uses",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "images with a tag too"}, &cli.BoolFlag{Name: "volumes", Usage: "volumes without a name too"}, forceFlag(), pruneFilterFlag()},
		Action: with(0, 0, "", func(c *cli.Context, d *daemon) error {
			filters, err := volumeFilters(c)
			if err != nil {
				return err
			}
			images := "all dangling images"
			if c.Bool("all") {
				images = "all images without at least one container associated to them"
			}
			what := "This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n  - " + images + "\n"
			if c.Bool("volumes") {
				what += "  - all anonymous volumes not used by at least one container\n"
			}
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
			ofVolumes, err := systemPruneVolumes(c, d, filters)
			if err != nil {
				return err
			}
			ofImages, err := pruneImages(c, d)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "Total reclaimed space: %s\n", units.HumanSize(float64(freed+ofVolumes+ofImages)))
			return nil
		}),
	}
}

// volumeFilters are those of --volumes. As with docker, no time is known for volumes.
func volumeFilters(c *cli.Context) (view.Filters, error) {
	if !c.Bool("volumes") {
		return nil, nil
	}
	for _, f := range c.StringSlice("filter") {
		if strings.HasPrefix(f, "until=") {
			return nil, fmt.Errorf("the \"until\" filter is not supported with \"--volumes\": leave one out: %w", errdefs.ErrInvalidArgument)
		}
	}
	return view.ParseFilters(c.StringSlice("filter"), view.VolumePruneKeys()...)
}

// systemPruneVolumes removes volumes where --volumes asks for it, those without a name.
func systemPruneVolumes(c *cli.Context, d *daemon, filters view.Filters) (int64, error) {
	if !c.Bool("volumes") {
		return 0, nil
	}
	return pruneVolumes(c, d, filters, false)
}

package main

import (
	"fmt"
	"time"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/cmd/mininerd/view"
	"github.com/minirt/mini/runtime/api"
)

func imagePruneCommand() *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "remove images that no container uses: those without a tag, or with -a all",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "those with a tag too"}, forceFlag(), pruneFilterFlag()},
		Action: with(0, 0, "", func(c *cli.Context, d *daemon) error {
			what := "This will remove all dangling images."
			if c.Bool("all") {
				what = "This will remove all images without at least one container associated to them."
			}
			if ok, err := confirmed(c, what); !ok {
				return err
			}
			freed, err := pruneImages(c, d)
			if err == nil {
				fmt.Fprintf(c.App.Writer, "Total reclaimed space: %s\n", units.HumanSize(float64(freed)))
			}
			return err
		}),
	}
}

// pruneImages removes those that no container uses and the filters let through, and tells how many bytes are free now.
func pruneImages(c *cli.Context, d *daemon) (int64, error) {
	filters, err := view.ParseFilters(c.StringSlice("filter"), view.PruneFilterKeys()...)
	if err != nil {
		return 0, err
	}
	r := &api.PruneImagesRequest{Namespace: d.ns, All: c.Bool("all")}
	if len(filters) > 0 {
		all, err := d.localImages(c.Context)
		if err != nil {
			return 0, err
		}
		names, err := view.PrunableImages(all, filters, time.Now())
		if err != nil {
			return 0, err
		}
		r.Only = &api.ImageNames{Names: names}
	}
	gone, err := d.Images.Prune(c.Context, r)
	if err != nil {
		return 0, err
	}
	if len(gone.Deleted) > 0 {
		fmt.Fprintln(c.App.Writer, "Deleted Images:")
	}
	for _, n := range gone.Deleted {
		fmt.Fprintln(c.App.Writer, "untagged:", withTag(n))
	}
	if len(gone.Deleted) > 0 {
		fmt.Fprintln(c.App.Writer)
	}
	return gone.Bytes, nil
}

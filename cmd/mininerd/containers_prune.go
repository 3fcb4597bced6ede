package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/cmd/mininerd/view"
	"github.com/minirt/mini/runtime/api"
)

func containerPruneCommand() *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "remove all containers that do not run",
		Flags: []cli.Flag{forceFlag(), pruneFilterFlag()},
		Action: with(0, 0, "", func(c *cli.Context, d *daemon) error {
			if ok, err := confirmed(c, "This will remove all stopped containers."); !ok {
				return err
			}
			freed, err := pruneContainers(c, d)
			if err == nil {
				fmt.Fprintf(c.App.Writer, "Total reclaimed space: %s\n", units.HumanSize(float64(freed)))
			}
			return err
		}),
	}
}

// pruneContainers removes what does not run, and what was only made, and tells how many bytes that had written.
func pruneContainers(c *cli.Context, d *daemon) (int64, error) {
	filters, err := view.ParseFilters(c.StringSlice("filter"), view.PruneFilterKeys()...)
	if err != nil {
		return 0, err
	}
	all, err := d.Containers.List(c.Context, &api.ListContainersRequest{Namespace: d.ns})
	if err != nil {
		return 0, err
	}
	list, err := view.Prunable(all.Containers, filters, time.Now())
	if err != nil {
		return 0, err
	}
	removed, freed, err := d.removeIdle(c, list)
	if len(removed) > 0 {
		slices.Sort(removed)
		fmt.Fprintln(c.App.Writer, "Deleted Containers:")
		for _, id := range removed {
			fmt.Fprintln(c.App.Writer, id)
		}
		fmt.Fprintln(c.App.Writer)
	}
	return freed, err
}

// removeIdle removes containers that are not running when their turn comes.
func (d *daemon) removeIdle(c *cli.Context, list []*api.Container) (removed []string, freed int64, err error) {
	for _, one := range list {
		r := d.request(one.Id)
		r.Size = true
		sized, err := d.Containers.Get(c.Context, r)
		if err == nil {
			_, err = d.Containers.Delete(c.Context, &api.DeleteContainerRequest{Namespace: d.ns, Id: one.Id})
		}
		switch {
		case errdefs.IsNotFound(err), errdefs.IsFailedPrecondition(err): // removed or started meanwhile
		case err != nil:
			return removed, freed, err
		default:
			removed = append(removed, one.Id)
			freed += sized.Size.GetSize()
		}
	}
	return removed, freed, nil
}

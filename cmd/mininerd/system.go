package main

import (
	"fmt"
	"runtime"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/cmd/mininerd/format"
	"github.com/minirt/mini/cmd/mininerd/view"
	"github.com/minirt/mini/runtime/api"
)

func systemCommand() *cli.Command {
	return &cli.Command{
		Name: "system", Usage: "work with the daemon",
		Subcommands: []*cli.Command{eventsCommand(), infoCommand(), versionCommand(), diskCommand(), systemPruneCommand()},
	}
}

func eventsCommand() *cli.Command {
	return &cli.Command{
		Name: "events", Usage: "print events as they happen",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "since", Usage: "from this `TIME` on, as far as the daemon remembers"},
			&cli.StringFlag{Name: "until", Usage: "end at this `TIME`"},
			filterFlag(view.EventFilterKeys()),
			&cli.StringFlag{Name: "format", Usage: "`FORMAT`: json, or a Go template"},
		},
		Action: with(0, 0, "", func(c *cli.Context, d *daemon) error {
			filters, err := view.ParseFilters(c.StringSlice("filter"), view.EventFilterKeys()...)
			if err != nil {
				return err
			}
			r := &api.SubscribeRequest{Namespace: d.ns}
			now := time.Now()
			if r.Since, err = timeFlag(c, "since", now); err != nil {
				return err
			}
			if r.Until, err = timeFlag(c, "until", now); err != nil {
				return err
			}
			err = d.Events(c.Context, r, func(e *api.Event) error {
				event := view.EventOf(e)
				if !event.Match(filters) {
					return nil
				}
				if text := c.String("format"); text != "" {
					return format.One(c.App.Writer, text, event)
				}
				_, err := fmt.Fprintln(c.App.Writer, event)
				return err
			})
			if c.Context.Err() != nil {
				return nil // an interrupt is how it ends
			}
			return err
		}),
	}
}

func infoCommand() *cli.Command {
	return &cli.Command{
		Name: "info", Usage: "print what the daemon says of itself and its host",
		Flags: []cli.Flag{templateFlag(), modeFlag()},
		Action: with(0, 0, "", func(c *cli.Context, d *daemon) error {
			i, err := d.System.Info(c.Context, &api.InfoRequest{})
			if err != nil {
				return err
			}
			if c.String("mode") == "native" {
				return format.Documents(c.App.Writer, c.String("format"), []*api.InfoResponse{i})
			}
			v, err := d.System.Version(c.Context, &api.VersionRequest{})
			if err != nil {
				return err
			}
			list, err := d.Containers.List(c.Context, &api.ListContainersRequest{Namespace: d.ns})
			if err != nil {
				return err
			}
			paused := int64(0)
			for _, one := range list.Containers {
				if one.State == "paused" {
					paused++
				}
			}
			out := view.InfoOf(i, v, paused)
			if text := c.String("format"); text != "" {
				return format.One(c.App.Writer, text, out)
			}
			fmt.Fprintf(c.App.Writer, "Client:\n Version: %s\n\nServer:\n%s", c.App.Version, out.Lines())
			warn(c, out.Warnings)
			return nil
		}),
	}
}

// versions is what version prints, as docker has it.
type versions struct {
	Client clientVersion
	Server *serverVersion
}

type clientVersion struct{ Version, GoVersion, Os, Arch string }

type serverVersion struct{ Version, GitCommit, GoVersion, APIVersion string }

func versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the versions of this program and of the daemon", Flags: []cli.Flag{templateFlag()},
		Action: func(c *cli.Context) error {
			out := versions{Client: clientVersion{c.App.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH}}
			d, err := connect(c)
			if err == nil {
				defer d.Close()
				var v *api.VersionResponse
				if v, err = d.System.Version(c.Context, &api.VersionRequest{}); err == nil {
					out.Server = &serverVersion{v.Version, v.Revision, v.GoVersion, v.ApiVersion}
				}
			}
			if text := c.String("format"); text != "" {
				if printErr := format.One(c.App.Writer, text, out); printErr != nil {
					return printErr
				}
				return err
			}
			w := c.App.Writer
			fmt.Fprintf(w, "Client:\n Version:    %s\n Go version: %s\n OS/Arch:    %s/%s\n", out.Client.Version, out.Client.GoVersion, out.Client.Os, out.Client.Arch)
			if s := out.Server; s != nil {
				fmt.Fprintf(w, "\nServer:\n Version:     %s\n API version: %s\n Go version:  %s\n Git commit:  %s\n", s.Version, s.APIVersion, s.GoVersion, s.GitCommit)
			}
			return err
		},
	}
}

// disk is a row of system df.
type disk struct{ Type, TotalCount, Active, Size, Reclaimable string }

func diskCommand() *cli.Command {
	return &cli.Command{
		Name: "df", Usage: "tell what takes the disk", Flags: []cli.Flag{formatFlag()},
		Action: with(0, 0, "", func(c *cli.Context, d *daemon) error {
			rows, err := d.disk(c)
			if err != nil {
				return err
			}
			header := disk{"TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"}
			return format.List(c.App.Writer, c.String("format"), `{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}`, header, rows)
		}),
	}
}

func (d *daemon) disk(c *cli.Context) ([]disk, error) {
	images, err := d.localImages(c.Context)
	if err != nil {
		return nil, err
	}
	list, err := d.Containers.List(c.Context, &api.ListContainersRequest{Namespace: d.ns, Size: true})
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	running := 0
	var written, idle int64
	for _, one := range list.Containers {
		used[one.Image] = true
		size := one.Size.GetSize()
		written += size
		if one.State == "running" || one.State == "paused" {
			running++
		} else {
			idle += size
		}
	}
	active := map[string]bool{}
	sizes := map[string]int64{}
	for _, i := range images {
		sizes[i.Id] = i.Bytes
		if used[i.Name] {
			active[i.Id] = true
		}
	}
	var total, free int64
	for id, size := range sizes {
		total += size
		if !active[id] {
			free += size
		}
	}
	return []disk{
		diskRow("Images", len(sizes), len(active), total, free), diskRow("Containers", len(list.Containers), running, written, idle),
	}, nil
}

func diskRow(kind string, count, active int, total, free int64) disk {
	share := ""
	if total > 0 {
		share = fmt.Sprintf(" (%d%%)", free*100/total)
	}
	return disk{kind, fmt.Sprint(count), fmt.Sprint(active), units.HumanSize(float64(total)), units.HumanSize(float64(free)) + share}
}

func systemPruneCommand() *cli.Command {
	return &cli.Command{
		Name: "prune", Usage: "remove containers that do not run, networks and images that no container uses",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "images with a tag too"}, forceFlag(), pruneFilterFlag()},
		Action: with(0, 0, "", func(c *cli.Context, d *daemon) error {
			if ok, err := confirmed(c, "This will remove: all stopped containers, all networks not used by at least one container, and unused images."); !ok {
				return err
			}
			removed, err := pruneContainers(c, d)
			if len(removed) > 0 {
				fmt.Fprintln(c.App.Writer, "Deleted Containers:")
				for _, id := range removed {
					fmt.Fprintln(c.App.Writer, id)
				}
				fmt.Fprintln(c.App.Writer)
			}
			if err != nil {
				return err
			}
			if err := pruneNetworks(c, d); err != nil && !errdefs.IsNotImplemented(err) {
				return err
			}
			return pruneImages(c, d)
		}),
	}
}

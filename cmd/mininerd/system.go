package main

import (
	"fmt"
	"time"

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
				for _, event := range view.EventsOf(e) {
					if err := printEvent(c, event, filters); err != nil {
						return err
					}
				}
				return nil
			})
			if c.Context.Err() != nil {
				return nil // an interrupt is how it ends
			}
			return err
		}),
	}
}

func printEvent(c *cli.Context, event view.Event, filters view.Filters) error {
	if !event.Match(filters) {
		return nil
	}
	if text := c.String("format"); text != "" {
		return format.One(c.App.Writer, text, event)
	}
	_, err := fmt.Fprintln(c.App.Writer, event)
	return err
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
			out := view.InfoOf(i, v)
			if text := c.String("format"); text != "" {
				return format.One(c.App.Writer, text, out)
			}
			fmt.Fprintf(c.App.Writer, "Client:\n Version: %s\n\nServer:\n%s", c.App.Version, out.Lines())
			warn(c, out.Warnings)
			return nil
		}),
	}
}

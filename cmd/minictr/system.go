package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"
)

func versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the versions of this program and of the daemon",
		Action: func(c *cli.Context) error {
			fmt.Fprintf(c.App.Writer, "Client:\n  Version:  %s\n  Go:       %s\n\n", c.App.Version, runtime.Version())
			d, err := connect(c)
			if err != nil {
				return err
			}
			defer d.Close()
			v, err := d.System.Version(c.Context, &api.VersionRequest{})
			if err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "Server:\n  Version:  %s\n  Revision: %s\n  Go:       %s\n  API:      %s\n", v.Version, v.Revision, v.GoVersion, v.ApiVersion)
			if v.Version != c.App.Version {
				fmt.Fprintln(c.App.ErrWriter, "warning: client and server are of different versions")
			}
			return nil
		},
	}
}

func infoCommand() *cli.Command {
	return &cli.Command{
		Name: "info", Usage: "print what the daemon says of itself and its host, as JSON",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "config", Usage: "print the configuration that it has in force instead, as TOML"}},
		Action: with(func(c *cli.Context, d *daemon) error {
			i, err := d.System.Info(c.Context, &api.InfoRequest{Config: c.Bool("config")})
			if err != nil {
				return err
			}
			if c.Bool("config") {
				_, err := fmt.Fprint(c.App.Writer, i.Config)
				return err
			}
			return icli.PrintJSON(c.App.Writer, i)
		}),
	}
}

func pluginsCommand() *cli.Command {
	return &cli.Command{
		Name: "plugins", Aliases: []string{"plugin"}, Usage: "see what the daemon can use: snapshotters and runtimes",
		Subcommands: []*cli.Command{{
			Name: "list", Aliases: []string{"ls"}, Usage: "list them, and why those that cannot be used cannot", ArgsUsage: " ",
			Flags: icli.OutputFlags(),
			Action: with(func(c *cli.Context, d *daemon) error {
				i, err := d.System.Info(c.Context, &api.InfoRequest{})
				if err != nil {
					return err
				}
				l := icli.List{Header: []string{"TYPE", "ID", "PATH", "STATUS", "ERROR"}, JSON: i.Plugins}
				for _, p := range i.Plugins {
					l.Names = append(l.Names, p.Id)
					status := "ok"
					switch {
					case p.Error != "":
						status = "error"
					case p.Default:
						status = "default"
					}
					l.Rows = append(l.Rows, []string{p.Type, dash(p.Id), p.Path, status, dash(p.Error)})
				}
				return l.Print(c)
			}),
		}},
	}
}

func eventsCommand() *cli.Command {
	return &cli.Command{
		Name: "events", Aliases: []string{"event"}, Usage: "print events as they happen, of all namespaces unless -n says one", ArgsUsage: "[FILTER...]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "`FORMAT`: table or json"},
			&cli.DurationFlag{Name: "since", Usage: "begin this long ago, as far as the daemon remembers"},
		},
		Action: with(func(c *cli.Context, d *daemon) error {
			r := &api.SubscribeRequest{Filters: c.Args().Slice()}
			if c.IsSet("namespace") {
				r.Namespace = d.ns
			}
			if s := c.Duration("since"); s > 0 {
				r.Since = time.Now().Add(-s).UnixNano()
			}
			err := d.Events(c.Context, r, func(e *api.Event) error { return printEvent(c, e) })
			if c.Context.Err() != nil {
				return nil
			}
			return err
		}),
	}
}

func printEvent(c *cli.Context, e *api.Event) error {
	if c.String("output") == "json" {
		data, err := json.Marshal(e)
		if err == nil {
			_, err = fmt.Fprintln(c.App.Writer, string(data))
		}
		return err
	}
	_, err := fmt.Fprintf(c.App.Writer, "%s %s %s %s %s %s\n", time.Unix(0, e.Time).Format(time.RFC3339Nano), dash(e.Namespace),
		e.Type, e.Action, e.Id, icli.Labels(e.Attributes))
	return err
}

func checkCommand() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "compare what the daemon has on record with what is on the host; fails when something is wrong",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "repair", Usage: "mend what can be mended"},
			&cli.BoolFlag{Name: "quick", Usage: "do not read the bytes of the blobs"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "`FORMAT`: table or json"},
		},
		Action: with(func(c *cli.Context, d *daemon) error {
			r, err := d.System.Check(c.Context, &api.CheckRequest{Repair: c.Bool("repair"), Quick: c.Bool("quick")})
			if err != nil {
				return err
			}
			open := 0
			l := icli.List{Header: []string{"KIND", "OBJECT", "PROBLEM", "REMEDY", "REPAIRED"}, JSON: r.Problems}
			for _, p := range r.Problems {
				if !p.Repaired {
					open++
				}
				l.Rows = append(l.Rows, []string{p.Kind, p.Object, p.Problem, p.Remedy, fmt.Sprint(p.Repaired)})
			}
			if len(r.Problems) > 0 || c.String("output") == "json" {
				if err := l.Print(c); err != nil {
					return err
				}
			}
			if open > 0 {
				return fmt.Errorf("%d problems: run minictr check --repair", open)
			}
			fmt.Fprintf(c.App.ErrWriter, "%d objects checked, nothing wrong\n", r.Checked)
			return nil
		}),
	}
}

func ociCommand() *cli.Command {
	return &cli.Command{
		Name: "oci", Usage: "OCI documents",
		Subcommands: []*cli.Command{{
			Name: "spec", Usage: "print a default runtime-spec document",
			Flags: []cli.Flag{&cli.StringFlag{Name: "platform", Usage: "`OS/ARCH`", Value: "linux/" + runtime.GOARCH}},
			Action: func(c *cli.Context) error {
				s, err := spec.Default(c.String("platform"))
				if err != nil {
					return err
				}
				return icli.PrintJSON(c.App.Writer, s)
			},
		}},
	}
}

func logsCommand() *cli.Command {
	return &cli.Command{
		Name: "logs", Usage: "print what a container has written", ArgsUsage: "CONTAINER",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on until the container ends"},
			&cli.Int64Flag{Name: "tail", Value: -1, Usage: "only the last `N` lines"},
			&cli.DurationFlag{Name: "since", Usage: "only lines younger than this"},
			&cli.BoolFlag{Name: "timestamps", Aliases: []string{"t"}, Usage: "print the time of each line"},
		},
		Action: with(func(c *cli.Context, d *daemon) error {
			if err := icli.Args(c, 1, 1, "CONTAINER"); err != nil {
				return err
			}
			r := &api.LogsRequest{Namespace: d.ns, Id: c.Args().First(), Follow: c.Bool("follow"), Tail: c.Int64("tail")}
			if s := c.Duration("since"); s > 0 {
				r.Since = time.Now().Add(-s).UnixNano()
			}
			err := d.Logs(c.Context, r, logPrinter(c.Bool("timestamps")))
			if errors.Is(err, c.Context.Err()) {
				return nil
			}
			return err
		}),
	}
}

// logPrinter writes entries to the stream they came from.
func logPrinter(timestamps bool) func(*api.LogEntry) error {
	begun := map[string]bool{} // a line of this stream is unfinished
	return func(e *api.LogEntry) error {
		out := os.Stdout
		if e.Stream == "stderr" {
			out = os.Stderr
		}
		data := e.Data
		if timestamps && !begun[e.Stream] {
			data = append([]byte(time.Unix(0, e.Time).UTC().Format(time.RFC3339Nano)+" "), data...)
		}
		begun[e.Stream] = e.Partial
		_, err := out.Write(data)
		return err
	}
}

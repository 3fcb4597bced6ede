package main

import (
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/runtime/api"
)

func logsCommand() *cli.Command {
	return &cli.Command{
		Name: "logs", Usage: "print what a container has written", ArgsUsage: "CONTAINER",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on until the container ends"},
			&cli.StringFlag{Name: "tail", Aliases: []string{"n"}, Value: "all", Usage: "begin with the last `N` lines"},
			&cli.StringFlag{Name: "since", Usage: "lines since this `TIME`: RFC 3339, seconds since 1970, or how long ago (42m)"},
			&cli.StringFlag{Name: "until", Usage: "lines until this `TIME`"},
			&cli.BoolFlag{Name: "timestamps", Aliases: []string{"t"}, Usage: "print the time of each line"},
			&cli.BoolFlag{Name: "details", Usage: "print the labels and variables that the log keeps of each line"},
		},
		Action: with(1, 1, "CONTAINER", func(c *cli.Context, d *daemon) error {
			r, err := logsRequest(c, time.Now())
			if err != nil {
				return err
			}
			r.Namespace, r.Id = d.ns, c.Args().First()
			err = d.Logs(c.Context, r, logPrinter(c.App.Writer, c.App.ErrWriter, c.Bool("timestamps"), c.Bool("details")))
			if c.Context.Err() != nil {
				return nil // an interrupt is how a follower ends
			}
			if err != nil {
				return missing(err, r.Id)
			}
			return nil
		}),
	}
}

func logsRequest(c *cli.Context, now time.Time) (*api.LogsRequest, error) {
	r := &api.LogsRequest{Follow: c.Bool("follow"), Tail: -1, Details: c.Bool("details")}
	if t := c.String("tail"); t != "all" && t != "" {
		n, err := strconv.ParseInt(t, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("--tail %q: a number, or all: %w", t, errdefs.ErrInvalidArgument)
		}
		r.Tail = max(-1, n)
	}
	var err error
	if r.Since, err = timeFlag(c, "since", now); err != nil {
		return nil, err
	}
	r.Until, err = timeFlag(c, "until", now)
	return r, err
}

// timeFlag reads a time in nanoseconds since the epoch; 0 for none.
func timeFlag(c *cli.Context, name string, now time.Time) (int64, error) {
	t, err := icli.ParseTime(c.String(name), now)
	if err != nil {
		return 0, fmt.Errorf("--%s %w", name, err)
	}
	if t.IsZero() {
		return 0, nil
	}
	return t.UnixNano(), nil
}

// stampLayout has always nine digits, so that columns stay.
const stampLayout = "2006-01-02T15:04:05.000000000Z07:00"

// attributesText is docker's: pairs with the escapes of a URL's query, by name.
func attributesText(attributes map[string]string) string {
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(attributes)) {
		pairs = append(pairs, url.QueryEscape(key)+"="+url.QueryEscape(attributes[key]))
	}
	return strings.Join(pairs, ",")
}

// logPrinter writes entries to the stream that they came from.
func logPrinter(out, errs io.Writer, stamps, details bool) func(*api.LogEntry) error {
	begun := map[string]bool{} // a line of this stream is unfinished
	return func(e *api.LogEntry) error {
		w := out
		if e.Stream == "stderr" {
			w = errs
		}
		data := e.Data
		if details && !begun[e.Stream] {
			data = append([]byte(attributesText(e.Attributes)+" "), data...)
		}
		if stamps && !begun[e.Stream] {
			data = append([]byte(time.Unix(0, e.Time).UTC().Format(stampLayout)+" "), data...)
		}
		begun[e.Stream] = e.Partial
		_, err := w.Write(data)
		return err
	}
}

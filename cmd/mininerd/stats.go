package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/cmd/mininerd/format"
	"github.com/minirt/mini/cmd/mininerd/view"
	"github.com/minirt/mini/runtime/api"
)

// statsPause is the time between two samples.
const statsPause = time.Second

func statsCommand() *cli.Command {
	return &cli.Command{
		Name: "stats", Usage: "show what containers use, again and again", ArgsUsage: "[CONTAINER...]",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "containers that do not run too"},
			&cli.BoolFlag{Name: "no-stream", Usage: "once"}, noTruncFlag(), formatFlag(),
		},
		Action: with(0, -1, "[CONTAINER...]", runStats),
	}
}

func runStats(c *cli.Context, d *daemon) error {
	machine, err := d.System.Info(c.Context, &api.InfoRequest{})
	if err != nil {
		return err
	}
	w := watcher{d: d, names: c.Args().Slice(), all: c.Bool("all"), whole: c.Bool("no-trunc"), memory: uint64(machine.Memory)}
	if _, err := w.rows(c); err != nil {
		return err
	}
	live := !c.Bool("no-stream")
	shape := rowFormat(c, "", func(f dockerFile) string { return f.StatsFormat })
	for {
		select {
		case <-c.Context.Done():
			return nil // an interrupt is how it ends
		case <-time.After(statsPause):
		}
		rows, err := w.rows(c)
		if c.Context.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		var picture bytes.Buffer
		if err := format.List(&picture, shape, view.StatsColumns, view.StatsHeader(), rows); err != nil {
			return err
		}
		text := picture.String()
		if live && writesToTerminal(c) {
			// To the top, each line to its end, and nothing of the last picture below.
			text = "\x1b[H" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J"
		}
		if _, err := fmt.Fprint(c.App.Writer, text); err != nil || !live {
			return err
		}
	}
}

// watcher keeps the samples that the next ones are compared with.
type watcher struct {
	d          *daemon
	names      []string // empty: all
	all, whole bool
	memory     uint64 // of the daemon's machine, in bytes
	before     map[string]*view.Sample
}

func (w *watcher) rows(c *cli.Context) ([]view.Stats, error) {
	list, err := w.containers(c)
	if err != nil {
		return nil, err
	}
	samples, err := w.samples(c, list)
	if err != nil {
		return nil, err
	}
	var rows []view.Stats
	for _, one := range list {
		rows = append(rows, view.StatsRow(one.Id, view.ContainerName(one), w.before[one.Id], samples[one.Id], w.memory, w.whole))
	}
	w.before = samples
	return rows, nil
}

// containers are those that were named, or all that run.
func (w *watcher) containers(c *cli.Context) ([]*api.Container, error) {
	if len(w.names) == 0 {
		r, err := w.d.Containers.List(c.Context, &api.ListContainersRequest{Namespace: w.d.ns})
		if err != nil {
			return nil, err
		}
		return view.Containers(r.Containers, nil, w.all, 0)
	}
	var all []*api.Container
	for _, name := range w.names {
		one, err := w.d.Containers.Get(c.Context, w.d.request(name))
		if err != nil {
			return nil, missing(err, name)
		}
		all = append(all, one)
	}
	return all, nil
}

func (w *watcher) samples(c *cli.Context, list []*api.Container) (map[string]*view.Sample, error) {
	r, err := w.d.Containers.Stats(c.Context, &api.StatsRequest{Namespace: w.d.ns})
	if err != nil {
		return nil, err
	}
	out := map[string]*view.Sample{}
	for _, s := range r.Stats {
		if !slices.ContainsFunc(list, func(one *api.Container) bool { return one.Id == s.Id }) {
			continue
		}
		sample := &view.Sample{}
		if err := json.Unmarshal(s.Stats, sample); err != nil {
			return nil, fmt.Errorf("statistics of container %s: %w", s.Id, err)
		}
		out[s.Id] = sample
	}
	return out, nil
}

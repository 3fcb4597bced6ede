package main

import (
	"fmt"
	"sort"
	"strings"

	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/runtime/api"
)

func snapshotsCommand() *cli.Command {
	return &cli.Command{
		Name: "snapshots", Aliases: []string{"snapshot"}, Usage: "work with snapshots",
		Flags: []cli.Flag{snapshotterFlag()},
		Subcommands: []*cli.Command{
			snapshotsListCommand(), snapshotsTreeCommand(), snapshotsInfoCommand(), snapshotsPrepareCommand("prepare", "make a writable snapshot and print its mounts"),
			snapshotsPrepareCommand("view", "make a read-only snapshot and print its mounts"), snapshotsMountsCommand(), snapshotsDiffCommand(),
			snapshotsCommitCommand(), snapshotsUsageCommand(), snapshotsUnpackCommand(), snapshotsDeleteCommand(), snapshotsLabelCommand(),
		},
	}
}

func snapshotRequest(c *cli.Context, d *daemon, name string) *api.SnapshotRequest {
	return &api.SnapshotRequest{Namespace: d.ns, Snapshotter: c.String("snapshotter"), Name: name}
}

func listSnapshots(c *cli.Context, d *daemon) ([]*api.Snapshot, error) {
	r, err := d.Snapshots.List(c.Context, &api.ListSnapshotsRequest{Namespace: d.ns, Snapshotter: c.String("snapshotter"), Filters: c.Args().Slice()})
	return r.GetSnapshots(), err
}

func snapshotsListCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Aliases: []string{"ls"}, Usage: "list snapshots", ArgsUsage: "[FILTER...]", Flags: icli.OutputFlags(),
		Action: with(func(c *cli.Context, d *daemon) error {
			all, err := listSnapshots(c, d)
			if err != nil {
				return err
			}
			l := icli.List{Header: []string{"KEY", "PARENT", "KIND"}, JSON: all}
			for _, s := range all {
				l.Rows = append(l.Rows, []string{s.Name, dash(s.Parent), s.Kind})
			}
			return l.Print(c)
		}),
	}
}

func snapshotsTreeCommand() *cli.Command {
	return &cli.Command{
		Name: "tree", Usage: "print snapshots below their parents",
		Action: with(func(c *cli.Context, d *daemon) error {
			all, err := listSnapshots(c, d)
			if err != nil {
				return err
			}
			for _, line := range tree(all) {
				fmt.Fprintln(c.App.Writer, line)
			}
			return nil
		}),
	}
}

// tree indents every snapshot below its parent.
func tree(all []*api.Snapshot) []string {
	children := map[string][]string{}
	for _, s := range all {
		children[s.Parent] = append(children[s.Parent], s.Name)
	}
	var lines []string
	var walk func(parent string, depth int)
	walk = func(parent string, depth int) {
		sort.Strings(children[parent])
		for _, name := range children[parent] {
			prefix := ""
			if depth > 0 {
				prefix = strings.Repeat("  ", depth-1) + `\_ `
			}
			lines = append(lines, prefix+name)
			walk(name, depth+1)
		}
	}
	walk("", 0)
	return lines
}

func snapshotsInfoCommand() *cli.Command {
	return &cli.Command{
		Name: "info", Usage: "print a snapshot's record as JSON", ArgsUsage: "KEY",
		Action: with(func(c *cli.Context, d *daemon) error {
			if err := icli.Args(c, 1, 1, "KEY"); err != nil {
				return err
			}
			s, err := d.Snapshots.Info(c.Context, snapshotRequest(c, d, c.Args().First()))
			if err != nil {
				return err
			}
			return icli.PrintJSON(c.App.Writer, s)
		}),
	}
}

func snapshotsPrepareCommand(name, usage string) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, ArgsUsage: "KEY [PARENT]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "target", Aliases: []string{"t"}, Usage: "`DIRECTORY` for the mount commands", Value: "/mnt"},
			&cli.BoolFlag{Name: "mounts", Usage: "print mount commands (the default)", Value: true},
			labelFlag(),
		},
		Action: with(func(c *cli.Context, d *daemon) error {
			if err := icli.Args(c, 1, 2, "KEY [PARENT]"); err != nil {
				return err
			}
			labels, err := icli.ParseLabels(c.StringSlice("label"))
			if err != nil {
				return err
			}
			req := &api.PrepareSnapshotRequest{
				Namespace: d.ns, Snapshotter: c.String("snapshotter"), Name: c.Args().Get(0), Parent: c.Args().Get(1), Labels: labels,
			}
			call := d.Snapshots.Prepare
			if name == "view" {
				call = d.Snapshots.View
			}
			r, err := call(c.Context, req)
			if err != nil {
				return err
			}
			printMounts(c, r.Mounts, c.String("target"))
			return nil
		}),
	}
}

func snapshotsMountsCommand() *cli.Command {
	return &cli.Command{
		Name: "mounts", Aliases: []string{"m", "mount"}, Usage: "print the commands that mount a snapshot", ArgsUsage: "TARGET KEY",
		Action: with(func(c *cli.Context, d *daemon) error {
			if err := icli.Args(c, 2, 2, "TARGET KEY"); err != nil {
				return err
			}
			r, err := d.Snapshots.Mounts(c.Context, snapshotRequest(c, d, c.Args().Get(1)))
			if err != nil {
				return err
			}
			printMounts(c, r.Mounts, c.Args().First())
			return nil
		}),
	}
}

// printMounts prints commands for mount(8).
func printMounts(c *cli.Context, mounts []*api.Mount, target string) {
	for _, m := range mounts {
		fmt.Fprintf(c.App.Writer, "mount -t %s %s %s -o %s\n", m.Type, m.Source, target+m.Target, strings.Join(m.Options, ","))
	}
}

func snapshotsDiffCommand() *cli.Command {
	return &cli.Command{
		Name: "diff", Usage: "print the layer that turns one snapshot into another, by default a snapshot's parent into it", ArgsUsage: "KEY [PARENT]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "media-type", Usage: "`TYPE` of the layer", Value: "application/vnd.oci.image.layer.v1.tar+gzip"},
			&cli.StringFlag{Name: "ref", Usage: "`NAME` of the ingest"},
			&cli.BoolFlag{Name: "keep", Usage: "keep the layer in the content store and print its digest"},
			labelFlag(),
		},
		Action: with(func(c *cli.Context, d *daemon) error {
			if err := icli.Args(c, 1, 2, "KEY [PARENT]"); err != nil {
				return err
			}
			labels, err := icli.ParseLabels(c.StringSlice("label"))
			if err != nil {
				return err
			}
			layer, err := d.Snapshots.Diff(c.Context, &api.DiffRequest{
				Namespace: d.ns, Snapshotter: c.String("snapshotter"), Upper: c.Args().Get(0), Lower: c.Args().Get(1),
				MediaType: c.String("media-type"), Ref: c.String("ref"), Keep: c.Bool("keep"), Labels: labels,
			})
			if err != nil {
				return err
			}
			if c.Bool("keep") {
				fmt.Fprintln(c.App.Writer, layer.Digest)
				return nil
			}
			// Its lease ends in a day. It is not deleted here: an image may have the same layer.
			return d.ReadBlob(c.Context, &api.ReadContentRequest{Namespace: d.ns, Digest: layer.Digest}, c.App.Writer)
		}),
	}
}

func snapshotsCommitCommand() *cli.Command {
	return &cli.Command{
		Name: "commit", Usage: "turn a writable snapshot into a committed one", ArgsUsage: "KEY ACTIVE",
		Action: with(func(c *cli.Context, d *daemon) error {
			if err := icli.Args(c, 2, 2, "KEY ACTIVE"); err != nil {
				return err
			}
			_, err := d.Snapshots.Commit(c.Context, &api.CommitSnapshotRequest{
				Namespace: d.ns, Snapshotter: c.String("snapshotter"), Name: c.Args().Get(0), Active: c.Args().Get(1),
			})
			return err
		}),
	}
}

func snapshotsUsageCommand() *cli.Command {
	return &cli.Command{
		Name: "usage", Usage: "tell the disk space of snapshots, without their parents'", ArgsUsage: "[KEY...]",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "b", Usage: "sizes in bytes"}},
		Action: with(func(c *cli.Context, d *daemon) error {
			names := c.Args().Slice()
			if len(names) == 0 {
				all, err := listSnapshots(c, d)
				if err != nil {
					return err
				}
				for _, s := range all {
					names = append(names, s.Name)
				}
			}
			var rows [][]string
			for _, name := range names {
				u, err := d.Snapshots.Usage(c.Context, snapshotRequest(c, d, name))
				if err != nil {
					return err
				}
				size := icli.Size(u.Size)
				if c.Bool("b") {
					size = fmt.Sprint(u.Size)
				}
				rows = append(rows, []string{name, size, fmt.Sprint(u.Inodes)})
			}
			return icli.PrintTable(c.App.Writer, []string{"KEY", "SIZE", "INODES"}, rows)
		}),
	}
}

func snapshotsDeleteCommand() *cli.Command {
	return &cli.Command{
		Name: "delete", Aliases: []string{"del", "remove", "rm"}, Usage: "remove snapshots that have no children", ArgsUsage: "KEY...",
		Action: func(c *cli.Context) error {
			return each(c, "KEY...", func(d *daemon, name string) error {
				_, err := d.Snapshots.Remove(c.Context, snapshotRequest(c, d, name))
				return err
			})
		},
	}
}

func snapshotsLabelCommand() *cli.Command {
	return &cli.Command{
		Name: "label", Usage: "set labels of a snapshot; KEY= removes one", ArgsUsage: "NAME KEY=VALUE...",
		Action: labelAction("NAME", func(c *cli.Context, d *daemon, labels map[string]string) (map[string]string, error) {
			s, err := d.Snapshots.SetLabels(c.Context, &api.SetSnapshotLabelsRequest{
				Namespace: d.ns, Snapshotter: c.String("snapshotter"), Name: c.Args().First(), Labels: labels,
			})
			return s.GetLabels(), err
		}),
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/runtime/api"
)

func containersCommand() *cli.Command {
	return &cli.Command{
		Name: "containers", Aliases: []string{"container", "c"}, Usage: "work with containers",
		Subcommands: []*cli.Command{
			containersCreateCommand(), containersListCommand(), containersInfoCommand(), containersDeleteCommand(),
			containersLabelCommand(), containersCheckpointCommand(), containersRestoreCommand(),
		},
	}
}

// containerFlags are those of the commands that make a container.
func containerFlags() []cli.Flag {
	return icli.Join([]cli.Flag{
		&cli.StringFlag{Name: "config", Aliases: []string{"c"}, Usage: "`FILE` of a whole runtime-spec config.json, instead of the other flags"},
		&cli.StringFlag{Name: "platform", Usage: "`OS/ARCH[/VARIANT]` of the image to use"},
		&cli.StringFlag{Name: "runtime", Usage: "`NAME` of a runtime of the daemon's configuration"},
		snapshotterFlag(),
		&cli.StringSliceFlag{Name: "snapshotter-label", Usage: "label of the snapshot, `KEY=VALUE`"},
		labelFlag(),
		&cli.StringSliceFlag{Name: "annotation", Usage: "annotation of the runtime spec, `KEY=VALUE`"},
		&cli.StringFlag{Name: "log-driver", Usage: "`DRIVER` of the log: json-file, cri or none", Value: "json-file"},
		&cli.StringFlag{Name: "log-path", Usage: "`FILE` of the log, on the daemon's machine"},
		&cli.StringFlag{Name: "log-max-size", Usage: "`SIZE` at which the log is rotated"},
		&cli.IntFlag{Name: "log-max-files", Usage: "how many log files are kept"},
		&cli.BoolFlag{Name: "interactive", Aliases: []string{"i"}, Usage: "keep a standard input for attachments; with a terminal there always is one"},
		&cli.StringFlag{Name: "pod", Usage: "`GROUP` of containers that share a supervisor, with supervisor scope pod"},
	}, processFlags(), isolationFlags(), filesystemFlags(), resourceFlags())
}

// createRequest reads [IMAGE|ROOTFS] CONTAINER [COMMAND...] and the flags of containerFlags.
func createRequest(c *cli.Context, d *daemon) (*api.CreateContainerRequest, error) {
	labels, err := icli.ParseLabels(c.StringSlice("label"))
	if err != nil {
		return nil, err
	}
	snapshotLabels, err := icli.ParseLabels(c.StringSlice("snapshotter-label"))
	if err != nil {
		return nil, err
	}
	log, err := logConfig(c)
	if err != nil {
		return nil, err
	}
	req := &api.CreateContainerRequest{
		Namespace: d.ns, Platform: c.String("platform"), Snapshotter: c.String("snapshotter"), Runtime: c.String("runtime"),
		Labels: labels, SnapshotLabels: snapshotLabels, Log: log, Supervisor: c.String("pod"), NoPivot: c.Bool("no-pivot"),
		Stdin: c.Bool("interactive") || c.Bool("tty"),
	}
	args := c.Args().Slice()
	if c.String("config") != "" {
		return req, wholeSpec(c, req, args)
	}
	if len(args) < 2 {
		return nil, icli.Args(c, 2, -1, "IMAGE|ROOTFS CONTAINER [COMMAND...]")
	}
	r, err := request(c, args[2:])
	if err != nil {
		return nil, err
	}
	if c.Bool("rootfs") {
		r.Rootfs = args[0]
	} else {
		req.Image = args[0]
	}
	req.Id = args[1]
	req.Request, err = json.Marshal(r)
	return req, err
}

// wholeSpec reads --config: the arguments are [IMAGE] CONTAINER.
func wholeSpec(c *cli.Context, req *api.CreateContainerRequest, args []string) error {
	data, err := os.ReadFile(c.String("config"))
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	var s specs.Spec
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("--config %s: not a runtime-spec document: %w", c.String("config"), err)
	}
	switch len(args) {
	case 1:
		req.Id = args[0]
	case 2:
		req.Image, req.Id = args[0], args[1]
	default:
		return fmt.Errorf("%s --config: write [IMAGE] CONTAINER; the command is in the file: %w", c.Command.FullName(), errdefs.ErrInvalidArgument)
	}
	req.Spec = data
	return nil
}

func logConfig(c *cli.Context) (*api.LogConfig, error) {
	size, err := bytesFlag(c, "log-max-size")
	if err != nil {
		return nil, err
	}
	l := &api.LogConfig{Driver: c.String("log-driver"), Path: c.String("log-path"), MaxFiles: int32(c.Int("log-max-files"))}
	if size != nil {
		l.MaxSize = *size
	}
	if c.Bool("null-io") {
		l.Driver = "none"
	}
	return l, nil
}

func containersCreateCommand() *cli.Command {
	return &cli.Command{
		Name: "create", Usage: "make a container without starting it", ArgsUsage: "IMAGE|ROOTFS CONTAINER [COMMAND...]",
		Flags: containerFlags(),
		Action: with(func(c *cli.Context, d *daemon) error {
			req, err := createRequest(c, d)
			if err != nil {
				return err
			}
			made, err := d.Containers.Create(c.Context, req)
			if err != nil {
				return err
			}
			warn(c, made.Warnings)
			fmt.Fprintln(c.App.Writer, made.Id)
			return nil
		}),
	}
}

func warn(c *cli.Context, warnings []string) {
	for _, w := range warnings {
		fmt.Fprintln(c.App.ErrWriter, "warning:", w)
	}
}

func containersListCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Aliases: []string{"ls"}, Usage: "list containers", ArgsUsage: "[FILTER...]",
		Flags: icli.OutputFlags(),
		Action: with(func(c *cli.Context, d *daemon) error {
			r, err := d.Containers.List(c.Context, &api.ListContainersRequest{Namespace: d.ns, Filters: c.Args().Slice()})
			if err != nil {
				return err
			}
			l := icli.List{Header: []string{"CONTAINER", "IMAGE", "RUNTIME", "STATE", "CREATED"}, JSON: r.Containers}
			for _, i := range r.Containers {
				l.Rows = append(l.Rows, []string{i.Id, dash(i.Image), dash(i.Runtime), i.State, icli.Ago(i.CreatedAt)})
			}
			return l.Print(c)
		}),
	}
}

func containersInfoCommand() *cli.Command {
	return &cli.Command{
		Name: "info", Aliases: []string{"inspect"}, Usage: "print a container's record as JSON", ArgsUsage: "CONTAINER",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "spec", Usage: "print its runtime-spec document"}},
		Action: with(func(c *cli.Context, d *daemon) error {
			if err := icli.Args(c, 1, 1, "CONTAINER"); err != nil {
				return err
			}
			i, err := d.Containers.Get(c.Context, &api.ContainerRequest{Namespace: d.ns, Id: c.Args().First(), Spec: true})
			if err != nil {
				return err
			}
			if c.Bool("spec") {
				return icli.PrintJSON(c.App.Writer, json.RawMessage(i.Spec))
			}
			return icli.PrintJSON(c.App.Writer, containerInfo(i))
		}),
	}
}

// info is a container as JSON shows it: with its documents as documents.
type info struct {
	*api.Container
	Spec    json.RawMessage `json:"spec,omitempty"`
	Request json.RawMessage `json:"request,omitempty"`
}

func containerInfo(c *api.Container) info {
	return info{Container: c, Spec: c.Spec, Request: c.Request}
}

func containersDeleteCommand() *cli.Command {
	return &cli.Command{
		Name: "delete", Aliases: []string{"del", "remove", "rm"}, Usage: "remove containers", ArgsUsage: "CONTAINER...",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "keep-snapshot", Usage: "leave the snapshot"},
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "kill what runs first"},
		},
		Action: func(c *cli.Context) error {
			return each(c, "CONTAINER...", func(d *daemon, id string) error {
				_, err := d.Containers.Delete(c.Context, &api.DeleteContainerRequest{
					Namespace: d.ns, Id: id, Force: c.Bool("force"), KeepSnapshot: c.Bool("keep-snapshot"),
				})
				return err
			})
		},
	}
}

func containersLabelCommand() *cli.Command {
	return &cli.Command{
		Name: "label", Usage: "set labels of a container; KEY= removes one", ArgsUsage: "CONTAINER KEY=VALUE...",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "replace-all", Aliases: []string{"r"}, Usage: "remove the labels not named"}},
		Action: labelAction("CONTAINER", func(c *cli.Context, d *daemon, labels map[string]string) (map[string]string, error) {
			i, err := d.Containers.SetLabels(c.Context, &api.SetContainerLabelsRequest{
				Namespace: d.ns, Id: c.Args().First(), Labels: labels, Replace: c.Bool("replace-all"),
			})
			return i.GetLabels(), err
		}),
	}
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/cmd/mininerd/options"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"
)

const containers = "CONTAINER [CONTAINER...]"

func startCommand() *cli.Command {
	return &cli.Command{
		Name: "start", Usage: "start containers that were made or have exited", ArgsUsage: containers,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "attach", Aliases: []string{"a"}, Usage: "attach to its outputs"},
			&cli.BoolFlag{Name: "interactive", Aliases: []string{"i"}, Usage: "attach to its standard input"},
			&cli.StringFlag{Name: "checkpoint", Usage: "go on from this `CHECKPOINT`"}, checkpointDirFlag(),
			icli.DetachKeysFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.String("checkpoint") != "" {
				return startCheckpoint(c)
			}
			if !c.Bool("attach") && !c.Bool("interactive") {
				return each(containers, false, func(c *cli.Context, d *daemon, name string) error {
					started, err := d.Containers.Start(c.Context, d.request(name))
					warn(c, started.GetWarnings())
					return err
				})(c)
			}
			if c.NArg() > 1 {
				return errors.New("you cannot start and attach multiple containers at once")
			}
			return with(1, 1, "CONTAINER", func(c *cli.Context, d *daemon) error {
				return attach(c, d, c.Args().First(), c.Bool("interactive"), true)
			})(c)
		},
	}
}

// startCheckpoint starts a container where a checkpoint has left it.
func startCheckpoint(c *cli.Context) error {
	if c.Bool("attach") || c.Bool("interactive") {
		return fmt.Errorf("conflicting options: --checkpoint with --attach or --interactive: attach to it when it runs: %w", errdefs.ErrInvalidArgument)
	}
	if c.NArg() > 1 {
		return errors.New("you cannot start multiple containers from a checkpoint")
	}
	return each(containers, false, func(c *cli.Context, d *daemon, name string) error {
		dir, err := checkpointDir(c)
		if err != nil {
			return err
		}
		started, err := d.Containers.Restore(c.Context, &api.RestoreRequest{Namespace: d.ns, Id: name, Name: c.String("checkpoint"), Dir: dir})
		warn(c, started.GetWarnings())
		return err
	})(c)
}

func attachCommand() *cli.Command {
	return &cli.Command{
		Name: "attach", Usage: "join the streams of a running container", ArgsUsage: "CONTAINER",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "no-stdin", Usage: "do not feed its standard input"},
			&cli.BoolFlag{Name: "sig-proxy", Value: true, Usage: "pass signals on to the process"},
			icli.DetachKeysFlag(),
		},
		Action: with(1, 1, "CONTAINER", func(c *cli.Context, d *daemon) error {
			return attach(c, d, c.Args().First(), !c.Bool("no-stdin"), false)
		}),
	}
}

// attach joins a container's first process until it ends; start starts it then.
func attach(c *cli.Context, d *daemon, name string, stdin, start bool) error {
	got, err := d.container(c, name, false)
	if err != nil {
		return err
	}
	if !start {
		switch got.State {
		case "running":
		case "paused":
			return errors.New("you cannot attach to a paused container, unpause it first")
		default:
			return fmt.Errorf("you cannot attach to a stopped container, start it first: %w", errdefs.ErrFailedPrecondition)
		}
	}
	s := icli.Session{
		Client: d.Client, Terminal: hasTerminal(got.Spec), Stdin: stdin, DetachKeys: detachKeys(c), KeepSignal: c.IsSet("sig-proxy") && !c.Bool("sig-proxy"),
	}
	return s.Run(c.Context, &api.AttachOpen{Namespace: d.ns, Id: got.Id, Start: start})
}

func hasTerminal(document []byte) bool {
	var s struct{ Process struct{ Terminal bool } }
	return json.Unmarshal(document, &s) == nil && s.Process.Terminal
}

// stopFlags are those of stop and restart.
func stopFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "signal", Aliases: []string{"s"}, Usage: "`SIGNAL` instead of the container's"},
		&cli.IntFlag{Name: "timeout", Aliases: []string{"t", "time"}, Usage: "`SECONDS` to wait before it is killed; -1: no end"},
	}
}

func (d *daemon) stopRequest(c *cli.Context, name string) (*api.StopRequest, error) {
	r := &api.StopRequest{Namespace: d.ns, Id: name, Signal: c.String("signal")}
	if r.Signal != "" {
		if _, err := spec.ParseSignal(r.Signal); err != nil {
			return nil, err
		}
	}
	// The application has a flag of this name too: what counts is this command's own.
	if slices.Contains(c.LocalFlagNames(), "timeout") {
		timeout := int64(c.Int("timeout")) * int64(time.Second)
		r.Timeout = &timeout
	}
	return r, nil
}

func stopCommand() *cli.Command {
	return &cli.Command{
		Name: "stop", Usage: "stop running containers", ArgsUsage: containers, Flags: stopFlags(),
		Action: each(containers, false, func(c *cli.Context, d *daemon, name string) error {
			r, err := d.stopRequest(c, name)
			if err == nil {
				err = d.warnOfPod(c, name, "its kubelet may start another in its place")
			}
			if err == nil {
				_, err = d.Containers.Stop(c.Context, r)
			}
			return err
		}),
	}
}

func restartCommand() *cli.Command {
	return &cli.Command{
		Name: "restart", Usage: "stop containers and start them again", ArgsUsage: containers, Flags: stopFlags(),
		Action: each(containers, false, func(c *cli.Context, d *daemon, name string) error {
			r, err := d.stopRequest(c, name)
			if err == nil {
				_, err = d.Containers.Restart(c.Context, r)
			}
			return err
		}),
	}
}

func killCommand() *cli.Command {
	return &cli.Command{
		Name: "kill", Usage: "send a signal to running containers", ArgsUsage: containers,
		Flags: []cli.Flag{&cli.StringFlag{Name: "signal", Aliases: []string{"s"}, Value: "KILL", Usage: "`SIGNAL`, name or number"}},
		Action: each(containers, false, func(c *cli.Context, d *daemon, name string) error {
			sig, err := spec.ParseSignal(c.String("signal"))
			if err != nil {
				return err
			}
			_, err = d.Processes.Signal(c.Context, &api.SignalRequest{Namespace: d.ns, Id: name, Signal: int32(sig)})
			if errdefs.IsFailedPrecondition(err) {
				return fmt.Errorf("cannot kill container: %s: container is not running: %w", name, errdefs.ErrFailedPrecondition)
			}
			if err == nil && sig == int(syscall.SIGKILL) {
				_, err = d.Processes.Wait(c.Context, &api.ProcessRequest{Namespace: d.ns, Id: name}) // as docker: it is dead then
				if errdefs.IsNotFound(err) {
					return nil // with --rm
				}
			}
			return err
		}),
	}
}

func removeCommand() *cli.Command {
	return &cli.Command{
		Name: "rm", Aliases: []string{"remove"}, Usage: "remove containers", ArgsUsage: containers,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "kill what runs first"},
			&cli.BoolFlag{Name: "volumes", Aliases: []string{"v"}, Usage: "the volumes without a name too, unless others have them"},
		},
		Action: each(containers, false, func(c *cli.Context, d *daemon, name string) error {
			if err := d.spareMember(c, name); err != nil {
				return err
			}
			_, err := d.Containers.Delete(c.Context, &api.DeleteContainerRequest{Namespace: d.ns, Id: name, Force: c.Bool("force"), Volumes: c.Bool("volumes")})
			if errdefs.IsFailedPrecondition(err) && !c.Bool("force") {
				return fmt.Errorf("cannot remove container %q: container is running: stop the container before removing or force remove: %w", name, errdefs.ErrFailedPrecondition)
			}
			if errdefs.IsNotFound(err) && c.Bool("force") {
				fmt.Fprintln(c.App.ErrWriter, missing(err, name)) // docker says so, and it is no failure
				return nil
			}
			return err
		}),
	}
}

func pauseCommand() *cli.Command {
	return &cli.Command{
		Name: "pause", Usage: "freeze all processes of containers", ArgsUsage: containers,
		Action: each(containers, false, func(c *cli.Context, d *daemon, name string) error {
			_, err := d.Containers.Pause(c.Context, d.request(name))
			return err
		}),
	}
}

func unpauseCommand() *cli.Command {
	return &cli.Command{
		Name: "unpause", Usage: "thaw paused containers", ArgsUsage: containers,
		Action: each(containers, false, func(c *cli.Context, d *daemon, name string) error {
			_, err := d.Containers.Resume(c.Context, d.request(name))
			return err
		}),
	}
}

func waitCommand() *cli.Command {
	return &cli.Command{
		Name: "wait", Usage: "wait until containers have exited, and print their codes", ArgsUsage: containers,
		Action: each(containers, true, func(c *cli.Context, d *daemon, name string) error {
			exit, err := d.Processes.Wait(c.Context, &api.ProcessRequest{Namespace: d.ns, Id: name})
			if err == nil {
				fmt.Fprintln(c.App.Writer, exit.Code)
			}
			return err
		}),
	}
}

func renameCommand() *cli.Command {
	return &cli.Command{
		Name: "rename", Usage: "give a container another name", ArgsUsage: "CONTAINER NEW_NAME",
		Action: with(2, 2, "CONTAINER NEW_NAME", func(c *cli.Context, d *daemon) error {
			name := c.Args().First()
			got, err := d.Containers.Get(c.Context, d.request(name))
			if err != nil {
				return missing(err, name)
			}
			if got.Name == c.Args().Get(1) {
				return fmt.Errorf("renaming a container with the same name as its current name: %w", errdefs.ErrInvalidArgument)
			}
			_, err = d.Containers.Rename(c.Context, &api.RenameRequest{Namespace: d.ns, Id: name, Name: c.Args().Get(1)})
			if err != nil {
				return missing(err, name)
			}
			return nil
		}),
	}
}

func updateCommand() *cli.Command {
	return &cli.Command{
		Name: "update", Usage: "change the limits and the restart policy of containers", ArgsUsage: containers,
		Flags: append(options.ResourceFlags(), options.KernelMemoryFlag(), &cli.StringFlag{Name: "restart", Usage: "`POLICY`: no, always, unless-stopped, on-failure[:RETRIES]"}),
		Action: func(c *cli.Context) error {
			r, err := updateRequest(c)
			if err != nil {
				return err
			}
			return each(containers, false, func(c *cli.Context, d *daemon, name string) error {
				r.Namespace, r.Id = d.ns, name
				_, err := d.Containers.Update(c.Context, r)
				return err
			})(c)
		},
	}
}

func updateRequest(c *cli.Context) (*api.UpdateContainerRequest, error) {
	resources, err := options.Resources(c)
	if err = errors.Join(err, options.CheckDiscarded(c)); err != nil {
		return nil, err
	}
	warn(c, options.Discarded(c))
	out := &api.UpdateContainerRequest{}
	if c.String("restart") != "" {
		if out.Restart, err = options.RestartPolicy(c.String("restart")); err != nil {
			return nil, err
		}
	}
	if resources == nil {
		if out.Restart == nil && !c.IsSet("kernel-memory") {
			return nil, fmt.Errorf("you must provide one or more flags when using this command: %w", errdefs.ErrInvalidArgument)
		}
		if out.Restart != nil {
			return out, nil
		}
		resources = &specs.LinuxResources{}
	}
	out.Resources, err = json.Marshal(resources)
	return out, err
}

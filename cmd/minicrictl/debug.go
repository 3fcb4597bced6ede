package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/cmd/internal/files"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/client"
)

const (
	toolboxImage = "docker.io/mini/toolbox:latest"
	// targetDir is where the root filesystem of the container that is looked at stands in the toolbox.
	targetDir = "/target"
	// labelDebugs marks a toolbox with the container that it looks at.
	labelDebugs = "minicrictl.debugs"
)

func debugCommand() *cli.Command {
	const usage = "CONTAINER [COMMAND...]"
	return &cli.Command{
		Name: "debug", Usage: "open a shell with tools beside a running container, or on the files of a stopped one; with minid", ArgsUsage: usage,
		Description: "The shell is in the container's PID, network, IPC and UTS namespaces; its files are in " + targetDir +
			",\nand in /proc/1/root as the container itself sees them, with its volumes.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "image", Value: toolboxImage, Usage: "`IMAGE` with the tools"},
			icli.DetachKeysFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := icli.Args(c, 1, -1, usage); err != nil {
				return err
			}
			return withNative(runDebug)(c)
		},
	}
}

func runDebug(c *cli.Context, d *client.Client) error {
	target, err := findContainer(c.Context, d, c.Args().First())
	if err != nil {
		return err
	}
	m, err := files.Mount(c.Context, d, target)
	if err != nil {
		return err
	}
	root := spec.Mount{Type: m.Type, Source: m.Source, Target: targetDir, Options: m.Options}
	request := debugRequest(target, root, commandOf(c.Args().Tail()), terminal(os.Stdin))
	data, err := json.Marshal(request)
	if err != nil {
		return err
	}
	made, err := d.Containers.Create(c.Context, &api.CreateContainerRequest{
		Namespace: criNamespace, Image: c.String("image"), Request: data, AutoRemove: true, Stdin: true, StdinOnce: true,
		Log: &api.LogConfig{Driver: "none"}, Labels: map[string]string{labelDebugs: target.Id},
	})
	if err != nil {
		return fmt.Errorf("debug container %s: %w", target.Id, err)
	}
	s := icli.Session{Client: d, Terminal: request.Terminal, Stdin: true, DetachKeys: c.String("detach-keys")}
	err = s.Run(c.Context, &api.AttachOpen{Namespace: criNamespace, Id: made.Id, Start: true})
	var code icli.ExitError
	if err == nil || errors.As(err, &code) {
		return err
	}
	// It may not have started, and is then not removed by its end.
	_, removeErr := d.Containers.Delete(context.WithoutCancel(c.Context), &api.DeleteContainerRequest{Namespace: criNamespace, Id: made.Id, Force: true})
	if notFound(removeErr) {
		removeErr = nil
	}
	return errors.Join(fmt.Errorf("debug container %s: %w", target.Id, err), removeErr)
}

// debugRequest is the toolbox container for a target whose root filesystem is mounted by root.
func debugRequest(target *api.Container, root spec.Mount, command []string, terminal bool) spec.Request {
	r := spec.Request{
		Args: command, Terminal: terminal, Mounts: []spec.Mount{root},
		// What strace, gdb, tcpdump, ip and mount want.
		CapAdd: []string{"SYS_PTRACE", "SYS_ADMIN", "NET_ADMIN", "NET_RAW"}, Seccomp: "unconfined", AppArmor: "unconfined",
	}
	if files.Running(target) {
		same := "container:" + target.Id
		r.Namespaces = map[string]string{"pid": same, "network": same, "ipc": same, "uts": same}
	}
	return r
}

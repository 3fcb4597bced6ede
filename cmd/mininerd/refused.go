package main

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"
)

// refusedCommands are docker's and nerdctl's commands that there are not, with the reason. They are not in the help.
func refusedCommands() []*cli.Command {
	const (
		notYet  = "there is no such command yet"
		swarm   = "there is no swarm: a daemon is one machine, and a cluster is Kubernetes'"
		plugins = "there are no plugins of the client"
	)
	return refused(map[string]string{
		"build": notYet + ": build with another tool and load its archive", "builder": notYet, "buildx": notYet, "compose": notYet, "ipfs": notYet, "trust": notYet,
		"context": "there are no contexts: --address, MININERD_ADDRESS or mininerd.toml name the daemon",
		"plugin":  plugins, "app": plugins,
		"swarm": swarm, "node": swarm, "service": swarm, "stack": swarm, "secret": swarm, "config": swarm,
	})
}

// refusedImageCommands are those below "image".
func refusedImageCommands() []*cli.Command {
	const notYet = "there is no such command yet"
	return refused(map[string]string{"build": notYet, "convert": notYet + ": see minictr images convert"})
}

func refused(reasons map[string]string) []*cli.Command {
	var all []*cli.Command
	for name, why := range reasons {
		all = append(all, &cli.Command{
			Name: name, Usage: why, Hidden: true, SkipFlagParsing: true, HideHelp: true,
			Action: func(*cli.Context) error { return fmt.Errorf("%s: %s: %w", name, why, errdefs.ErrNotImplemented) },
		})
	}
	return all
}

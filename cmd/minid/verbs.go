package main

import (
	"fmt"
	"runtime"

	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/client"
	"github.com/minirt/mini/runtime/daemon"
)

func configCommand() *cli.Command {
	return &cli.Command{
		Name: "config", Usage: "print or check the configuration",
		Subcommands: []*cli.Command{
			{Name: "default", Usage: "print the default configuration, with comments", Action: func(c *cli.Context) error {
				_, err := fmt.Fprint(c.App.Writer, daemon.Default())
				return err
			}},
			{Name: "check", ArgsUsage: "[FILE]", Usage: "say what is wrong with a configuration", Action: checkConfig},
			{Name: "show", Usage: "print the configuration as it is understood, with all that is derived", Action: func(c *cli.Context) error {
				config, err := daemon.Load(c.Path("config"), overrides(c))
				if err != nil {
					return err
				}
				_, err = fmt.Fprint(c.App.Writer, config)
				return err
			}},
		},
	}
}

func checkConfig(c *cli.Context) error {
	path := c.Args().First()
	if path == "" {
		path = c.Path("config")
	}
	if _, err := daemon.Load(path, overrides(c)); err != nil {
		return err
	}
	if path == "" {
		path = daemon.DefaultConfigPath
	}
	_, err := fmt.Fprintf(c.App.Writer, "%s: good\n", path)
	return err
}

func upgradeCommand() *cli.Command {
	return &cli.Command{
		Name: "upgrade-supervisor", Usage: "replace the program of the running supervisors by the one on disk; containers run on",
		Action: func(c *cli.Context) error {
			config, err := daemon.Load(c.Path("config"), overrides(c))
			if err != nil {
				return err
			}
			conn, err := client.Dial(c.Context, client.Options{Address: config.Address})
			if err != nil {
				return err
			}
			defer conn.Close()
			answer, err := conn.System.UpgradeSupervisor(c.Context, &api.UpgradeSupervisorRequest{})
			if err != nil {
				return err
			}
			for _, s := range answer.Supervisors {
				fmt.Fprintf(c.App.Writer, "%s: process %d, version %s, %d containers\n", s.Name, s.Pid, s.Version, s.Containers)
			}
			return nil
		},
	}
}

func versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the version",
		Action: func(c *cli.Context) error {
			_, err := fmt.Fprintf(c.App.Writer, "minid %s %s %s\n", c.App.Version, revision(), runtime.Version())
			return err
		},
	}
}

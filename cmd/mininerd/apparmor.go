package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/cmd/mininerd/format"
	"github.com/minirt/mini/internal/apparmor"
)

func apparmorCommand() *cli.Command {
	host := apparmor.ThisHost()
	return &cli.Command{
		Name: "apparmor", Usage: "work with AppArmor's profiles on this machine",
		Subcommands: []*cli.Command{
			{Name: "inspect", Usage: "print the profile for containers", Action: func(c *cli.Context) error {
				_, err := fmt.Fprint(c.App.Writer, host.Text())
				return err
			}},
			{Name: "load", Usage: "load the profile for containers, " + apparmor.Profile, Action: func(c *cli.Context) error {
				if err := icli.Args(c, 0, 0, ""); err != nil {
					return err
				}
				return host.Load(c.Context)
			}},
			{
				Name: "ls", Aliases: []string{"list"}, Usage: "list the profiles that are loaded", Flags: []cli.Flag{formatFlag(), quietFlag("print the names only")},
				Action: func(c *cli.Context) error {
					rows, err := host.Profiles()
					if err != nil {
						return err
					}
					text := c.String("format")
					if c.Bool("quiet") && text == "" {
						text = "{{.Name}}"
					}
					return format.List(c.App.Writer, text, `{{.Name}}\t{{.Mode}}`, apparmor.Loaded{Name: "NAME", Mode: "MODE"}, rows)
				},
			},
			{Name: "unload", Usage: "unload a profile, " + apparmor.Profile + " by default", ArgsUsage: "[PROFILE]", Action: func(c *cli.Context) error {
				if err := icli.Args(c, 0, 1, "[PROFILE]"); err != nil {
					return err
				}
				name := c.Args().First()
				if name == "" {
					name = apparmor.Profile
				}
				return host.Unload(name)
			}},
		},
	}
}

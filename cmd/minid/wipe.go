package main

import (
	"fmt"
	"log/slog"

	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/runtime/daemon"
)

func wipeCommand() *cli.Command {
	return &cli.Command{
		Name: "wipe", Usage: "remove Kubernetes' pods and containers that a stopped minid has left, when the machine was booted since",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "images", Usage: "and its images, when the version is another one since"},
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "also when nothing has happened since"},
		},
		Action: func(c *cli.Context) error {
			config, err := daemon.Load(c.Path("config"), overrides(c))
			if err != nil {
				return err
			}
			level := &slog.LevelVar{}
			wiped, err := daemon.Wipe(c.Context, daemon.Options{
				Config: config, Path: c.Path("config"), Overrides: overrides(c), Version: c.App.Version, Revision: revision(),
				Log: daemon.NewLogger(c.App.ErrWriter, config.LogFormat, level), Level: level,
			}, daemon.WipeOptions{Images: c.Bool("images"), Force: c.Bool("force")})
			if err != nil {
				return err
			}
			if wiped.Why != "" {
				_, err = fmt.Fprintln(c.App.Writer, "nothing wiped:", wiped.Why)
				return err
			}
			_, err = fmt.Fprintf(c.App.Writer, "wiped: %d pods, %d containers, %d images\n", wiped.Pods, wiped.Containers, wiped.Images)
			return err
		},
	}
}

package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
)

func configCommand() *cli.Command {
	return &cli.Command{
		Name: "config", Usage: "read and change the configuration file", ArgsUsage: "[KEY VALUE]",
		Description: "The options are " + strings.Join(configKeys(), ", ") + ".",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "get", Usage: "print the value of `KEY`"},
			&cli.StringSliceFlag{Name: "set", Usage: "set `KEY=VALUE`; several may be joined by commas"},
			&cli.BoolFlag{Name: "list", Usage: "print all options"},
		},
		Action: runConfig,
	}
}

func runConfig(c *cli.Context) error {
	pairs, err := configPairs(c.StringSlice("set"), c.Args().Slice())
	if err != nil {
		return err
	}
	name := global(c).String("config")
	d, err := readDocument(name)
	if err != nil {
		return err
	}
	values, err := d.values()
	if err != nil {
		return fmt.Errorf("configuration %s: %w", name, err)
	}
	switch {
	case c.IsSet("get"):
		text, err := values.get(c.String("get"))
		if err == nil {
			fmt.Fprintln(c.App.Writer, text)
		}
		return err
	case c.Bool("list"):
		var rows [][]string
		for _, key := range configKeys() {
			text, err := values.get(key)
			if err != nil {
				return err
			}
			rows = append(rows, []string{key, text})
		}
		return printTable(c.App.Writer, []string{"KEY", "VALUE"}, rows)
	case len(pairs) == 0:
		return cli.ShowSubcommandHelp(c)
	}
	for _, p := range pairs {
		if err := values.set(p[0], p[1]); err != nil {
			return err
		}
		text, err := values.get(p[0])
		if err != nil {
			return err
		}
		d.set(p[0], text)
	}
	return d.write(name)
}

// configPairs reads --set KEY=VALUE[,KEY=VALUE] and the older KEY VALUE.
func configPairs(sets, args []string) (pairs [][2]string, err error) {
	for _, s := range sets {
		for _, option := range strings.Split(s, ",") {
			key, value, ok := strings.Cut(option, "=")
			if !ok {
				return nil, fmt.Errorf("option %q: write it as KEY=VALUE: %w", option, errdefs.ErrInvalidArgument)
			}
			pairs = append(pairs, [2]string{key, value})
		}
	}
	switch {
	case len(args) == 0 || len(pairs) > 0 && len(args) == 0:
		return pairs, nil
	case len(args) != 2 || len(pairs) > 0:
		return nil, errors.New("config: give --get KEY, --set KEY=VALUE, --list, or KEY VALUE")
	}
	return [][2]string{{args[0], args[1]}}, nil
}

// noArgs is for the commands that take none.
func noArgs(act cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		if err := icli.Args(c, 0, 0, ""); err != nil {
			return err
		}
		return act(c)
	}
}

package main

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/cmd/mininerd/format"
	"github.com/minirt/mini/cmd/mininerd/view"
	"github.com/minirt/mini/oci/registry"
)

const maxFound = 100 // what registries answer at most

func searchCommand() *cli.Command {
	return &cli.Command{
		Name: "search", Usage: "search Docker Hub, or the registry that stands before the term, for images", ArgsUsage: "[REGISTRY/]TERM",
		Flags: []cli.Flag{
			filterFlag(view.SearchFilterKeys()), formatFlag(), noTruncFlag(),
			&cli.IntFlag{Name: "limit", Value: 25, Usage: "at most this `NUMBER` of results, 1 to 100"},
		},
		Action: func(c *cli.Context) error {
			if err := icli.Args(c, 1, 1, "[REGISTRY/]TERM"); err != nil {
				return err
			}
			filters, err := view.ParseFilters(c.StringSlice("filter"), view.SearchFilterKeys()...)
			if err != nil {
				return err
			}
			limit := c.Int("limit")
			if limit < 1 || limit > maxFound {
				return fmt.Errorf("limit %d is outside the range of [1, %d]: %w", limit, maxFound, errdefs.ErrInvalidArgument)
			}
			host, term := searchPlace(c.Args().First())
			client := registryClient(c)
			defer client.Close()
			domain := host
			if domain == "" {
				domain = hub
			}
			found, err := client.Search(c.Context, domain, term, limit)
			if err != nil {
				return err
			}
			rows, err := view.SearchRows(found, filters, host, c.Bool("no-trunc"))
			if err != nil {
				return err
			}
			return format.List(c.App.Writer, c.String("format"), view.SearchColumns, view.SearchHeader(), rows)
		},
	}
}

// searchPlace tells a registry from a term: it has a dot or a port, or is localhost. Docker Hub is empty.
func searchPlace(text string) (host, term string) {
	first, rest, ok := strings.Cut(text, "/")
	if !ok || !strings.ContainsAny(first, ".:") && first != "localhost" {
		return "", text
	}
	if first == hub {
		return "", rest
	}
	return first, rest
}

// registryClient asks registries from here, with this user's logins, as the global flags say.
func registryClient(c *cli.Context) *registry.Client {
	o := registry.Options{UserAgent: program, Override: &registry.HostOverride{SkipVerify: c.Bool("insecure") || c.Bool("insecure-registry")}}
	if dir := c.String("hosts-dir"); dir != "" {
		o.HostsDirs = []string{dir}
	}
	return registry.New(o)
}

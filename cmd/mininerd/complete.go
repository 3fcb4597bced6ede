package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/cmd/mininerd/view"
	"github.com/minirt/mini/runtime/api"
)

// completionPatience is how long a shell waits for the daemon's names.
const completionPatience = 2 * time.Second

// completeNames makes the commands tell a shell the names of the objects that they take, which the daemon knows.
func completeNames(commands []*cli.Command) {
	for _, c := range commands {
		completeNames(c.Subcommands)
		if len(c.Subcommands) > 0 || c.Hidden || c.BashComplete != nil || c.ArgsUsage == "" {
			continue
		}
		flags, usage := cli.DefaultCompleteWithFlags(c), c.ArgsUsage
		c.BashComplete = func(ctx *cli.Context) {
			// Before the flag that asks for completions stands what has been typed last.
			if n := len(os.Args); n > 1 && strings.HasPrefix(os.Args[n-2], "-") && os.Args[n-2] != "-" {
				flags(ctx)
				return
			}
			tellNames(ctx, usage)
		}
	}
}

// objectAt is what stands at a place of a command's arguments: a word of its usage, or the last one of a list.
func objectAt(usage string, place int) string {
	words := strings.Fields(usage)
	if place < len(words) {
		return strings.TrimSuffix(strings.Trim(words[place], "[]"), "...")
	}
	last := strings.Trim(words[len(words)-1], "[]")
	if strings.HasSuffix(last, "...") {
		return strings.TrimSuffix(last, "...")
	}
	return ""
}

// tellNames prints the objects that can stand next. Where the daemon does not answer there are none.
func tellNames(c *cli.Context, usage string) {
	ctx, cancel := context.WithTimeout(c.Context, completionPatience)
	defer cancel()
	c.Context = ctx
	if readSettings(c) != nil || c.Set("connect-timeout", completionPatience.String()) != nil {
		return
	}
	d, err := connect(c)
	if err != nil {
		return
	}
	defer d.Close()
	w := c.App.Writer
	switch object := objectAt(usage, c.NArg()); {
	case strings.HasPrefix(object, "CONTAINER:PATH"):
		d.tellContainers(ctx, w, ":")
	case strings.HasPrefix(object, "CONTAINER"):
		d.tellContainers(ctx, w, "")
	case strings.HasPrefix(object, "IMAGE"), strings.HasPrefix(object, "SOURCE_IMAGE"):
		d.tellImages(ctx, w)
	case strings.HasPrefix(object, "NETWORK"):
		d.tellNetworks(ctx, w)
	case strings.HasPrefix(object, "NAMESPACE"):
		if r, err := d.Namespaces.List(ctx, &api.ListNamespacesRequest{}); err == nil {
			for _, n := range r.Namespaces {
				fmt.Fprintln(w, n.Name)
			}
		}
	case strings.HasPrefix(object, "NAME"): // of inspect, pull and push
		if c.Command.Name == "inspect" && !strings.Contains(c.Command.HelpName, "image") {
			d.tellContainers(ctx, w, "")
			d.tellNetworks(ctx, w)
		}
		d.tellImages(ctx, w)
	}
}

func (d *daemon) tellContainers(ctx context.Context, w io.Writer, suffix string) {
	r, err := d.Containers.List(ctx, &api.ListContainersRequest{Namespace: d.ns})
	if err != nil {
		return
	}
	for _, one := range r.Containers {
		fmt.Fprintln(w, view.ContainerName(one)+suffix)
	}
}

func (d *daemon) tellImages(ctx context.Context, w io.Writer) {
	r, err := d.Images.List(ctx, &api.ListImagesRequest{Namespace: d.ns})
	if err != nil {
		return
	}
	for _, i := range r.Images {
		fmt.Fprintln(w, withTag(i.Name))
	}
}

func (d *daemon) tellNetworks(ctx context.Context, w io.Writer) {
	r, err := d.Networks.List(ctx, &api.ListNetworksRequest{Namespace: d.ns})
	if err != nil {
		return
	}
	for _, n := range r.Networks {
		fmt.Fprintln(w, n.Name)
	}
}

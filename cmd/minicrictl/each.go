package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
)

// atOnceLimit is how many objects are worked on at the same time.
const atOnceLimit = 8

// limited is a context with a limit of time, unless that is 0.
func limited(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, limit)
}

// eachInOrder acts on every argument, and goes on after an error.
func eachInOrder(c *cli.Context, usage string, act func(id string) error) error {
	if err := icli.Args(c, 1, -1, usage); err != nil {
		return err
	}
	var all error
	for _, id := range c.Args().Slice() {
		all = errors.Join(all, act(id))
	}
	return all
}

// atOnce acts on several objects at the same time; what they print comes in their order. None is an error, unless all of
// them were asked for (--all, --prune) and there are none.
func atOnce(c *cli.Context, what, usage string, ids []string, act func(w io.Writer, id string) error) error {
	if len(ids) == 0 {
		if c.Bool("all") || c.Bool("prune") {
			fmt.Fprintln(c.App.ErrWriter, "no "+what+" to remove")
			return nil
		}
		return icli.Args(c, 1, -1, usage)
	}
	outputs, errs := make([]bytes.Buffer, len(ids)), make([]error, len(ids))
	var group sync.WaitGroup
	room := make(chan struct{}, atOnceLimit)
	for i, id := range ids {
		room <- struct{}{}
		group.Go(func() {
			errs[i] = act(&outputs[i], id)
			<-room
		})
	}
	group.Wait()
	for i := range outputs {
		if _, err := outputs[i].WriteTo(c.App.Writer); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

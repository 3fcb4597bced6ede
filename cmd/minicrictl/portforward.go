package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"
	"k8s.io/client-go/tools/portforward"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	icli "github.com/minirt/mini/cmd/internal/cli"
)

func portForwardCommand() *cli.Command {
	const usage = "POD [LOCAL:]REMOTE..."
	return &cli.Command{
		Name: "port-forward", Usage: "forward local ports to a pod", ArgsUsage: usage,
		Flags: append(streamFlags(), &cli.StringSliceFlag{Name: "address", Value: cli.NewStringSlice("localhost"), Usage: "local `ADDRESS` to listen on"}),
		Action: with(containersAndPods, func(c *cli.Context, r *runtime) error {
			if err := icli.Args(c, 2, -1, usage); err != nil {
				return err
			}
			return runPortForward(c, r)
		}),
	}
}

func runPortForward(c *cli.Context, r *runtime) error {
	id := c.Args().First()
	s, err := newStreamer(c, r)
	if err != nil {
		return err
	}
	answer, err := r.PortForward(c.Context, &cri.PortForwardRequest{PodSandboxId: id})
	if err != nil {
		return fmt.Errorf("port-forward to pod %s: %w", id, err)
	}
	u, err := parseStreamURL(answer.Url)
	if err != nil {
		return err
	}
	s.debug("debug: %s %s", s.transport, u)
	dialer, err := s.dialer(u)
	if err != nil {
		return err
	}
	forwarder, err := portforward.NewOnAddressesForStreaming(dialer, c.StringSlice("address"), c.Args().Tail(), c.Context.Done(), make(chan struct{}), c.App.Writer, c.App.ErrWriter)
	if err == nil {
		err = forwarder.ForwardPorts()
	}
	if c.Context.Err() != nil {
		return nil // an interrupt is how it ends
	}
	if errors.Is(err, portforward.ErrLostConnectionToPod) {
		return fmt.Errorf("port-forward to pod %s: the connection broke: has the pod or the runtime ended?", id)
	}
	if err = streamError(err); err != nil {
		return fmt.Errorf("port-forward to pod %s: %w", id, err)
	}
	return nil
}

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/internal/grpcx"
)

// wellKnown are where runtimes listen, in the order in which they are tried.
func wellKnown() []string {
	return []string{
		icli.DefaultAddress(), "/run/containerd/containerd.sock", "/run/crio/crio.sock",
		"/var/run/cri-dockerd.sock", "/var/run/dockershim.sock",
	}
}

// address is an endpoint in the words of package net.
type address struct{ network, path string }

func (a address) String() string { return a.network + "://" + a.path }

// parseEndpoint reads unix:///path, a bare path, or tcp://host:port.
func parseEndpoint(text string) (address, error) {
	scheme, rest, found := strings.Cut(text, "://")
	switch {
	case !found && strings.HasPrefix(text, "unix:"):
		return address{"unix", strings.TrimPrefix(text, "unix:")}, nil
	case !found && strings.Contains(text, "/"):
		return address{"unix", text}, nil
	case found && scheme == "unix" && rest != "":
		return address{"unix", rest}, nil
	case found && scheme == "tcp" && strings.Contains(rest, ":"):
		return address{"tcp", rest}, nil
	}
	return address{}, fmt.Errorf("endpoint %q: write it as unix:///path/of/the.sock or tcp://host:port: %w", text, errdefs.ErrInvalidArgument)
}

// found is what a discovery has come to.
type found struct {
	Address address
	Others  []string // sockets that exist too
}

// notice is what a person is told about a choice that the program made.
func (f found) notice() string {
	text := "using " + f.Address.String() + ": no endpoint is configured"
	if len(f.Others) > 0 {
		text += ", and there are " + strings.Join(f.Others, ", ") + " too"
	}
	return text + fmt.Sprintf("; %s config --set runtime-endpoint=%s makes it the one", program, f.Address)
}

// discover takes the first socket of those that exist which answers.
func discover(ctx context.Context, sockets []string, exists func(string) bool, ask func(context.Context, address) error) (found, error) {
	var there, answers []string
	for _, s := range sockets {
		if exists(s) {
			there = append(there, s)
		}
	}
	for i, s := range there {
		a := address{"unix", s}
		err := ask(ctx, a)
		if err == nil {
			others := append(append([]string{}, there[:i]...), there[i+1:]...)
			return found{Address: a, Others: others}, nil
		}
		if ctx.Err() != nil {
			return found{}, ctx.Err()
		}
		answers = append(answers, grpcx.Message(err))
	}
	if len(there) == 0 {
		return found{}, fmt.Errorf("no CRI runtime found: tried %s, and none of them exists: start one, or name its socket with --runtime-endpoint: %w",
			strings.Join(sockets, ", "), errdefs.ErrUnavailable)
	}
	return found{}, fmt.Errorf("no CRI runtime answers: tried %s: start one, or name its socket with --runtime-endpoint: %w",
		strings.Join(answers, "; "), errdefs.ErrUnavailable)
}

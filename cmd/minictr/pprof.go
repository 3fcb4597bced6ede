package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/urfave/cli/v2"
)

// pprofCommand reads the profiles that the daemon serves on its metrics listener.
func pprofCommand() *cli.Command {
	return &cli.Command{
		Name: "pprof", Usage: "fetch profiles of the daemon, as [metrics] address in its configuration serves them",
		Flags: []cli.Flag{&cli.StringFlag{Name: "debug-socket", Aliases: []string{"d"}, Value: "/run/minid/debug.sock", Usage: "`ADDRESS`: a Unix socket or HOST:PORT"}},
		Subcommands: []*cli.Command{
			profile("block", "goroutines that wait for synchronisation", 0), profile("goroutines", "stacks of all goroutines", 0),
			profile("heap", "allocations", 0), profile("threadcreate", "stacks that made threads", 0),
			profile("profile", "where CPU time goes", 30), profile("trace", "an execution trace", 5),
		},
	}
}

func profile(name, usage string, seconds int) *cli.Command {
	command := &cli.Command{Name: name, Usage: usage}
	if seconds > 0 {
		command.Flags = []cli.Flag{&cli.IntFlag{Name: "seconds", Aliases: []string{"s"}, Value: seconds, Usage: "how long"}}
	} else {
		command.Flags = []cli.Flag{&cli.IntFlag{Name: "debug", Value: map[bool]int{true: 2}[name == "goroutines"], Usage: "0: binary, 1 or 2: text"}}
	}
	command.Action = func(c *cli.Context) error {
		query := fmt.Sprintf("debug=%d", c.Int("debug"))
		if seconds > 0 {
			query = fmt.Sprintf("seconds=%d", c.Int("seconds"))
		}
		path := strings.Replace(name, "goroutines", "goroutine", 1)
		return fetchProfile(c.Context, c.App.Writer, c.String("debug-socket"), path+"?"+query)
	}
	return command
}

func fetchProfile(ctx context.Context, w io.Writer, address, path string) error {
	network := "tcp"
	if strings.Contains(address, "/") {
		network, address = "unix", strings.TrimPrefix(address, "unix://")
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, network, address)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://minid/debug/pprof/"+path, nil)
	if err != nil {
		return err
	}
	r, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return fmt.Errorf("no profiles at %s: set [metrics] address and [debug] pprof in the daemon's configuration: %w", address, err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("profile %s: the daemon answers %s", path, r.Status)
	}
	_, err = io.Copy(w, r.Body)
	return err
}

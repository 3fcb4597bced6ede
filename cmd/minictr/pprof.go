package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/runtime/api"
)

// pprofCommand reads the profiles that the daemon serves on its metrics listener.
func pprofCommand() *cli.Command {
	return &cli.Command{
		Name: "pprof", Usage: "fetch profiles of a daemon that has pprof = true in [debug] of its configuration",
		Flags: []cli.Flag{&cli.StringFlag{Name: "debug-socket", Aliases: []string{"d"}, Usage: "`ADDRESS`: a Unix socket or HOST:PORT; by default debug.sock in the daemon's state directory"}},
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
		address, err := debugSocket(c)
		if err != nil {
			return err
		}
		return fetchProfile(c.Context, c.App.Writer, address, path+"?"+query)
	}
	return command
}

// debugSocket is where the daemon that the global flags name serves its profiles.
func debugSocket(c *cli.Context) (string, error) {
	if address := c.String("debug-socket"); address != "" {
		return address, nil
	}
	d, err := connect(c)
	if err != nil {
		return "", err
	}
	defer d.Close()
	i, err := d.System.Info(c.Context, &api.InfoRequest{})
	if err != nil {
		return "", err
	}
	return filepath.Join(i.State, "debug.sock"), nil
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
		return fmt.Errorf("no profiles at %s: set pprof = true in [debug] of the daemon's configuration: %w", address, err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("profile %s: the daemon answers %s", path, r.Status)
	}
	_, err = io.Copy(w, r.Body)
	return err
}

package cli

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/runtime/client"
)

// Dial connects to the daemon that the global flags address, connect-timeout and debug tell of.
func Dial(c *cli.Context) (*client.Client, error) {
	o := client.Options{Address: c.String("address"), ConnectTimeout: c.Duration("connect-timeout")}
	if c.Bool("debug") {
		o.Trace = func(call string) { fmt.Fprintln(c.App.ErrWriter, "debug:", call) }
	}
	return client.Dial(c.Context, o)
}

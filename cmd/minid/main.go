// Command minid is the daemon. Everything it does is in runtime/daemon; here are the flags, the signals and the verbs
// that need no daemon.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/internal/grpcx"
	"github.com/minirt/mini/runtime/daemon"
)

// version and commit are set by the linker.
var version, commit string

func main() {
	app := cli.NewApp()
	app.Name, app.Usage, app.Version = "minid", "run containers", icli.Version(version)
	app.HideHelpCommand = true
	app.Suggest = true
	app.EnableBashCompletion = true
	app.Flags = []cli.Flag{
		&cli.PathFlag{Name: "config", Aliases: []string{"c"}, EnvVars: []string{"MINID_CONFIG"}, Usage: "the configuration `FILE` (default: " + daemon.DefaultConfigPath + ", if it is there)"},
		&cli.PathFlag{Name: "root", Usage: "`DIR` for what survives a reboot, over the configuration"},
		&cli.PathFlag{Name: "state", Usage: "`DIR` for what does not, over the configuration"},
		&cli.PathFlag{Name: "address", Aliases: []string{"a"}, Usage: "the `SOCKET` to serve at, over the configuration"},
		&cli.StringFlag{Name: "log-level", Aliases: []string{"l"}, Usage: "debug, info, warn or error, over the configuration"},
	}
	app.Action = serve
	app.Commands = []*cli.Command{configCommand(), upgradeCommand(), wipeCommand(), rootlessCommand(), pullCommand(), versionCommand()}
	if err := app.Run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "minid:", grpcx.Message(err))
		os.Exit(1)
	}
}

// pullCommand is for the daemon itself: it starts this program again to pull in another cgroup.
func pullCommand() *cli.Command {
	return &cli.Command{
		Name: daemon.PullVerb, Hidden: true,
		Action: func(c *cli.Context) error { return daemon.PullApart(c.Context, os.Stdin, os.Stdout) },
	}
}

func overrides(c *cli.Context) daemon.Overrides {
	return daemon.Overrides{Root: c.Path("root"), State: c.Path("state"), Address: c.Path("address"), LogLevel: c.String("log-level")}
}

// serve is what minid does without a verb.
func serve(c *cli.Context) error {
	if c.Args().Present() {
		return fmt.Errorf("there is no command %q: see minid --help", c.Args().First())
	}
	config, err := daemon.Load(c.Path("config"), overrides(c))
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("it must be started as root: it mounts, makes namespaces and cgroups; \"minid rootless\" does so in namespaces of your own")
	}
	// Files that are made for containers have the mode they are given.
	unix.Umask(0o022)
	tune()
	level := &slog.LevelVar{}
	log := daemon.NewLogger(os.Stderr, config.LogFormat, level)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	stacks := make(chan os.Signal, 1)
	signal.Notify(stacks, syscall.SIGUSR1)
	go dumpStacks(stacks, config.State, log)
	d, err := daemon.Open(ctx, daemon.Options{
		Config: config, Path: c.Path("config"), Overrides: overrides(c), Version: c.App.Version, Revision: revision(), Log: log, Level: level,
	})
	if err != nil {
		return err
	}
	return d.Serve(ctx, reload)
}

// The limits of the garbage collector, where $GOGC and $GOMEMLIMIT do not set others. The daemon's live heap is a few
// MiB, so that collecting more often costs little; a burst of pulls makes it collect harder rather than grow.
const (
	gcPercent   = 50
	memoryLimit = 512 << 20
)

func tune() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}

// revision is the commit that the program was built of.
func revision() string {
	if commit != "" {
		return commit
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}

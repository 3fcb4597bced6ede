package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

func rootlessCommand() *cli.Command {
	return &cli.Command{
		Name: "rootless", Usage: "serve without being root, in namespaces of the user's own", ArgsUsage: "[FLAGS OF MINID]",
		Description: "Containers have the ids that /etc/subuid and /etc/subgid give the user, and are on the network by slirp4netns.\n" +
			"The socket is $XDG_RUNTIME_DIR/minid/minid.sock, which the other programs find by themselves; images and containers are\n" +
			"in $XDG_DATA_HOME/minid (~/.local/share/minid), the configuration is ~/.config/minid/config.toml, if it is there.",
		SkipFlagParsing: true, Action: rootless,
	}
}

// inside is the first argument of this program's second run, which is root in the user's namespaces.
const inside = "--inside"

func rootless(c *cli.Context) error {
	args := c.Args().Slice()
	if len(args) > 0 && (args[0] == "--help" || args[0] == "-h") {
		return cli.ShowSubcommandHelp(c)
	}
	if len(args) > 0 && args[0] == inside {
		return keepServing(args[1:])
	}
	if os.Geteuid() == 0 {
		return errors.New("rootless is for users: you are root, start minid without it")
	}
	command, err := launch(args)
	if err != nil {
		return err
	}
	return unix.Exec(command[0], command, os.Environ())
}

// launch is the command line of rootlesskit that runs this program as root of namespaces of their own.
func launch(args []string) ([]string, error) {
	kit, err := needed()
	if err != nil {
		return nil, err
	}
	run := os.Getenv("XDG_RUNTIME_DIR")
	if run == "" {
		return nil, errors.New("XDG_RUNTIME_DIR is not set: log in as this user (not by su or sudo), or set it to a directory that is the user's own")
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	data, config, err := homes()
	if err != nil {
		return nil, err
	}
	run = filepath.Join(run, "minid")
	for _, dir := range []string{run, data} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	command := []string{
		kit, "--state-dir=" + filepath.Join(run, "rootlesskit"), "--net=slirp4netns", "--mtu=65520", "--disable-host-loopback",
		"--port-driver=builtin", "--copy-up=/etc", "--copy-up=/run", "--pidns", "--propagation=rslave",
		self, "rootless", inside, "--root", data, "--state", "/run/minid", "--address", filepath.Join(run, "minid.sock"),
	}
	if config != "" {
		command = append(command, "--config", config)
	}
	return append(command, args...), nil
}

// homes are the directory for data, and the configuration; "": there is none.
func homes() (data, config string, err error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", "", err
	}
	if data = os.Getenv("XDG_DATA_HOME"); data == "" {
		data = filepath.Join(home, ".local/share")
	}
	if config = os.Getenv("XDG_CONFIG_HOME"); config == "" {
		config = filepath.Join(home, ".config")
	}
	config = filepath.Join(config, "minid/config.toml")
	if _, err := os.Stat(config); err != nil {
		config = ""
	}
	return filepath.Join(data, "minid"), config, nil
}

// needed finds rootlesskit, and complains of all that is missing at once.
func needed() (kit string, err error) {
	var missing []string
	for _, program := range []struct{ name, in string }{
		{"rootlesskit", "rootlesskit"}, {"slirp4netns", "slirp4netns"}, {"newuidmap", "uidmap"}, {"newgidmap", "uidmap"},
	} {
		path, err := exec.LookPath(program.name)
		if err != nil {
			missing = append(missing, fmt.Sprintf("%s (package %s)", program.name, program.in))
		}
		if program.name == "rootlesskit" {
			kit = path
		}
	}
	me, err := user.Current()
	if err != nil {
		return "", err
	}
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		if data, err := os.ReadFile(file); err != nil || !hasRange(string(data), me.Username, me.Uid) {
			missing = append(missing, fmt.Sprintf("a line for %s in %s (as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s)", me.Username, file, me.Username))
		}
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("needs %s: %w", strings.Join(missing, ", "), errdefs.ErrFailedPrecondition)
	}
	return kit, nil
}

// hasRange says whether a file as subuid(5) has a line for a user, by name or number.
func hasRange(text, name, number string) bool {
	for line := range strings.Lines(text) {
		if who, _, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && (who == name || who == number) {
			return true
		}
	}
	return false
}

// again is how long keepServing waits before it starts a daemon that has died.
const again = 500 * time.Millisecond

// keepServing starts the daemon, and again when it dies: the namespaces, and with them the containers, live as long as
// this process does. It ends when it is told to, or when the daemon ends with an error of its own.
func keepServing(args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	for {
		minid := exec.CommandContext(ctx, self, args...)
		minid.Stdout, minid.Stderr = os.Stdout, os.Stderr
		minid.Cancel = func() error { return minid.Process.Signal(syscall.SIGTERM) }
		err := minid.Run()
		var exit *exec.ExitError
		killed := errors.As(err, &exit) && !exit.Exited()
		if ctx.Err() != nil || err == nil || !killed {
			if ctx.Err() != nil {
				err = nil
			}
			return err
		}
		fmt.Fprintln(os.Stderr, "minid: the daemon has died and is started again:", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(again):
		}
	}
}

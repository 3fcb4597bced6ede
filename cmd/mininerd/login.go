package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/oci/registry"
	"github.com/minirt/mini/runtime/api"
)

const hub = "docker.io"

func loginCommand() *cli.Command {
	return &cli.Command{
		Name: "login", Usage: "log in to a registry; the login is kept where docker keeps it", ArgsUsage: "[SERVER]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "username", Aliases: []string{"u"}, Usage: "`USER`; asked for when missing"},
			&cli.StringFlag{Name: "password", Aliases: []string{"p"}, Usage: "`PASSWORD`; other users of this machine see it: better use --password-stdin"},
			&cli.BoolFlag{Name: "password-stdin", Usage: "read the password from the standard input"},
		},
		Action: runLogin,
	}
}

func logoutCommand() *cli.Command {
	return &cli.Command{
		Name: "logout", Usage: "forget the login of a registry", ArgsUsage: "[SERVER]",
		Action: func(c *cli.Context) error {
			if err := icli.Args(c, 0, 1, "[SERVER]"); err != nil {
				return err
			}
			server := serverOf(c.Args().First())
			found, err := registry.EraseLogin(c.Context, "", server)
			switch {
			case err != nil:
				return err
			case !found:
				fmt.Fprintf(c.App.Writer, "Not logged in to %s\n", server)
			default:
				fmt.Fprintf(c.App.Writer, "Removing login credentials for %s\n", server)
			}
			return nil
		},
	}
}

// serverOf is a registry's host; none is Docker Hub.
func serverOf(text string) string {
	text = strings.TrimPrefix(strings.TrimPrefix(text, "https://"), "http://")
	host, _, _ := strings.Cut(text, "/")
	switch host {
	case "", "index.docker.io", "registry-1.docker.io":
		return hub
	}
	return host
}

func runLogin(c *cli.Context) error {
	if err := icli.Args(c, 0, 1, "[SERVER]"); err != nil {
		return err
	}
	server := serverOf(c.Args().First())
	l, err := askLogin(c)
	if err != nil {
		return err
	}
	o := registry.Options{UserAgent: program, Override: &registry.HostOverride{
		Username: l.Username, Password: l.Password, SkipVerify: c.Bool("insecure-registry"),
	}}
	if dir := c.String("hosts-dir"); dir != "" {
		o.HostsDirs = []string{dir}
	}
	client := registry.New(o)
	defer client.Close()
	if err := client.Verify(c.Context, server); err != nil {
		return err
	}
	path, err := registry.StoreLogin(c.Context, "", server, l)
	if err != nil {
		return err
	}
	if path != "" {
		fmt.Fprintf(c.App.ErrWriter, "\nWARNING! Your credentials are stored unencrypted in '%s'.\nConfigure a credential helper to remove this warning.\n\n", path)
	}
	fmt.Fprintln(c.App.Writer, "Login Succeeded")
	return nil
}

// askLogin reads what the flags do not say.
func askLogin(c *cli.Context) (registry.Login, error) {
	l := registry.Login{Username: c.String("username"), Password: c.String("password")}
	switch {
	case c.Bool("password-stdin") && l.Password != "":
		return l, fmt.Errorf("--password and --password-stdin are mutually exclusive: %w", errdefs.ErrInvalidArgument)
	case c.Bool("password-stdin") && l.Username == "":
		return l, fmt.Errorf("must provide --username with --password-stdin: %w", errdefs.ErrInvalidArgument)
	case c.Bool("password-stdin"):
		data, err := io.ReadAll(io.LimitReader(os.Stdin, 1<<20))
		l.Password = strings.TrimRight(string(data), "\r\n")
		return l, err
	case l.Password != "":
		fmt.Fprintln(c.App.ErrWriter, "WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
	}
	if (l.Username == "" || l.Password == "") && !isTerminal(os.Stdin) {
		return l, errors.New("cannot perform an interactive login from a non TTY device")
	}
	if l.Username == "" {
		fmt.Fprint(c.App.ErrWriter, "Username: ")
		line, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if err != nil {
			return l, err
		}
		l.Username = strings.TrimSpace(line)
	}
	var err error
	if l.Password == "" {
		l.Password, err = icli.AskPassword()
	}
	if l.Username == "" || l.Password == "" {
		return l, errors.Join(err, errors.New("username and password are required"))
	}
	return l, err
}

// registryOptions are what the global flags say of registries, and this user's login for the image's: the daemon's own
// configuration is another user's.
func registryOptions(c *cli.Context, image string) (*api.RegistryOptions, error) {
	o := &api.RegistryOptions{SkipVerify: c.Bool("insecure-registry"), HostsDir: c.String("hosts-dir")}
	ref, err := name.Parse(image)
	if err != nil {
		return o, nil // who is asked for it says what is wrong
	}
	l, err := registry.StoredLogin(c.Context, "", ref.Domain())
	o.Username, o.Password, o.IdentityToken = l.Username, l.Password, l.IdentityToken
	return o, err
}

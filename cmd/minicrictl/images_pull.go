package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/console"
	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	icli "github.com/minirt/mini/cmd/internal/cli"
)

// authFlags are the credentials that may stand on a command line, or in those environment variables.
func authFlags(credsEnv, authEnv []string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "creds", EnvVars: credsEnv, Usage: "`USER[:PASSWORD]` at the registry"},
		&cli.StringFlag{Name: "auth", EnvVars: authEnv, Usage: "`USER:PASSWORD` at the registry, encoded in base64"},
	}
}

func pullTimeoutFlag() cli.Flag {
	return &cli.DurationFlag{Name: "pull-timeout", Aliases: []string{"pt"}, EnvVars: []string{"CRICTL_PULL_TIMEOUT"}, Usage: "how long pulling may take; 0: as long as it takes"}
}

func pullCommand() *cli.Command {
	const usage = "NAME[:TAG|@DIGEST]"
	return &cli.Command{
		Name: "pull", Usage: "pull an image from its registry", ArgsUsage: usage, Subcommands: []*cli.Command{podSchemaCommand()},
		Flags: append(authFlags([]string{"CRICTL_CREDS"}, []string{"CRICTL_AUTH"}),
			&cli.StringFlag{Name: "username", Aliases: []string{"u"}, Usage: "user `NAME` at the registry; its password is asked for"},
			&cli.StringFlag{Name: "pod-config", TakesFile: true, Usage: "pull for the pod that `FILE` (json or yaml) configures"},
			&cli.StringSliceFlag{Name: "annotation", Aliases: []string{"a"}, Usage: "annotate the image with `KEY=VALUE`"},
			pullTimeoutFlag()),
		Action: func(c *cli.Context) error {
			if err := icli.Args(c, 1, 1, usage); err != nil {
				return err
			}
			request, err := pullRequest(c)
			if err != nil {
				return err
			}
			return with(imageStore, func(c *cli.Context, r *runtime) error {
				ref, err := r.pull(c, request)
				if err == nil {
					fmt.Fprintf(c.App.Writer, "Image is up to date for %s\n", ref)
				}
				return err
			})(c)
		},
	}
}

func pullRequest(c *cli.Context) (*cri.PullImageRequest, error) {
	request := &cri.PullImageRequest{Image: &cri.ImageSpec{Image: c.Args().First()}}
	var err error
	if request.Image.Annotations, err = parseLabels(c.StringSlice("annotation")); err != nil {
		return nil, err
	}
	if name := c.String("pod-config"); name != "" {
		if request.SandboxConfig, err = readPodConfig(c, name); err != nil {
			return nil, err
		}
	}
	request.Auth, err = readAuth(c)
	return request, err
}

// pull pulls an image and returns what the runtime calls it.
func (r *runtime) pull(c *cli.Context, request *cri.PullImageRequest) (string, error) {
	limit := c.Duration("pull-timeout")
	if limit < 0 {
		return "", fmt.Errorf("--pull-timeout %s: it is not less than 0: %w", limit, errdefs.ErrInvalidArgument)
	}
	ctx, cancel := limited(c.Context, limit)
	defer cancel()
	answer, err := r.images.PullImage(ctx, request)
	if err != nil {
		return "", fmt.Errorf("pull image %s: %w", request.Image.Image, err)
	}
	return answer.ImageRef, nil
}

// readAuth reads the credentials of the flags; it asks for the password of --username.
func readAuth(c *cli.Context) (*cri.AuthConfig, error) {
	if user := c.String("username"); user != "" {
		password, err := askPassword(c)
		return &cri.AuthConfig{Username: user, Password: password}, err
	}
	return parseAuth(c.String("creds"), c.String("auth"))
}

func parseAuth(creds, auth string) (*cri.AuthConfig, error) {
	switch {
	case creds != "" && auth != "":
		return nil, fmt.Errorf("--creds and --auth: give one of them: %w", errdefs.ErrInvalidArgument)
	case auth != "":
		return &cri.AuthConfig{Auth: auth}, nil
	case creds == "":
		return nil, nil
	}
	user, password, _ := strings.Cut(creds, ":")
	if user == "" {
		return nil, fmt.Errorf("--creds: the user's name is missing: write USER[:PASSWORD]: %w", errdefs.ErrInvalidArgument)
	}
	return &cri.AuthConfig{Username: user, Password: password}, nil
}

func askPassword(c *cli.Context) (string, error) {
	if _, err := console.ConsoleFromFile(os.Stdin); err != nil {
		return "", errors.New("--username asks for the password, and the standard input is no terminal: use --creds, or CRICTL_CREDS")
	}
	fmt.Fprint(c.App.ErrWriter, "Password: ")
	defer fmt.Fprintln(c.App.ErrWriter)
	password, err := term.ReadPassword(int(os.Stdin.Fd()))
	return string(password), err
}

package main

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	icli "github.com/minirt/mini/cmd/internal/cli"
)

func handlerFlag() cli.Flag {
	return &cli.StringFlag{Name: "runtime", Aliases: []string{"r"}, Usage: "runtime handler `NAME`, of those that the runtime is configured with"}
}

func cancelFlag() cli.Flag {
	return &cli.DurationFlag{Name: "cancel-timeout", Aliases: []string{"T"}, Usage: "how long the call may take; 0: as long as it takes"}
}

func createFlags() []cli.Flag {
	return append(authFlags(nil, nil), &cli.StringFlag{Name: "username", Usage: "user `NAME` at the registry; its password is asked for"},
		&cli.BoolFlag{Name: "no-pull", Usage: "do not pull the image, whatever the configuration says"},
		&cli.BoolFlag{Name: "with-pull", Usage: "pull the image first, whatever the configuration says"},
		pullTimeoutFlag(), cancelFlag())
}

func createCommand() *cli.Command {
	const usage = "POD CONTAINER.json|yaml POD.json|yaml"
	return &cli.Command{
		Name: "create", Usage: "make a container in a pod", ArgsUsage: usage, Subcommands: []*cli.Command{bothSchemasCommand()},
		Flags: createFlags(),
		Action: func(c *cli.Context) error {
			if err := icli.Args(c, 3, 3, usage); err != nil {
				return err
			}
			return withConfigs(c, 1, func(c *cli.Context, r *runtime, pod *cri.PodSandboxConfig, container *cri.ContainerConfig) error {
				id, err := r.create(c, c.Args().First(), pod, container, r.PullOnCreate)
				if err == nil {
					fmt.Fprintln(c.App.Writer, id)
				}
				return err
			})
		},
	}
}

func runCommand() *cli.Command {
	const usage = "CONTAINER.json|yaml POD.json|yaml"
	return &cli.Command{
		Name: "run", Usage: "make a pod with one container and start it", ArgsUsage: usage, Subcommands: []*cli.Command{bothSchemasCommand()},
		Flags: append(createFlags(), handlerFlag()),
		Action: func(c *cli.Context) error {
			if err := icli.Args(c, 2, 2, usage); err != nil {
				return err
			}
			return withConfigs(c, 0, runRun)
		},
	}
}

// withConfigs reads the container's configuration, the argument of that number, and the pod's, the next one, before it
// talks to anybody.
func withConfigs(c *cli.Context, first int, act func(*cli.Context, *runtime, *cri.PodSandboxConfig, *cri.ContainerConfig) error) error {
	if c.Bool("no-pull") && c.Bool("with-pull") {
		return fmt.Errorf("--no-pull and --with-pull: give one of them: %w", errdefs.ErrInvalidArgument)
	}
	container, err := readContainerConfig(c, c.Args().Get(first))
	if err != nil {
		return err
	}
	pod, err := readPodConfig(c, c.Args().Get(first+1))
	if err != nil {
		return err
	}
	return with(both, func(c *cli.Context, r *runtime) error { return act(c, r, pod, container) })(c)
}

func runRun(c *cli.Context, r *runtime, pod *cri.PodSandboxConfig, container *cri.ContainerConfig) error {
	podID, err := r.runPod(c, pod, c.String("runtime"), 0)
	if err != nil {
		return err
	}
	id, err := r.create(c, podID, pod, container, !r.NoPullOnRun)
	if err == nil {
		err = r.start(c, id)
	}
	if err != nil {
		return fmt.Errorf("%w (its pod %s is left: %s rmp -f %s removes it)", err, podID, program, short(podID, ""))
	}
	return nil
}

// create pulls what is wanted and makes the container.
func (r *runtime) create(c *cli.Context, podID string, pod *cri.PodSandboxConfig, container *cri.ContainerConfig, pull bool) (string, error) {
	if c.Bool("with-pull") || pull && !c.Bool("no-pull") {
		if err := r.pullFor(c, pod, container); err != nil {
			return "", err
		}
	}
	ctx, cancel := limited(c.Context, c.Duration("cancel-timeout"))
	defer cancel()
	answer, err := r.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: podID, Config: container, SandboxConfig: pod})
	if err != nil {
		return "", fmt.Errorf("create container %s in pod %s: %w", container.Metadata.Name, podID, err)
	}
	return answer.ContainerId, nil
}

// pullFor pulls a container's image, and those that are mounted in it.
func (r *runtime) pullFor(c *cli.Context, pod *cri.PodSandboxConfig, container *cri.ContainerConfig) error {
	auth, err := readAuth(c)
	if err != nil {
		return err
	}
	images := []*cri.ImageSpec{{Image: container.Image.Image, Annotations: container.Image.Annotations}}
	for _, m := range container.Mounts {
		if m.GetImage().GetImage() != "" {
			images = append(images, m.GetImage())
		}
	}
	for _, image := range images {
		if _, err := r.pull(c, &cri.PullImageRequest{Image: image, Auth: auth, SandboxConfig: pod}); err != nil {
			return err
		}
	}
	return nil
}

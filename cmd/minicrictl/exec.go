package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	icli "github.com/minirt/mini/cmd/internal/cli"
)

func execCommand() *cli.Command {
	return &cli.Command{
		Name: "exec", Usage: "run a command in a running container, or in all that the flags choose", ArgsUsage: "[CONTAINER] COMMAND...",
		Description: "The container is left out when one of --image, --label, --last, --latest, --name, --pod or --state chooses.\n" +
			"The exit code is the command's; of several containers, that of the first one whose command failed.",
		Flags: append(streamFlags(),
			&cli.BoolFlag{Name: "interactive", Aliases: []string{"i"}, Usage: "feed its standard input"},
			&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "give it a terminal"},
			&cli.BoolFlag{Name: "sync", Aliases: []string{"s"}, Usage: "wait for it and print what it wrote then, without streams"},
			&cli.Int64Flag{Name: "timeout", Usage: "end it after this many `SECONDS` (with --sync)"},
			&cli.BoolFlag{Name: "parallel", Aliases: []string{"x"}, Usage: "in several containers at the same time"},
			&cli.BoolFlag{Name: "ignore-errors", Aliases: []string{"e"}, Usage: "whatever happens, the exit code is 0"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "do not print the identifiers of several containers"},
			&cli.StringFlag{Name: "name", Usage: "in containers whose name matches the regular `EXPRESSION`"},
			&cli.StringFlag{Name: "pod", Aliases: []string{"p"}, Usage: "in containers of the pod with this `ID`"},
			&cli.StringFlag{Name: "image", Usage: "in containers of this `IMAGE`"},
			&cli.StringFlag{Name: "state", Usage: "in containers in this `STATE`"},
			&cli.StringSliceFlag{Name: "label", Usage: "in containers with the label `KEY=VALUE`"},
			&cli.BoolFlag{Name: "latest", Aliases: []string{"l"}, Usage: "in the container created last"},
			&cli.IntFlag{Name: "last", Aliases: []string{"n"}, Usage: "in the `N` containers created last; 0: in all"},
		),
		Action: func(c *cli.Context) error {
			chosen := false
			for _, flag := range []string{"name", "pod", "image", "state", "label", "latest", "last"} {
				chosen = chosen || c.IsSet(flag)
			}
			least, usage := 2, "CONTAINER COMMAND..."
			if chosen {
				least, usage = 1, "COMMAND..."
			}
			if err := icli.Args(c, least, -1, usage); err != nil {
				return err
			}
			return with(both, func(c *cli.Context, r *runtime) error {
				err := runExec(c, r, chosen)
				if err != nil && c.Bool("ignore-errors") {
					return nil
				}
				return err
			})(c)
		},
	}
}

func runExec(c *cli.Context, r *runtime, chosen bool) error {
	s, err := newStreamer(c, r)
	if err != nil {
		return err
	}
	x := execution{r: r, s: s, command: c.Args().Tail(), sync: c.Bool("sync"), timeout: c.Int64("timeout"), out: c.App.Writer, errs: c.App.ErrWriter,
		streams: streams{in: c.Bool("interactive"), tty: c.Bool("tty")}}
	if !chosen {
		return x.in(c.Context, c.Args().First())
	}
	x.command = c.Args().Slice()
	wanted, err := readSelection(c)
	if err != nil {
		return err
	}
	all, err := r.chosen(c.Context, wanted)
	if err != nil {
		return err
	}
	switch {
	case len(all) == 0:
		return fmt.Errorf("exec: no container is meant by the flags: %s ps shows which there are: %w", program, errdefs.ErrNotFound)
	case len(all) > 1 && x.streams.in:
		return fmt.Errorf("exec: the input can go to one container only, and %d are meant: leave out --interactive, or choose one: %w", len(all), errdefs.ErrInvalidArgument)
	}
	return x.inAll(c.Context, all, c.Bool("parallel"), !c.Bool("quiet"))
}

// execution is one command for one or more containers.
type execution struct {
	r         *runtime
	s         streamer
	command   []string
	sync      bool
	timeout   int64 // seconds; 0: none
	streams   streams
	out, errs io.Writer
}

func (x execution) inAll(ctx context.Context, all []*cri.Container, parallel, names bool) error {
	errs := make([]error, len(all))
	if parallel {
		var group sync.WaitGroup
		for i, c := range all {
			group.Go(func() { errs[i] = x.in(ctx, c.Id) })
		}
		group.Wait()
		return errors.Join(errs...)
	}
	for i, c := range all {
		if names {
			fmt.Fprintln(x.out, c.Id+":")
		}
		if errs[i] = x.in(ctx, c.Id); ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// in runs the command in one container.
func (x execution) in(ctx context.Context, id string) error {
	if x.sync {
		return x.synchronously(ctx, id)
	}
	answer, err := x.r.Exec(ctx, &cri.ExecRequest{ContainerId: id, Cmd: x.command, Tty: x.streams.tty, Stdin: x.streams.in, Stdout: true, Stderr: !x.streams.tty})
	if err == nil {
		err = x.s.run(ctx, answer.Url, x.streams)
	}
	return execError(id, err)
}

func (x execution) synchronously(ctx context.Context, id string) error {
	answer, err := x.r.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: id, Cmd: x.command, Timeout: x.timeout})
	if err != nil {
		return execError(id, err)
	}
	_, outErr := x.out.Write(answer.Stdout)
	_, errsErr := x.errs.Write(answer.Stderr)
	if answer.ExitCode != 0 {
		return icli.ExitError{Code: int(answer.ExitCode)}
	}
	return errors.Join(outErr, errsErr)
}

// execError leaves a command's own code alone.
func execError(id string, err error) error {
	var code icli.ExitError
	if err == nil || errors.As(err, &code) {
		return err
	}
	return fmt.Errorf("exec in container %s: %w", id, err)
}

func attachCommand() *cli.Command {
	return &cli.Command{
		Name: "attach", Usage: "join a running container's streams", ArgsUsage: "CONTAINER",
		Description: "On a terminal, ctrl-p ctrl-q leaves the container running.",
		Flags: append(streamFlags(),
			&cli.BoolFlag{Name: "stdin", Aliases: []string{"i"}, Usage: "feed its standard input"},
			&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "it has a terminal"}),
		Action: with(containersAndPods, func(c *cli.Context, r *runtime) error {
			if err := icli.Args(c, 1, 1, "CONTAINER"); err != nil {
				return err
			}
			s, err := newStreamer(c, r)
			if err != nil {
				return err
			}
			id, st := c.Args().First(), streams{in: c.Bool("stdin"), tty: c.Bool("tty")}
			answer, err := r.Attach(c.Context, &cri.AttachRequest{ContainerId: id, Tty: st.tty, Stdin: st.in, Stdout: true, Stderr: !st.tty})
			if err == nil {
				err = s.run(c.Context, answer.Url, st)
			}
			if err != nil {
				return fmt.Errorf("attach to container %s: %w", id, err)
			}
			return nil
		}),
	}
}

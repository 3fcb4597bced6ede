package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/containerd/console"
	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/cmd/mininerd/options"
	"github.com/minirt/mini/cmd/mininerd/view"
	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/client"
)

const runUsage = "IMAGE [COMMAND] [ARG...]"

// makeFlags are those of run and create that are not the container's.
func makeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "rm", Usage: "remove the container when it has exited"},
		&cli.StringSliceFlag{Name: "attach", Aliases: []string{"a"}, Usage: "attach to `STREAM`: stdin, stdout or stderr"},
		&cli.StringFlag{Name: "cidfile", Usage: "write the container's id to `FILE`"},
		&cli.StringFlag{Name: "pull", Value: "missing", Usage: "`WHEN` to pull the image: always, missing or never"},
		quietFlag("print no progress of a pull"),
	}
}

func createCommand() *cli.Command {
	return &cli.Command{
		Name: "create", Usage: "make a container without starting it", ArgsUsage: runUsage,
		Flags: icli.Join(options.ContainerFlags(), makeFlags()),
		Action: daemonFault(with(1, -1, runUsage, func(c *cli.Context, d *daemon) error {
			streams, err := attachedStreams(c)
			if err != nil {
				return err
			}
			made, err := create(c, d, streams, false)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.App.Writer, made.Id)
			return nil
		})),
	}
}

func runCommand() *cli.Command {
	return &cli.Command{
		Name: "run", Usage: "make a container and start it", ArgsUsage: runUsage,
		Flags: icli.Join(options.ContainerFlags(), makeFlags(), []cli.Flag{
			&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "leave it running and print its id"},
			&cli.StringFlag{Name: "pidfile", Usage: "write the process's id to `FILE`"},
			&cli.BoolFlag{Name: "sig-proxy", Value: true, Usage: "pass signals on to the process"},
			icli.DetachKeysFlag(),
		}),
		Action: daemonFault(with(1, -1, runUsage, run)),
	}
}

// daemonFault gives what is not the process's own end docker's codes: 125, or 126 and 127 for a process that cannot be
// started.
func daemonFault(act cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		if err := icli.Args(c, 1, -1, runUsage); err != nil {
			return err // docker has 1 for that
		}
		return icli.StartError(act(c))
	}
}

// streams are what is attached to.
type streams struct{ stdin, stdout, stderr bool }

// attachedStreams reads -a, -i and -d as docker does: without -a the outputs, and with -i the input.
func attachedStreams(c *cli.Context) (streams, error) {
	list := c.StringSlice("attach")
	for _, s := range list {
		if !slices.Contains([]string{"stdin", "stdout", "stderr"}, s) {
			return streams{}, fmt.Errorf("valid streams are STDIN, STDOUT and STDERR: --attach %s: %w", s, errdefs.ErrInvalidArgument)
		}
	}
	if c.Bool("detach") {
		if len(list) > 0 {
			return streams{}, fmt.Errorf("conflicting options: cannot specify both --attach and --detach: %w", errdefs.ErrInvalidArgument)
		}
		return streams{}, nil
	}
	if len(list) == 0 {
		return streams{c.Bool("interactive"), true, true}, nil
	}
	return streams{slices.Contains(list, "stdin"), slices.Contains(list, "stdout"), slices.Contains(list, "stderr")}, nil
}

func run(c *cli.Context, d *daemon) error {
	if _, err := client.ParseDetachKeys(detachKeys(c)); err != nil { // before anything is made
		return err
	}
	s, err := attachedStreams(c)
	if err != nil {
		return err
	}
	if s.stdin && c.Bool("tty") && !isTerminal(os.Stdin) {
		return icli.CodedError{Err: errors.New("the input device is not a TTY"), Code: 1}
	}
	made, err := create(c, d, s, true)
	if err != nil {
		return err
	}
	if s == (streams{}) {
		started, err := d.Containers.Start(c.Context, d.request(made.Id))
		if err != nil {
			return err
		}
		warn(c, started.Warnings)
		if err := writePid(c, started.Pid); err != nil {
			return err
		}
		fmt.Fprintln(c.App.Writer, made.Id)
		return nil
	}
	var pidError error
	session := icli.Session{
		Client: d.Client, Terminal: c.Bool("tty"), Stdin: s.stdin, DetachKeys: detachKeys(c),
		NoStdout: !s.stdout, NoStderr: !s.stderr, KeepSignal: !c.Bool("sig-proxy"),
		Opened: func(o *api.AttachOpened) { pidError = writePid(c, o.Pid) },
	}
	return errors.Join(session.Run(c.Context, &api.AttachOpen{Namespace: d.ns, Id: made.Id, Start: true}), pidError)
}

func isTerminal(f *os.File) bool {
	_, err := console.ConsoleFromFile(f)
	return err == nil
}

func writePid(c *cli.Context, pid int64) error {
	if c.String("pidfile") == "" {
		return nil
	}
	return os.WriteFile(c.String("pidfile"), []byte(strconv.FormatInt(pid, 10)), 0o644)
}

// create makes the container of the command line, after its image was pulled where that is wanted; starting says that a
// start follows.
func create(c *cli.Context, d *daemon, s streams, starting bool) (*api.Container, error) {
	args := c.Args().Slice()
	req, err := options.ContainerRequest(c, args[0], args[1:], proxyVariables(c))
	if err != nil {
		return nil, err
	}
	req.Namespace, req.Snapshotter, req.AutoRemove = d.ns, c.String("snapshotter"), c.Bool("rm")
	if req.AutoRemove && req.Restart.Name != "no" {
		return nil, fmt.Errorf("conflicting options: cannot specify both --restart and --rm: %w", errdefs.ErrInvalidArgument)
	}
	if req.Kept, err = kept(c, s); err != nil {
		return nil, err
	}
	req.StdinOnce, req.StartFollows = s.stdin, starting
	warn(c, options.Discarded(c))
	cid, err := newIDFile(c.String("cidfile"))
	if err != nil {
		return nil, err
	}
	defer cid.discard()
	made, err := d.createPulling(c, req)
	if err != nil {
		return nil, err
	}
	warn(c, made.Warnings)
	return made, cid.write(made.Id)
}

// kept is what inspect says again of the command line.
func kept(c *cli.Context, s streams) ([]byte, error) {
	asked, err := options.Asked(c)
	if err != nil {
		return nil, err
	}
	asked.AttachStdin, asked.AttachStdout, asked.AttachStderr = s.stdin, s.stdout, s.stderr
	return json.Marshal(asked)
}

// createPulling is Create with docker's --pull.
func (d *daemon) createPulling(c *cli.Context, req *api.CreateContainerRequest) (*api.Container, error) {
	when := c.String("pull")
	switch when {
	case "missing", "never", "":
	case "always":
		if req.Image == "" {
			break
		}
		if err := d.pullForRun(c, req); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("invalid pull option: '%s': must be one of always, missing or never: %w", when, errdefs.ErrInvalidArgument)
	}
	made, err := d.Containers.Create(c.Context, req)
	if !errdefs.IsNotFound(err) || req.Image == "" || when == "always" || !d.lacksImage(c, req) {
		return made, err
	}
	if when == "never" {
		return nil, fmt.Errorf("%s: %s: %w", view.NoSuchImage, req.Image, errdefs.ErrNotFound)
	}
	fmt.Fprintf(c.App.ErrWriter, "Unable to find image '%s' locally\n", withTag(req.Image))
	if err := d.pullForRun(c, req); err != nil {
		return nil, err
	}
	return d.Containers.Create(c.Context, req)
}

func (d *daemon) lacksImage(c *cli.Context, req *api.CreateContainerRequest) bool {
	_, err := d.Images.Get(c.Context, &api.GetImageRequest{Namespace: d.ns, Name: req.Image})
	return errdefs.IsNotFound(err)
}

func (d *daemon) pullForRun(c *cli.Context, req *api.CreateContainerRequest) error {
	login, err := registryOptions(c, req.Image)
	if err != nil {
		return err
	}
	r := &api.PullRequest{Namespace: d.ns, Name: req.Image, Registry: login, Snapshotter: req.Snapshotter}
	if req.Platform != "" {
		r.Platforms = []string{req.Platform}
	}
	show := icli.NewProgress(os.Stderr, c.Bool("quiet"))
	defer show.Close()
	_, err = d.Pull(c.Context, r, show.Update)
	return err
}

// idFile is --cidfile: made before the container, so that none is made in vain, and removed when there is none.
type idFile struct {
	file    *os.File
	written bool
}

func newIDFile(name string) (*idFile, error) {
	if name == "" {
		return &idFile{}, nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("container ID file found, make sure the other container isn't running or delete %s: %w", name, errdefs.ErrAlreadyExists)
	}
	if err != nil {
		return nil, fmt.Errorf("--cidfile: %w", err)
	}
	return &idFile{file: f}, nil
}

func (f *idFile) write(id string) error {
	if f.file == nil {
		return nil
	}
	f.written = true
	_, err := f.file.WriteString(id)
	return err
}

func (f *idFile) discard() {
	if f.file == nil {
		return
	}
	_ = f.file.Close() // an error of the write was told
	if !f.written {
		_ = os.Remove(f.file.Name())
	}
}

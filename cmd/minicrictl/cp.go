package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/client"
)

func cpCommand() *cli.Command {
	const usage = "CONTAINER:PATH PATH | PATH CONTAINER:PATH"
	return &cli.Command{
		Name: "cp", Usage: "copy files between a container, running or not, and this machine; with minid", ArgsUsage: usage,
		Description: "What ends with /. is the contents of a directory. Nothing in the container is run for it.",
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "archive", Aliases: []string{"a"}, Usage: "keep the numbers of users and groups"}},
		Action: func(c *cli.Context) error {
			if err := icli.Args(c, 2, 2, usage); err != nil {
				return err
			}
			from, to := parsePlace(c.Args().First()), parsePlace(c.Args().Get(1))
			if (from.container == "") == (to.container == "") {
				return fmt.Errorf("cp: one of the two is in a container: usage: %s %s: %w", c.Command.HelpName, usage, errdefs.ErrInvalidArgument)
			}
			return withNative(func(c *cli.Context, d *client.Client) error { return runCp(c, d, from, to) })(c)
		},
	}
}

// place is one side of a copy.
type place struct {
	container string // empty: this machine
	path      string
}

// parsePlace reads CONTAINER:PATH; what has a slash before the first colon is a path of this machine.
func parsePlace(text string) place {
	if id, path, ok := strings.Cut(text, ":"); ok && id != "" && !strings.Contains(id, "/") && !strings.HasPrefix(id, ".") {
		return place{id, path}
	}
	return place{path: text}
}

func runCp(c *cli.Context, d *client.Client, from, to place) error {
	id := from.container + to.container
	target, err := findContainer(c.Context, d, id)
	if err != nil {
		return err
	}
	return inContainer(c, d, target, func(root string) error {
		roots := [2]string{"", ""}
		if from.container != "" {
			roots[0] = root
		} else {
			roots[1] = root
		}
		k := copier{owners: c.Bool("archive"), skipped: func(name string) { warn(c, "cp: %s is neither file, directory nor link: left out", name) }}
		if err := k.copyPath(roots[0], from.path, roots[1], to.path); err != nil {
			return fmt.Errorf("cp: %w", err)
		}
		return nil
	})
}

// inContainer hands on where a container's files are: as its process sees them, with its volumes, or else its snapshot.
func inContainer(c *cli.Context, d *client.Client, target *api.Container, do func(root string) error) error {
	if running(target) {
		return do(fmt.Sprintf("/proc/%d/root", target.Pid))
	}
	m, err := rootOf(c.Context, d, target)
	if err != nil {
		return err
	}
	if m.Type == "bind" {
		return do(m.Source)
	}
	return mount.Temp(c.Context, []mount.Mount{{Type: m.Type, Source: m.Source, Options: m.Options}}, do)
}

// openDir opens a directory below a root, which no link leads out of (openat2(2), Linux 5.6). An empty root is this
// machine's, with links as usual.
func openDir(root, path string) (*os.Root, error) {
	if root == "" {
		return os.OpenRoot(path)
	}
	top, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer top.Close()
	fd, err := unix.Openat2(int(top.Fd()), path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	return os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", fd))
}

// split is a path's directory and last name. A path that ends in /. is a directory's contents.
func split(path string) (dir, name string, contents bool) {
	contents = strings.HasSuffix(path, "/.")
	path = filepath.Clean(path)
	if last := filepath.Base(path); last == "/" || last == "." || last == ".." {
		return path, ".", true
	}
	return filepath.Dir(path), filepath.Base(path), contents
}

// copyPath copies what a path is to another path: into it when that is a directory, or else as it.
func (k copier) copyPath(fromRoot, from, toRoot, to string) error {
	dir, name, contents := split(from)
	source, err := openDir(fromRoot, dir)
	if err != nil {
		return err
	}
	defer source.Close()
	into, err := openDir(toRoot, filepath.Clean(to))
	switch {
	case err == nil && contents:
		defer into.Close()
		return k.copy(source, name, into, ".")
	case err == nil:
		defer into.Close()
		return k.copy(source, name, into, name)
	case !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTDIR):
		return err
	case strings.HasSuffix(to, "/"):
		return fmt.Errorf("%s is no directory: %w", to, errdefs.ErrNotFound)
	}
	dir, target, _ := split(to)
	beside, err := openDir(toRoot, dir)
	if err != nil {
		return err
	}
	defer beside.Close()
	return k.copy(source, name, beside, target)
}

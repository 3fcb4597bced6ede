// Package files copies files between containers and this machine, by the rules of docker cp. The containers' side is the
// daemon's, which may be on another machine; nothing is mounted here, and no half of a file stays.
package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/oci/layer"
	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/client"
)

// Copier copies between the containers of a namespace and this machine.
type Copier struct {
	Client    *client.Client
	Namespace string
	// Archive gives what goes into a container to the user that it runs as, and keeps the owners of what comes out of one,
	// which otherwise belongs to who copies.
	Archive bool
	Follow  bool // a link that is named stands for what it leads to
	// Skipped, unless nil, is told of what could not be copied and is no reason to stop.
	Skipped func(what string)
}

// Copy copies one place to the other; one of them is in a container. It returns the size of the archive that was sent,
// in bytes.
func (k Copier) Copy(ctx context.Context, from, to Place) (int64, error) {
	switch {
	case from.Container == "" && to.Container == "":
		return 0, fmt.Errorf("must specify at least one container source: %w", errdefs.ErrInvalidArgument)
	case from.Container != "" && to.Container != "":
		return 0, fmt.Errorf("copying between containers is not supported: %w", errdefs.ErrInvalidArgument)
	case to.Container != "":
		return k.upload(ctx, from.Path, to)
	}
	return k.download(ctx, from, to.Path)
}

func (k Copier) stat(ctx context.Context, p Place) (*api.PathInfo, fs.FileMode, error) {
	i, err := k.Client.Archives.Stat(ctx, &api.PathRequest{Namespace: k.Namespace, Id: p.Container, Path: p.Path})
	return i, fileMode(i.GetMode()), err
}

// fileMode is the kind of file that st_mode says.
func fileMode(mode uint32) fs.FileMode {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return fs.ModeDir
	case unix.S_IFLNK:
		return fs.ModeSymlink
	case unix.S_IFCHR, unix.S_IFBLK:
		return fs.ModeDevice
	}
	return 0
}

// notFound says what is missing as docker does.
func notFound(p Place, err error) error {
	if !errdefs.IsNotFound(err) {
		return err
	}
	//lint:ignore ST1005 docker's words, which scripts look for
	return fmt.Errorf("No such container:path: %s:%s: %w", p.Container, p.Path, err)
}

// linkTarget is where a link in a container leads.
func linkTarget(p Place, i *api.PathInfo) string {
	if filepath.IsAbs(i.LinkTarget) {
		return i.LinkTarget
	}
	dir, _ := splitPath(p.Path)
	return filepath.Join(dir, i.LinkTarget)
}

func (k Copier) upload(ctx context.Context, from string, to Place) (int64, error) {
	t := target{path: to.Path}
	at := to
	i, mode, err := k.stat(ctx, at)
	if err == nil && mode == fs.ModeSymlink {
		at.Path = linkTarget(to, i)
		t.path = at.Path
		_, mode, err = k.stat(ctx, at)
	}
	if err == nil {
		t.exists, t.isDir = true, mode.IsDir()
		if what := checkMode(mode); what != "" && from != Stream {
			return 0, fmt.Errorf("destination \"%s:%s\" must be a directory or a regular file: got %s", to.Container, to.Path, what)
		}
	} else if !errdefs.IsNotFound(err) && !errdefs.IsInvalidArgument(err) {
		return 0, err
	}
	o := &api.UploadOptions{Namespace: k.Namespace, Id: to.Container, Path: t.path, OwnedByUser: k.Archive}
	if from == Stream {
		if !t.isDir {
			return 0, fmt.Errorf("destination \"%s:%s\" must be a directory", to.Container, to.Path)
		}
		in := &counted{r: os.Stdin}
		err := k.Client.Upload(ctx, o, in)
		return in.n, notFound(at, err)
	}
	s, err := localSource(from, k.Follow)
	if err != nil {
		return 0, err
	}
	dir, as, err := plan(s, t)
	if err != nil {
		return 0, err
	}
	o.Path = dir
	out, in := io.Pipe()
	go func() { in.CloseWithError(k.pack(ctx, in, s, as)) }()
	sent := &counted{r: out}
	err = k.Client.Upload(ctx, o, sent)
	_ = out.CloseWithError(errUnwanted) // ends who writes it
	return sent.n, notFound(Place{to.Container, dir}, err)
}

// pack archives a source of this machine.
func (k Copier) pack(ctx context.Context, w io.Writer, s source, as string) error {
	root, name := filepath.Dir(s.inside), filepath.Base(s.inside)
	if s.isDir || meansDirectory(s.path) {
		root, name = s.inside, ""
	}
	return layer.Pack(ctx, w, root, name, layer.PackOptions{As: as, Skipped: func(name string) { k.skipped(name + " is a socket: left out") }})
}

func (k Copier) skipped(what string) {
	if k.Skipped != nil {
		k.Skipped(what)
	}
}

func (k Copier) download(ctx context.Context, from Place, to string) (int64, error) {
	if to != Stream {
		if err := CheckOutput(to); err != nil {
			return 0, err
		}
	}
	s := source{path: from.Path}
	at := from
	if k.Follow {
		if i, mode, err := k.stat(ctx, from); err == nil && mode == fs.ModeSymlink {
			s.path, s.as = renamed(from.Path, linkTarget(from, i))
			at.Path = s.path
		}
	}
	r := &api.PathRequest{Namespace: k.Namespace, Id: from.Container, Path: at.Path}
	if to == Stream {
		out := &counting{w: os.Stdout}
		err := k.Client.Download(ctx, r, nil, out)
		return out.n, notFound(at, err)
	}
	_, mode, err := k.stat(ctx, at)
	if err != nil {
		return 0, notFound(at, err)
	}
	s.isDir = mode.IsDir()
	t, err := localTarget(to)
	if err != nil {
		return 0, err
	}
	dir, as, err := plan(s, t)
	if err != nil {
		return 0, err
	}
	r.As = as
	n, err := k.unpack(ctx, r, dir)
	return n, notFound(at, err)
}

// errUnwanted ends who writes an archive that could not be unpacked.
var errUnwanted = errors.New("the archive is no longer wanted")

// unpack downloads into a directory of this machine.
func (k Copier) unpack(ctx context.Context, r *api.PathRequest, dir string) (int64, error) {
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := k.Client.Download(ctx, r, nil, in)
		in.CloseWithError(err)
		ended <- err
	}()
	got := &counted{r: out}
	result, err := layer.Extract(ctx, dir, got, layer.ExtractOptions{NoChown: !k.Archive || os.Geteuid() != 0})
	for _, d := range result.Dropped {
		k.skipped(d)
	}
	if err != nil {
		_ = out.CloseWithError(errUnwanted)
	}
	if failed := <-ended; failed != nil && !errors.Is(failed, errUnwanted) {
		return got.n, failed // which the unpacking has only heard of
	}
	return got.n, err
}

// counted counts what is read.
type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// counting counts what is written.
type counting struct {
	w io.Writer
	n int64
}

func (c *counting) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

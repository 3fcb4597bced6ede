package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// write makes the archive of the entries gathered.
func (d *differ) write(w io.Writer) error {
	a := newArchiver(d.ctx, d.upper, w)
	for _, e := range d.chosen() {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		var err error
		if e.kind == present {
			err = a.file(e.name, e.name, e.file, d.clamp)
		} else {
			err = a.out.WriteHeader(d.whiteoutHeader(e))
		}
		if err != nil {
			return fmt.Errorf("write the layer entry %q: %w", e.name, err)
		}
	}
	if err := a.out.Close(); err != nil {
		return fmt.Errorf("write the layer: %w", err)
	}
	return nil
}

// archiver writes files of a tree into an archive.
type archiver struct {
	ctx     context.Context
	tree    *tree
	out     *tar.Writer
	written map[inode]string // by the name that the archive has for it
}

// errReplaced: another file has the name by now. Nothing of it was written.
var errReplaced = fmt.Errorf("it was replaced while it was being read: %w", errdefs.ErrUnavailable)

func newArchiver(ctx context.Context, t *tree, w io.Writer) *archiver {
	return &archiver{ctx: ctx, tree: t, out: tar.NewWriter(w), written: map[inode]string{}}
}

func (d *differ) whiteoutHeader(e entry) *tar.Header {
	name := e.name
	if e.kind == removed {
		dir, base := split(e.name)
		name = join(dir, whiteoutPrefix+base)
	}
	return &tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeReg, Name: name, ModTime: time.Unix(0, 0)}
}

// file writes one, which is called as in the archive. A second name of a file is a link to the first.
func (a *archiver) file(name, as string, f file, clamp func(time.Time) time.Time) error {
	h, err := header(as, f, clamp)
	if err != nil {
		return err
	}
	if f.stat.Nlink > 1 && f.kind() != unix.S_IFDIR {
		if first, again := a.written[f.inode()]; again {
			h.Typeflag, h.Linkname, h.Size, h.PAXRecords = tar.TypeLink, first, 0, nil
			return a.out.WriteHeader(h)
		}
	}
	if h.Typeflag != tar.TypeReg {
		err = a.out.WriteHeader(h)
	} else {
		err = a.regular(name, h, f)
	}
	if err == nil && f.stat.Nlink > 1 && f.kind() != unix.S_IFDIR {
		a.written[f.inode()] = as
	}
	return err
}

func (a *archiver) regular(name string, h *tar.Header, f file) error {
	in, err := a.tree.open(name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer in.Close()
	// A container that runs may have put something else there since.
	var now unix.Stat_t
	if err := unix.Fstat(int(in.Fd()), &now); err != nil {
		return err
	}
	if now.Ino != f.stat.Ino || now.Mode&unix.S_IFMT != unix.S_IFREG {
		return errReplaced
	}
	if err := a.out.WriteHeader(h); err != nil {
		return err
	}
	return a.contents(in, h.Size)
}

func (a *archiver) contents(f io.Reader, size int64) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for size > 0 {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		n, err := f.Read((*buf)[:min(size, bufferSize)])
		if n > 0 {
			if _, err := a.out.Write((*buf)[:n]); err != nil {
				return err
			}
			size -= int64(n)
			continue
		}
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("it became shorter while it was being read: %w", errdefs.ErrUnavailable)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// header describes a file. Format PAX is what carries fractions of seconds, long names and attributes; archive/tar only
// makes the extended header where there is something to say in it, and sorts what it says.
func header(name string, f file, clamp func(time.Time) time.Time) (*tar.Header, error) {
	stat := &f.stat
	h := &tar.Header{
		Format: tar.FormatPAX, Name: name, Mode: int64(stat.Mode & 0o7777),
		Uid: int(stat.Uid), Gid: int(stat.Gid), ModTime: clamp(time.Unix(stat.Mtim.Unix())),
	}
	switch f.kind() {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, stat.Size
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, strings.TrimSuffix(name, "/")+"/"
		if name == "" {
			h.Name = "./"
		}
	case unix.S_IFLNK:
		h.Typeflag, h.Linkname = tar.TypeSymlink, f.target
		h.Mode = 0o777
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if f.kind() == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(stat.Rdev)), int64(unix.Minor(stat.Rdev))
	default:
		return nil, fmt.Errorf("type %o of file: %w", f.kind(), errdefs.ErrInvalidArgument)
	}
	for name, value := range f.xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[paxXattr+name] = value
	}
	return h, nil
}

func (d *differ) clamp(t time.Time) time.Time {
	if !d.o.SourceDate.IsZero() && t.After(d.o.SourceDate) {
		return d.o.SourceDate
	}
	return t
}

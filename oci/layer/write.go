package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// write makes the archive of the entries gathered.
func (d *differ) write(w io.Writer) error {
	archive := tar.NewWriter(w)
	written := map[inode]string{}
	for _, e := range d.chosen() {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		var err error
		if e.kind == present {
			err = d.writeFile(archive, e, written)
		} else {
			err = archive.WriteHeader(d.whiteoutHeader(e))
		}
		if err != nil {
			return fmt.Errorf("write the layer entry %q: %w", e.name, err)
		}
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("write the layer: %w", err)
	}
	return nil
}

func (d *differ) whiteoutHeader(e entry) *tar.Header {
	name := e.name
	if e.kind == removed {
		dir, base := split(e.name)
		name = join(dir, whiteoutPrefix+base)
	}
	return &tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeReg, Name: name, ModTime: time.Unix(0, 0)}
}

func (d *differ) writeFile(archive *tar.Writer, e entry, written map[inode]string) error {
	h, err := d.header(e)
	if err != nil {
		return err
	}
	if e.file.stat.Nlink > 1 && e.file.kind() != unix.S_IFDIR {
		if first, again := written[e.file.inode()]; again {
			h.Typeflag, h.Linkname, h.Size, h.PAXRecords = tar.TypeLink, first, 0, nil
			return archive.WriteHeader(h)
		}
		written[e.file.inode()] = e.name
	}
	if h.Typeflag != tar.TypeReg {
		return archive.WriteHeader(h)
	}
	f, err := d.upper.open(e.name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer f.Close()
	// A container that runs may have put something else there since.
	var now unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &now); err != nil {
		return err
	}
	if now.Ino != e.file.stat.Ino || now.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("it was replaced while the layer was being made: %w", errdefs.ErrUnavailable)
	}
	if err := archive.WriteHeader(h); err != nil {
		return err
	}
	return d.contents(archive, f, h.Size)
}

func (d *differ) contents(w io.Writer, f io.Reader, size int64) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for size > 0 {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		n, err := f.Read((*buf)[:min(size, bufferSize)])
		if n > 0 {
			if _, err := w.Write((*buf)[:n]); err != nil {
				return err
			}
			size -= int64(n)
			continue
		}
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("it became shorter while the layer was being made: %w", errdefs.ErrUnavailable)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// header describes a file. Format PAX is what carries fractions of seconds, long names and attributes; archive/tar only
// makes the extended header where there is something to say in it, and sorts what it says.
func (d *differ) header(e entry) (*tar.Header, error) {
	stat := &e.file.stat
	h := &tar.Header{
		Format: tar.FormatPAX, Name: e.name, Mode: int64(stat.Mode & 0o7777),
		Uid: int(stat.Uid), Gid: int(stat.Gid), ModTime: d.clamp(time.Unix(stat.Mtim.Unix())),
	}
	switch e.file.kind() {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, stat.Size
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, e.name+"/"
		if e.name == "" {
			h.Name = "./"
		}
	case unix.S_IFLNK:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.file.target
		h.Mode = 0o777
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if e.file.kind() == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(stat.Rdev)), int64(unix.Minor(stat.Rdev))
	default:
		return nil, fmt.Errorf("type %o of file: %w", e.file.kind(), errdefs.ErrInvalidArgument)
	}
	for name, value := range e.file.xattrs {
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

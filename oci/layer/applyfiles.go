package layer

import (
	"archive/tar"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
	"unsafe"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// regular makes a file: created exclusively, so that in the usual case, where nothing is in the way, no call is spent on
// looking; all else is done through its descriptor.
func (a *applier) regular(to place, h *tar.Header, contents io.Reader) (err error) {
	if a.o.files != nil {
		if done, err := a.whole(to, h, contents); done || err != nil {
			return err
		}
	}
	mode := uint32(h.Mode & 0o7777)
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(to.parent, to.base, flags, mode&0o777)
	if errors.Is(err, unix.EEXIST) {
		if err := a.clear(to); err != nil {
			return err
		}
		fd, err = unix.Openat(to.parent, to.base, flags, mode&0o777)
	}
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	defer func() {
		if closeErr := unix.Close(fd); err == nil && closeErr != nil {
			err = fmt.Errorf("close: %w", closeErr)
		}
		if err != nil && a.o.files != nil {
			err = errors.Join(err, unix.Unlinkat(to.parent, to.base, 0)) // no half file stays
		}
	}()
	return a.fill(fd, h, contents)
}

// fill gives a new file its contents and attributes.
func (a *applier) fill(fd int, h *tar.Header, contents io.Reader) error {
	mode := uint32(h.Mode & 0o7777)
	var err error
	if isSparse(h) || a.o.files != nil {
		err = a.copySparse(fd, contents, h.Size)
	} else {
		err = a.copy(fd, contents, h.Size)
	}
	if err != nil {
		return err
	}
	a.result.Size += h.Size
	if a.needsChown(h) {
		if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil {
			return fmt.Errorf("chown: %w", err)
		}
	}
	if a.needsChmod(mode) {
		if err := unix.Fchmod(fd, mode); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
	}
	if err := a.xattrs(h, fd); err != nil {
		return err
	}
	return futimens(fd, h.ModTime)
}

// copy writes exactly size bytes. They come out of a tar stream, so copy_file_range and splice have nothing to offer.
func (a *applier) copy(fd int, r io.Reader, size int64) error {
	for left := size; left > 0; {
		n, err := io.ReadFull(r, (*a.buf)[:min(left, bufferSize)])
		if err != nil {
			return readError(err)
		}
		if err := writeAll(fd, (*a.buf)[:n]); err != nil {
			return err
		}
		if left -= int64(n); left > 0 {
			if err := a.ctx.Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

// sparseBlock is the grain in which holes are looked for: the usual block of a file system.
const sparseBlock = 4 << 10

// sparseMax bounds the time that a few bytes of archive can cost: zeros are read at some 10 GB/s.
const sparseMax = 1 << 40

// copySparse leaves holes where the contents are zero.
func (a *applier) copySparse(fd int, r io.Reader, size int64) error {
	if size > sparseMax {
		return fmt.Errorf("a sparse file of %d bytes; up to %d are unpacked: %w", size, int64(sparseMax), errdefs.ErrInvalidArgument)
	}
	if err := unix.Ftruncate(fd, size); err != nil {
		return fmt.Errorf("set the size of the sparse file to %d: %w", size, err)
	}
	for offset := int64(0); offset < size; {
		if err := a.ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(r, (*a.buf)[:min(size-offset, bufferSize)])
		if err != nil {
			return readError(err)
		}
		for start := 0; start < n; start += sparseBlock {
			block := (*a.buf)[start:min(start+sparseBlock, n)]
			if isZero(block) {
				continue
			}
			if _, err := unix.Pwrite(fd, block, offset+int64(start)); err != nil {
				return fmt.Errorf("write: %w", err)
			}
		}
		offset += int64(n)
	}
	return nil
}

func isZero(block []byte) bool {
	for len(block) >= 8 {
		if binary.NativeEndian.Uint64(block) != 0 {
			return false
		}
		block = block[8:]
	}
	for _, b := range block {
		if b != 0 {
			return false
		}
	}
	return true
}

func writeAll(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("write: %w", err)
		default:
			data = data[n:]
		}
	}
	return nil
}

// again makes something that refuses to replace what exists, removing that first if it has to.
func (a *applier) again(to place, do func() error) error {
	err := do()
	if errors.Is(err, unix.EEXIST) {
		if a.o.files != nil {
			if err := a.replaceable(to); err != nil {
				return err
			}
		}
		if err := a.clear(to); err != nil {
			return err
		}
		err = do()
	}
	return err
}

func (a *applier) symlink(to place, h *tar.Header) error {
	err := a.again(to, func() error { return unix.Symlinkat(h.Linkname, to.parent, to.base) })
	if err != nil {
		return fmt.Errorf("symlink to %q: %w", h.Linkname, err)
	}
	return a.named(to, h, 0)
}

// link makes another name of a file of this archive. The name it gives is resolved like an entry's, so the file linked
// to is inside the root; linkat does not follow a symbolic link in its place, but links to that.
func (a *applier) link(to place, h *tar.Header) error {
	dir, base := split(h.Linkname)
	if join(dir, base) == to.name() {
		return nil
	}
	if base == "" {
		return fmt.Errorf("hard link to the root: %w", errdefs.ErrInvalidArgument)
	}
	from, err := a.dirs.open(dir)
	if err != nil {
		return a.linkError(h, err)
	}
	var source unix.Stat_t
	if err := unix.Fstatat(from, base, &source, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return a.linkError(h, err)
	}
	if source.Mode&unix.S_IFMT == unix.S_IFDIR {
		return fmt.Errorf("hard link to the directory %s: %w", h.Linkname, errdefs.ErrInvalidArgument)
	}
	err = a.again(to, func() error {
		// Opened anew: making room may have emptied the cache.
		from, err := a.dirs.open(dir)
		if err != nil {
			return err
		}
		return unix.Linkat(from, base, to.parent, to.base, 0)
	})
	return a.linkError(h, err)
}

func (a *applier) linkError(h *tar.Header, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOENT) && a.o.Whiteouts == Overlay:
		return fmt.Errorf("hard link to %q, which is not in the layer: %w", h.Linkname, ErrNeedsParent)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("hard link to %q, which is not there: %w: %w", h.Linkname, err, errdefs.ErrInvalidArgument)
	}
	return fmt.Errorf("hard link to %q: %w", h.Linkname, err)
}

// node makes a device or a named pipe.
func (a *applier) node(to place, h *tar.Header) error {
	mode := uint32(h.Mode & 0o7777)
	kind, dev := uint32(unix.S_IFIFO), uint64(0)
	if h.Typeflag != tar.TypeFifo {
		kind = unix.S_IFCHR
		if h.Typeflag == tar.TypeBlock {
			kind = unix.S_IFBLK
		}
		dev = unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	}
	err := a.again(to, func() error { return unix.Mknodat(to.parent, to.base, kind|mode&0o777, int(dev)) })
	if errors.Is(err, unix.EPERM) && h.Typeflag != tar.TypeFifo && (a.o.UserXattr || a.o.files != nil && a.euid != 0) {
		a.drop("%s: device %d:%d cannot be made without CAP_MKNOD", h.Name, h.Devmajor, h.Devminor)
		return nil
	}
	if err != nil {
		return fmt.Errorf("mknod: %w", err)
	}
	return a.named(to, h, mode)
}

// named sets the attributes of what has no descriptor. mode 0 stands for "has none": a symbolic link.
func (a *applier) named(to place, h *tar.Header, mode uint32) error {
	if a.needsChown(h) {
		if err := unix.Fchownat(to.parent, to.base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("chown: %w", err)
		}
	}
	if h.Typeflag != tar.TypeSymlink && a.needsChmod(mode) {
		if err := chmod(to.parent, to.base, mode); err != nil {
			return err
		}
	}
	if hasXattrs(h) {
		if err := a.xattrsAt(h, to); err != nil {
			return err
		}
	}
	return utimens(to.parent, to.base, h.ModTime)
}

// needsChown: a file belongs to the process that made it, unless its directory says otherwise.
func (a *applier) needsChown(h *tar.Header) bool {
	return !a.o.NoChown && (!a.plain || h.Uid != a.euid || h.Gid != a.egid)
}

func (a *applier) needsChmod(mode uint32) bool {
	return !a.plain || mode&0o7000 != 0 || mode&a.umask != 0
}

// notePlain looks whether a directory changes what is made in it, see the field plain.
func (a *applier) notePlain(h *tar.Header) {
	if h.Mode&unix.S_ISGID != 0 || h.PAXRecords[paxXattr+"system.posix_acl_default"] != "" {
		a.plain = false
	}
}

// chmod does not follow links (fchmodat2, Linux 6.6); before, it goes through the entry in /proc/self/fd, which is only
// done for what was made a moment ago.
func chmod(parent int, base string, mode uint32) error {
	err := unix.Fchmodat(parent, base, mode, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) {
		err = unix.Fchmodat(parent, base, mode, 0)
	}
	if err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	return nil
}

// times are the access and the modification time: layers carry only the latter, so both get it.
func times(t time.Time) [2]unix.Timespec {
	if t.IsZero() {
		t = time.Unix(0, 0)
	}
	ts := unix.NsecToTimespec(0)
	ts.Sec, ts.Nsec = t.Unix(), int64(t.Nanosecond())
	return [2]unix.Timespec{ts, ts}
}

func utimens(parent int, base string, t time.Time) error {
	ts := times(t)
	if err := unix.UtimesNanoAt(parent, base, ts[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set the times: %w", err)
	}
	return nil
}

// futimens is utimensat without a name, which stands for the descriptor itself; package unix has no call for it.
func futimens(fd int, t time.Time) error {
	ts := times(t)
	if _, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0); errno != 0 {
		return fmt.Errorf("set the times: %w", errno)
	}
	return nil
}

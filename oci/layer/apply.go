package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// ApplyOptions say how a layer is unpacked. The zero value applies it to a tree that has the layers below it.
type ApplyOptions struct {
	Whiteouts Whiteouts
	// UserXattr: overlayfs' attributes are written as user.overlay.*, for overlays mounted with userxattr; and what an
	// unprivileged user cannot make is made otherwise (whiteouts as attributes) or left out (device nodes).
	UserXattr bool
	// NoChown leaves every file to the caller's user, and ignores ownership in the layer.
	NoChown bool
	// CrossMounts lets entries land in mounts below the root. By default that is refused.
	CrossMounts bool

	files *ExtractOptions // the archive is no layer: see Extract
}

// ApplyResult is what was unpacked.
type ApplyResult struct {
	Size  int64 // bytes of contents of regular files
	Files int64 // entries, whiteouts included
	// Dropped tells what of the layer was left out, at most 16 sentences.
	Dropped []string
}

// Apply unpacks an uncompressed layer into root, which must exist, and reads r to its end, so that a digest taken of it
// is whole. Nothing is synced: that is up to whoever declares the tree finished.
//
// Entries cannot leave the root: every directory is opened with openat2 and RESOLVE_IN_ROOT (Linux 5.6), links are
// never followed in the last component, and mounts below the root are not entered. The tree must not be changed by others
// meanwhile, but if it is, this still holds.
//
// Errors: ErrInvalidArgument for what is not a layer, ErrNeedsParent, or an error of the file system.
func Apply(ctx context.Context, root string, r io.Reader, o ApplyOptions) (ApplyResult, error) {
	a, err := newApplier(ctx, root, o)
	if err != nil {
		return ApplyResult{}, err
	}
	defer a.close()
	archive := tar.NewReader(r)
	for {
		if err := ctx.Err(); err != nil {
			return a.result, err
		}
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return a.result, readError(err)
		}
		a.result.Files++
		if err := a.entry(h, archive); err != nil {
			return a.result, fmt.Errorf("%s entry %q: %w", a.kind(), h.Name, err)
		}
		a.dirs.trim()
	}
	if err := a.finish(); err != nil {
		return a.result, err
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return a.result, readError(err)
	}
	return a.result, nil
}

// readError is for the input: what archive/tar does not understand is the layer's fault, all else the reader's.
func readError(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("read the layer: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return fmt.Errorf("read the layer: %w", err)
}

// bufferSize is what goes into one write: most files of an image are smaller.
const bufferSize = 256 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }} // a pool

// applier is one run of Apply.
type applier struct {
	ctx    context.Context
	o      ApplyOptions
	root   int
	dirs   *dirCache
	buf    *[]byte
	result ApplyResult

	euid, egid int
	umask      uint32
	// plain: a new file gets the owner, group and mode it is created with. It is not so in directories with the set-group-ID
	// bit or a default ACL, which a tree that was not empty may have.
	plain bool

	later []directory         // to be finished when nothing is written into them any more
	made  map[string]struct{} // with Remove: what this layer has made, and the directories above it

	// With Overlay, what can only be finished when the layers below are known, see Inherit.
	marks     map[string]mark
	whiteouts []place
	opaques   map[string]struct{}
}

// directory is what is set on a directory last.
type directory struct {
	name  string
	mtime time.Time
	mode  uint32 // 0: already right
}

func newApplier(ctx context.Context, root string, o ApplyOptions) (*applier, error) {
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("root to apply the layer to: %w", &os.PathError{Op: "open", Path: root, Err: err})
	}
	a := &applier{ctx: ctx, o: o, root: fd, euid: os.Geteuid(), egid: os.Getegid(), buf: buffers.Get().(*[]byte)}
	a.dirs = newDirCache(fd, o.CrossMounts)
	a.umask = umask()
	a.plain = a.isPlain()
	if o.files != nil {
		a.plain = false
	} else if o.Whiteouts == Remove {
		a.made = map[string]struct{}{}
	} else {
		a.marks = map[string]mark{"": implied}
		a.opaques = map[string]struct{}{}
	}
	return a, nil
}

func (a *applier) close() {
	a.dirs.flush()
	unix.Close(a.root)
	buffers.Put(a.buf)
}

// isPlain: see the field. An empty root without special bits is where it can be known.
func (a *applier) isPlain() bool {
	var stat unix.Stat_t
	if err := unix.Fstat(a.root, &stat); err != nil || stat.Mode&unix.S_ISGID != 0 {
		return false
	}
	if _, err := unix.Fgetxattr(a.root, "system.posix_acl_default", nil); err == nil {
		return false
	}
	names, err := childNames(a.root, 1)
	return err == nil && len(names) == 0
}

// umask reads the process's mask without setting it, which would race with other threads (Linux 4.7). Where it is not to be
// had, all bits are masked, so that every mode is set explicitly.
func umask() uint32 {
	status, err := os.ReadFile("/proc/self/status")
	if err == nil {
		for line := range strings.SplitSeq(string(status), "\n") {
			var mask uint32
			if n, _ := fmt.Sscanf(line, "Umask:\t%o", &mask); n == 1 {
				return mask
			}
		}
	}
	return 0o777
}

// split cleans an entry's name and takes it apart; both are empty for the root. Leading ".." go nowhere, as in a chroot.
func split(name string) (dir, base string) {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i], name[i+1:]
	}
	return "", name
}

func join(dir, base string) string {
	if dir == "" {
		return base
	}
	return dir + "/" + base
}

// entry unpacks one.
func (a *applier) entry(h *tar.Header, contents io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) > 1<<32-2 || int64(h.Gid) > 1<<32-2 {
		return fmt.Errorf("owner %d:%d is not an id: %w", h.Uid, h.Gid, errdefs.ErrInvalidArgument)
	}
	if strings.IndexByte(h.Name, 0) >= 0 || strings.IndexByte(h.Linkname, 0) >= 0 {
		return fmt.Errorf("a name contains a zero byte: %w", errdefs.ErrInvalidArgument)
	}
	if a.o.files != nil {
		if done, err := a.fileEntry(h); done || err != nil {
			return err
		}
	}
	dir, base := split(h.Name)
	switch {
	case base == "":
		return a.rootEntry(h)
	case strings.HasPrefix(base, whiteoutPrefix) && a.o.files == nil:
		return a.whiteout(dir, base)
	}
	parent, err := a.parent(dir)
	if err != nil {
		return err
	}
	to := place{parent: parent, dir: dir, base: base}
	a.mark(dir, base)
	switch h.Typeflag {
	case tar.TypeDir:
		return a.directory(to, h)
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		return a.regular(to, h, contents)
	case tar.TypeSymlink:
		return a.symlink(to, h)
	case tar.TypeLink:
		return a.link(to, h)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return a.node(to, h)
	}
	a.drop("%s: entries of type %q are not known", h.Name, h.Typeflag)
	return nil
}

func (a *applier) drop(format string, args ...any) {
	if len(a.result.Dropped) < 16 {
		a.result.Dropped = append(a.result.Dropped, fmt.Sprintf(format, args...))
	}
}

// mark remembers what the layer has made, for whiteouts that come later; they only mean what lower layers have.
func (a *applier) mark(dir, base string) {
	if a.made == nil {
		return
	}
	a.made[join(dir, base)] = struct{}{}
	for dir != "" {
		if _, ok := a.made[dir]; ok {
			return
		}
		a.made[dir] = struct{}{}
		dir, _ = split(dir)
	}
}

// rootEntry is "./", which describes the root itself.
func (a *applier) rootEntry(h *tar.Header) error {
	if h.Typeflag != tar.TypeDir {
		return fmt.Errorf("the root is not a directory: %w", errdefs.ErrInvalidArgument)
	}
	delete(a.marks, "")
	if !a.o.NoChown {
		if err := unix.Fchown(a.root, h.Uid, h.Gid); err != nil {
			return fmt.Errorf("chown: %w", err)
		}
	}
	if err := unix.Fchmod(a.root, uint32(h.Mode&0o7777)); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	a.notePlain(h)
	if err := a.xattrs(h, a.root); err != nil {
		return err
	}
	a.later = append(a.later, directory{mtime: h.ModTime})
	return nil
}

// finish sets what had to wait: times of directories change with everything made in them.
func (a *applier) finish() error {
	for _, at := range a.whiteouts {
		if err := a.settleWhiteout(at); err != nil {
			return fmt.Errorf("whiteout of %q: %w", at.name(), err)
		}
		a.dirs.trim()
	}
	for _, d := range a.later {
		if err := a.finishDirectory(d); err != nil {
			return fmt.Errorf("directory %q: %w", d.name, err)
		}
		a.dirs.trim()
	}
	if a.o.Whiteouts == Overlay {
		return a.writeMarks()
	}
	return nil
}

func (a *applier) finishDirectory(d directory) error {
	if d.name == "" {
		return futimens(a.root, d.mtime)
	}
	dir, base := split(d.name)
	parent, err := a.dirs.open(dir)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil // replaced by a later entry, under another name for the same directory
	}
	if err != nil {
		return err
	}
	if d.mode != 0 {
		if err := chmod(parent, base, d.mode); err != nil {
			return err
		}
	}
	return utimens(parent, base, d.mtime)
}

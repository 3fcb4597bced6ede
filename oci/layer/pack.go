package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// PackOptions say how files are put into an archive.
type PackOptions struct {
	// As is the name of the first entry, and what those below it begin with; "." is for the contents of a directory. Empty:
	// there is no entry for the directory itself, and names begin with those in it.
	As string
	// UIDMap and GIDMap are those of the user namespace that the tree belongs to; its owners are mapped back.
	UIDMap, GIDMap []IDMap
	// Enter, unless nil, is asked of each directory that another file system is mounted on whether what is in there belongs
	// to the archive. The one that is named is not asked of.
	Enter func(dir *os.File) bool
	// Skipped, unless nil, is told of what tar has no place for: sockets.
	Skipped func(name string)
}

// Pack writes an archive, which is no layer, of a file, or of a directory with all below it and all mounted there: names
// in byte order, PAX headers without access and change times. name is relative to the directory root; no link is followed,
// neither on the way nor at its end. Nothing is gathered before it is written, so the tree may be large, and may change:
// what is gone when its turn comes is left out.
//
// Errors: os.ErrNotExist when there is no such file, ErrUnavailable for a file that became shorter while it was read.
func Pack(ctx context.Context, w io.Writer, root, name string, o PackOptions) error {
	t, err := openTree(root)
	if err != nil {
		return err
	}
	defer t.close()
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	p := &packer{archiver: newArchiver(ctx, t, w), o: o}
	f, err := p.stat(name)
	if err != nil {
		return err
	}
	if o.As == "" && f.kind() == unix.S_IFDIR {
		err = p.directory(name, "", f.stat.Dev)
	} else {
		err = p.entry(name, o.As, f, f.stat.Dev)
	}
	if err != nil {
		return err
	}
	if err := p.out.Close(); err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	return nil
}

// packer is one run of Pack.
type packer struct {
	*archiver
	o PackOptions
}

func (p *packer) stat(name string) (file, error) {
	f, err := p.tree.file(name)
	f.stat.Uid = inside(f.stat.Uid, p.o.UIDMap)
	f.stat.Gid = inside(f.stat.Gid, p.o.GIDMap)
	return f, err
}

// packTries is how often a file is looked at that is another one when it is opened.
const packTries = 5

// entry writes one file, and what is in it; dev is the file system of the directory that it is in.
func (p *packer) entry(name, as string, f file, dev uint64) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	if f.kind() == unix.S_IFSOCK {
		if p.o.Skipped != nil {
			p.o.Skipped(as)
		}
		return nil
	}
	err := p.file(name, as, f, func(t time.Time) time.Time { return t })
	for try := 1; errors.Is(err, errReplaced) && try < packTries; try++ {
		if f, err = p.stat(name); err == nil {
			err = p.file(name, as, f, func(t time.Time) time.Time { return t })
		}
	}
	if err != nil {
		return fmt.Errorf("archive %q: %w", as, err)
	}
	if f.kind() != unix.S_IFDIR || f.stat.Dev != dev && !p.enters(name) {
		return nil
	}
	return p.directory(name, as, f.stat.Dev)
}

func (p *packer) enters(name string) bool {
	if p.o.Enter == nil {
		return true
	}
	dir, err := p.tree.open(name, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return true // it says itself what is wrong
	}
	defer dir.Close()
	return p.o.Enter(dir)
}

// directory writes what is in one.
func (p *packer) directory(name, as string, dev uint64) error {
	names, err := p.tree.names(name)
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if as == "." {
		as = "./"
	} else if as != "" && !strings.HasSuffix(as, "/") {
		as += "/"
	}
	for _, n := range names {
		f, err := p.stat(join(name, n))
		if err == nil {
			err = p.entry(join(name, n), as+n, f, dev)
		}
		if err != nil && !gone(err) {
			return err
		}
	}
	return nil
}

// gone says whether a file is not there any more, or no longer in a directory.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

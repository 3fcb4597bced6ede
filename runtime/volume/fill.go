package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/internal/treecopy"
)

// An empty volume gets what the image has at the place where it is mounted. The files are copied beside the volume first
// (_copy), synced, and given their name when they are whole (_filled); then they are moved in. So a crash leaves either
// a half copy, which is deleted and made again, or a whole one, which is moved in by whoever comes next (Settle).

// Fill copies a directory's files into a volume that has none, with their owners changed as o says, and gives the volume
// the directory's owner and mode. A volume that has files is left as it is. Where the volume is a mount, nobody else may
// have it mounted, who could change what is being written. Unless it is lasting, a power cut may leave a part of it.
func (l *Local) Fill(ctx context.Context, r Record, from string, o treecopy.Options, lasting bool) error {
	if err := l.Settle(ctx, r); err != nil {
		return err
	}
	empty, err := isEmpty(l.Path(r))
	if err != nil || !empty {
		return err
	}
	switch nothing, err := isEmpty(from); {
	case err != nil:
		return err
	case nothing:
		return treecopy.Attributes(from, l.Path(r), o)
	}
	half := filepath.Join(l.dir(r), copyDir)
	if err := os.Mkdir(half, 0o700); err != nil {
		return err
	}
	err = treecopy.Copy(ctx, from, half, o)
	if err == nil && lasting {
		err = syncFilesystem(half)
	}
	if err == nil {
		err = failpoint.Hit("volume-copied")
	}
	if err == nil {
		err = os.Rename(half, filepath.Join(l.dir(r), filledDir))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("copy the image's files into it: %w", err), os.RemoveAll(half))
	}
	if err := failpoint.Hit("volume-filled"); err != nil {
		return err
	}
	return l.Settle(ctx, r)
}

// Settle ends a copy that a crash has interrupted: a half one is deleted, a whole one is moved into the volume, which is
// mounted where it has to be.
func (l *Local) Settle(ctx context.Context, r Record) error {
	if err := os.RemoveAll(filepath.Join(l.dir(r), copyDir)); err != nil {
		return err
	}
	filled := filepath.Join(l.dir(r), filledDir)
	entries, err := os.ReadDir(filled)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	data, err := unix.Open(l.Path(r), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: l.Path(r), Err: err}
	}
	defer unix.Close(data)
	for _, entry := range entries {
		if err := moveIn(ctx, filled, entry.Name(), data); err != nil {
			return fmt.Errorf("move the image's %s into it: %w", entry.Name(), err)
		}
		if err := failpoint.Hit("volume-moving"); err != nil {
			return err
		}
	}
	if err := treecopy.Attributes(filled, fmt.Sprintf("/proc/self/fd/%d/.", data), treecopy.Options{}); err != nil {
		return fmt.Errorf("give it the owner and mode of the image's directory: %w", err)
	}
	return os.Remove(filled)
}

// moveIn moves one file or tree into the directory; what is there under its name stays. On another filesystem it is copied
// under a name of its own first.
func moveIn(ctx context.Context, from, name string, data int) error {
	source := filepath.Join(from, name)
	var stat unix.Stat_t
	err := unix.Fstatat(data, name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil {
		return os.RemoveAll(source)
	}
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	err = unix.Renameat2(unix.AT_FDCWD, source, data, name, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) { // a filesystem that cannot do that
		err = unix.Renameat(unix.AT_FDCWD, source, data, name)
	}
	switch {
	case errors.Is(err, unix.EEXIST): // since a moment ago
		return os.RemoveAll(source)
	case !errors.Is(err, unix.EXDEV):
		return err
	}
	temporary := "." + name + ".minid"
	at := fmt.Sprintf("/proc/self/fd/%d/%s", data, temporary)
	if err := os.RemoveAll(at); err != nil {
		return err
	}
	if err := treecopy.Entry(ctx, source, at); err != nil {
		return errors.Join(err, os.RemoveAll(at))
	}
	if err := syncFilesystem(filepath.Dir(at) + "/."); err != nil {
		return err
	}
	if err := unix.Renameat(data, temporary, data, name); err != nil {
		return err
	}
	return os.RemoveAll(source)
}

func syncFilesystem(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	return os.NewSyscallError("syncfs", unix.Syncfs(fd))
}

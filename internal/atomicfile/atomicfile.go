// Package atomicfile replaces whole files: a reader, now or after a crash, sees the old bytes or the new ones and never
// a mixture. Appending, and files too large for memory, do not live here.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Write replaces the file at path by data, with exactly the permissions perm (the umask is not applied). When it
// returns nil both the bytes and the name survive a power cut: the file is synced before the rename and the directory
// after it. The directory has to exist. On an error the old file is untouched, unless the error comes from the sync of
// the directory: then the new file is in place but may be lost by a power cut.
func Write(path string, data []byte, perm fs.FileMode) error {
	return write(path, data, perm, true)
}

// WriteNoSync is Write for files that need not survive a power cut, such as everything below /run: readers and a killed
// process still see only whole files.
func WriteNoSync(path string, data []byte, perm fs.FileMode) error {
	return write(path, data, perm, false)
}

func write(path string, data []byte, perm fs.FileMode, sync bool) error {
	dir, name := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	f, err := os.CreateTemp(dir, "."+name+".tmp-")
	if err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	if err := fill(f, data, perm, sync); err != nil {
		return fmt.Errorf("replace %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("replace %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	if !sync {
		return nil
	}
	return SyncDir(dir)
}

// fill writes, syncs and closes f, and leaves it closed on errors too.
func fill(f *os.File, data []byte, perm fs.FileMode, sync bool) (err error) {
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(perm); err != nil {
		return err
	}
	if sync {
		return f.Sync()
	}
	return nil
}

// SyncDir makes the names in a directory durable: what was created, renamed or removed in it before the call.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

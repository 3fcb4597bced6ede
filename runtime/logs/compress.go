package logs

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// A rotated file may be compressed: Path.1 becomes Path.1.gz, and is one file of the log as before. While both are there,
// because the writer was killed between the two steps, the one that is not compressed counts.

// kinds are the endings of a rotated file, the one that counts first.
func kinds() []string { return []string{"", ".gz"} }

// compress replaces a rotated file by its compressed self, with the same time of its last change.
func compress(path string) (err error) {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	fi, err := from.Stat()
	if err != nil {
		return err
	}
	half := path + ".gz.half"
	to, err := os.OpenFile(half, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(half))
		}
	}()
	z := gzip.NewWriter(to)
	_, err = io.Copy(z, from)
	err = errors.Join(err, z.Close(), to.Close())
	if err != nil {
		return err
	}
	if err := os.Chtimes(half, fi.ModTime(), fi.ModTime()); err != nil {
		return err
	}
	if err := os.Rename(half, path+".gz"); err != nil {
		return err
	}
	return os.Remove(path)
}

// squeeze compresses the youngest rotated file beside the writing; the next rotation waits for it.
func (w *Writer) squeeze() {
	path := rotated(w.o.Path, 1)
	w.squeezing.Go(func() {
		if err := compress(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.o.Logger.Warn("a rotated log stays as it is, not compressed", "path", path, "error", err)
		}
	})
}

// inflate makes a file without a name of a compressed one's content.
func inflate(f *os.File) (*os.File, error) {
	z, err := gzip.NewReader(io.NewSectionReader(f, 0, 1<<62))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	to, err := os.CreateTemp("", filepath.Base(f.Name())+"-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(to.Name()); err != nil {
		return nil, errors.Join(err, to.Close())
	}
	if _, err := io.Copy(to, z); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", f.Name(), err), to.Close())
	}
	return to, nil
}

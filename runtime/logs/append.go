package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// append writes whole entries to the file, after a rotation when it is due.
func (w *Writer) append(out []byte, t time.Time) error {
	if len(out) == 0 {
		return nil
	}
	if w.o.MaxSize > 0 && w.size > 0 && w.size+int64(len(out)) > w.o.MaxSize && !t.Before(w.retry) {
		if err := w.rotate(); err != nil {
			w.retry = t.Add(time.Second)
			w.o.Logger.Warn("the log is not rotated and grows", "path", w.o.Path, "max_size", w.o.MaxSize, "error", err)
		}
	}
	if w.broken {
		if _, err := w.file.Write([]byte{'\n'}); err != nil { // what follows begins on a line of its own
			return w.drop(len(out), err)
		}
		w.size++
		w.broken = false
	}
	n, err := w.file.Write(out)
	w.size += int64(n)
	if err == nil {
		w.recovered()
		return nil
	}
	kept := bytes.LastIndexByte(out[:n], '\n') + 1
	if kept < n { // half an entry; without it the file is whole again
		w.broken = w.file.Truncate(w.size-int64(n-kept)) != nil
		if !w.broken {
			w.size -= int64(n - kept)
		}
	}
	return w.drop(len(out)-kept, err)
}

// drop counts bytes that were not written, and warns of the first of them.
func (w *Writer) drop(n int, err error) error {
	if w.lost.now == 0 {
		w.o.Logger.Warn("the log cannot be written, the container's output is dropped meanwhile", "path", w.o.Path, "error", err)
	}
	w.lost.now += int64(n)
	w.lost.total += int64(n)
	return fmt.Errorf("log: %d bytes dropped: %w", n, err)
}

func (w *Writer) recovered() {
	if w.lost.now > 0 {
		w.o.Logger.Warn("the log can be written again", "path", w.o.Path, "dropped_bytes", w.lost.now)
		w.lost.now = 0
	}
}

// rotate moves the files up by one number and begins a new one. On an error the old one stays in use.
//
// The new file is made under another name first: when that fails nothing has happened, and Path is never missing. A
// gap in the numbers, from a rotation that was cut short, is closed.
func (w *Writer) rotate() error {
	w.squeezing.Wait()
	path := w.o.Path
	next := path + ".next"
	f, err := os.OpenFile(next, os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	if err := w.shift(); err != nil {
		return errors.Join(err, f.Close(), os.Remove(next))
	}
	if err := os.Rename(next, path); err != nil {
		return errors.Join(err, f.Close(), os.Remove(next))
	}
	old := w.file
	w.file, w.size, w.broken = f, 0, false
	if w.o.Compress && w.o.MaxFiles > 1 {
		w.squeeze()
	}
	return old.Close()
}

// shift frees Path.1 and gives it to the current file as a second name, which the rename that follows makes its only
// one.
func (w *Writer) shift() error {
	path, oldest := w.o.Path, w.o.MaxFiles-1
	if oldest < 1 {
		return nil
	}
	if current, err := w.isCurrent(1); err != nil || current {
		return err // the rotation before was cut short here
	}
	free := 1
	for free < oldest {
		if !exists(path, free) {
			break
		}
		free++
	}
	for n := free; n > 1; n-- {
		if err := move(path, n-1, n); err != nil {
			return err
		}
	}
	if oldest == 1 { // a link replaces nothing
		if err := discard(rotated(path, 1)); err != nil {
			return err
		}
	}
	err := os.Link(path, rotated(path, 1))
	if errors.Is(err, fs.ErrNotExist) { // someone has moved or removed the current file: it is not ours to keep
		return nil
	}
	return err
}

// exists says whether there is a file of a number, compressed or not.
func exists(path string, n int) bool {
	for _, kind := range kinds() {
		if _, err := os.Lstat(rotated(path, n) + kind); !errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

// move gives the file of a number another one. That one's own is lost, in whichever kind it is there.
func move(path string, from, to int) error {
	for _, kind := range kinds() {
		err := os.Rename(rotated(path, from)+kind, rotated(path, to)+kind)
		if errors.Is(err, fs.ErrNotExist) {
			err = remove(rotated(path, to) + kind)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// discard removes a rotated file in all its kinds.
func discard(path string) error {
	for _, kind := range kinds() {
		if err := remove(path + kind); err != nil {
			return err
		}
	}
	return nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// isCurrent tells whether the file with a number is the one being written.
func (w *Writer) isCurrent(n int) (bool, error) {
	named, err := os.Lstat(rotated(w.o.Path, n))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	mine, err := w.file.Stat()
	if err != nil {
		return false, err
	}
	return os.SameFile(named, mine), nil
}

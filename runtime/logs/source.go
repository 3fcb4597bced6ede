package logs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// blockSize in bytes is how much of a file is read at once.
const blockSize = 64 << 10

// maxEntry in bytes is the longest line of a file that is taken for an entry: MaxLine with every byte escaped, and
// room for what other programs write. A longer one is damaged.
const maxEntry = 1 << 20

// source is one file of a log, held open, so that its inode number belongs to no other file meanwhile.
type source struct {
	*os.File
	inflated *os.File // what is in it, when it is compressed and has been read
	gzip     bool
	inode    uint64
	dev      uint64
	marked   uint64
	pos      int64 // of the first line that was not delivered
	buf      []byte
}

func openSource(path string) (*source, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	s := &source{File: f}
	st, err := s.stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s.inode, s.dev = st.Ino, uint64(st.Dev)
	return s, nil
}

// openRotated opens a file by its number, compressed or not.
func openRotated(path string, n int) (*source, error) {
	s, err := openSource(rotated(path, n))
	if n == 0 || !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	if s, err = openSource(rotated(path, n) + ".gz"); err == nil {
		s.gzip = true
	}
	return s, err
}

func (s *source) same(o *source) bool {
	return s.inode == o.inode && s.dev == o.dev && s.gzip == o.gzip
}

// becomes says whether another file is what a compression has made of this one.
func (s *source) becomes(o *source) bool {
	if s.gzip || !o.gzip {
		return false
	}
	mine, err := s.mark()
	if err != nil || mine == 0 {
		return false
	}
	other, err := o.mark()
	return err == nil && mine == other
}

// Close closes the file, and its content where that is another one.
func (s *source) Close() error {
	err := s.File.Close()
	if s.inflated != nil {
		err = errors.Join(err, s.inflated.Close())
	}
	return err
}

// content is the file with the lines.
func (s *source) content() (*os.File, error) {
	if !s.gzip {
		return s.File, nil
	}
	if s.inflated == nil {
		f, err := inflate(s.File)
		if err != nil {
			return nil, err
		}
		s.inflated = f
	}
	return s.inflated, nil
}

// readAt is ReadAt of the content, where an end is no error.
func (s *source) readAt(b []byte, at int64) (int, error) {
	f, err := s.content()
	if err != nil {
		return 0, err
	}
	n, err := f.ReadAt(b, at)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// release gives back what the reading needed, when nothing more is read of it.
func (s *source) release() {
	s.buf = nil
	if s.inflated != nil {
		s.inflated.Close()
		s.inflated = nil
	}
}

// size is that of the content in bytes.
func (s *source) size() (int64, error) {
	f, err := s.content()
	if err != nil {
		return 0, err
	}
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

func (s *source) stat() (*syscall.Stat_t, error) {
	fi, err := s.Stat()
	if err != nil {
		return nil, err
	}
	return fi.Sys().(*syscall.Stat_t), nil
}

// drain delivers the whole lines from pos to limit, or to the end of the file. What comes after the last newline is
// left for the next call, which reads it again: the writer may take it back.
func (s *source) drain(ctx context.Context, limit int64, each func(line []byte) error) error {
	skip := false // the rest of a line that is too long
	for ctx.Err() == nil {
		n, err := s.fill(limit)
		if err != nil {
			return err
		}
		block := s.buf[:n]
		end := bytes.LastIndexByte(block, '\n') + 1
		if end == 0 {
			if n < maxEntry {
				return nil
			}
			s.pos += int64(n)
			skip = true
			continue
		}
		for rest := block[:end]; len(rest) > 0; {
			line := rest[:bytes.IndexByte(rest, '\n')+1]
			rest = rest[len(line):]
			s.pos += int64(len(line))
			if skip {
				skip = false
				continue
			}
			if err := each(line); err != nil {
				return err
			}
		}
	}
	return context.Cause(ctx)
}

// fill reads from pos until there is a newline, the end, or maxEntry bytes.
func (s *source) fill(limit int64) (n int, err error) {
	if s.buf == nil {
		s.buf = make([]byte, blockSize)
	}
	for {
		want := min(int64(len(s.buf)-n), limit-s.pos-int64(n))
		if want <= 0 {
			return n, nil
		}
		m, err := s.readAt(s.buf[n:n+int(want)], s.pos+int64(n))
		if err != nil {
			return n, err
		}
		if int64(m) < want {
			return n + m, s.truncated(n + m)
		}
		newline := bytes.IndexByte(s.buf[n:n+m], '\n') >= 0
		n += m
		if newline || n >= maxEntry {
			return n, nil
		}
		if n == len(s.buf) {
			s.buf = append(s.buf, make([]byte, len(s.buf))...)
		}
	}
}

// truncated begins anew when the file was emptied in place, as logrotate's copytruncate does.
func (s *source) truncated(n int) error {
	if n > 0 {
		return nil
	}
	size, err := s.size()
	if err == nil && size < s.pos {
		s.pos = 0
	}
	return err
}

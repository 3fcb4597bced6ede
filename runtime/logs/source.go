package logs

import (
	"bytes"
	"context"
	"errors"
	"io"
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
	inode uint64
	dev   uint64
	pos   int64 // of the first line that was not delivered
	buf   []byte
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

func (s *source) same(o *source) bool { return s.inode == o.inode && s.dev == o.dev }

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
		m, err := s.ReadAt(s.buf[n:n+int(want)], s.pos+int64(n))
		if errors.Is(err, io.EOF) {
			return n + m, s.truncated(n + m)
		}
		if err != nil {
			return n, err
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
	fi, err := s.Stat()
	if err == nil && fi.Size() < s.pos {
		s.pos = 0
	}
	return err
}

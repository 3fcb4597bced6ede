package logs

import (
	"bytes"
	"hash/fnv"
)

// Cursor is a place in a log, behind a line that somebody has taken. It stays right while files are rotated and
// compressed, over restarts of everything. The zero value is the beginning.
type Cursor struct {
	File   uint64 // tells the file from the log's others
	Offset int64  // in bytes, of what is not compressed
}

// The first line of a file tells it from others: the moment at which it was written is in it, in json-file at its end.
// Nearly all have theirs in the first markSize bytes.
const markSize = 4 << 10

// mark makes a number of a file's first line; 0 while it has none. It needs no inode, whose number the next file may get,
// and is the same for a file and its compressed self.
func (s *source) mark() (uint64, error) {
	if s.marked != 0 {
		return s.marked, nil
	}
	for size := markSize; ; size *= 4 {
		b := make([]byte, size)
		n, err := s.readAt(b, 0)
		if err != nil {
			return 0, err
		}
		line, _, whole := bytes.Cut(b[:n], []byte{'\n'})
		switch {
		case whole || size >= maxEntry:
			h := fnv.New64a()
			h.Write(line)
			s.marked = max(1, h.Sum64())
			return s.marked, nil
		case n < size:
			return 0, nil
		}
	}
}

// from keeps the files from the one of the cursor on, moved behind what was taken; all, and false, when it is gone.
func from(all []*source, c Cursor) (used int, found bool, err error) {
	for i, s := range all {
		m, err := s.mark()
		if err != nil {
			return 0, false, err
		}
		if m != 0 && m == c.File {
			s.pos = c.Offset
			return i + 1, true, nil
		}
	}
	return len(all), false, nil
}

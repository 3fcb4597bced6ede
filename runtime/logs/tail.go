package logs

import "bytes"

// tail moves the positions of a log's files, the youngest first, so that the last n lines come after them, and returns
// how many of the files still matter. It reads backwards, only as far as needed. Parts of a line count as one.
func tail(all []*source, n int64, parse parser) (used int, err error) {
	t := &tailer{want: n, parse: parse}
	for i, s := range all {
		size, err := s.size()
		if err != nil {
			return 0, err
		}
		found, err := t.back(s, size)
		if err != nil {
			return 0, err
		}
		if found {
			return i + 1, nil
		}
	}
	return len(all), nil
}

type tailer struct {
	want  int64
	parse parser
	begun bool // an entry has been met
	lines int64
}

// back looks for the beginning of the wanted lines before end, and sets the position of s to it.
func (t *tailer) back(s *source, end int64) (bool, error) {
	var rest []byte // of the block after, up to its first newline
	for from := end; from > 0; {
		n := min(int64(blockSize), from)
		from -= n
		block := make([]byte, n, int(n)+len(rest))
		if _, err := s.readAt(block, from); err != nil {
			return false, err
		}
		block = append(block, rest...)
		stop := len(block)
		for {
			i := bytes.LastIndexByte(block[:max(0, stop-1)], '\n')
			if i < 0 {
				break
			}
			if t.enough(block[i+1 : stop]) {
				s.pos = from + int64(stop)
				return true, nil
			}
			stop = i + 1
		}
		rest = block[:stop]
		if len(rest) > maxEntry {
			rest = rest[:0] // damaged; its beginning is too
		}
	}
	if t.enough(rest) {
		s.pos = int64(len(rest))
		return true, nil
	}
	s.pos = 0
	return false, nil
}

// enough takes the next line, going backwards, and tells that it is before the wanted ones.
func (t *tailer) enough(line []byte) bool {
	var e Entry
	if len(line) == 0 || line[len(line)-1] != '\n' || !t.parse(line, &e) {
		return false
	}
	if !e.Partial || !t.begun {
		if t.lines == t.want {
			return true
		}
		t.lines++
	}
	t.begun = true
	return false
}

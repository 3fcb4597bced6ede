package logs

import (
	"errors"
	"io/fs"
	"os"
)

// maxGap is how many numbers may be missing in a row before the search for older files ends. A rotation leaves one out
// for a moment, and one that was cut short until the next.
const maxGap = 3

// chain opens the files of a log that exist, the youngest first. Files only move to higher numbers, so going upwards
// meets every one that does not vanish; one that moves meanwhile is met twice, and kept once.
func chain(path string) ([]*source, error) {
	var all []*source
	missing := 0
	for n := 0; missing < maxGap; n++ {
		s, err := openRotated(path, n)
		if errors.Is(err, fs.ErrNotExist) {
			missing++
			continue
		}
		if err != nil {
			closeAll(all)
			return nil, err
		}
		missing = 0
		if len(all) > 0 && all[len(all)-1].same(s) {
			s.Close()
			continue
		}
		all = append(all, s)
	}
	return all, nil
}

// successor opens the file that follows s: nil while there is none, because s is the current one or the writer is about
// to make the next. gap says that others may have come between, which are gone.
func successor(path string, s *source) (next *source, gap bool, err error) {
	mine, err := s.Stat()
	if err != nil {
		return nil, false, err
	}
	if current, err := os.Stat(path); err == nil && os.SameFile(current, mine) {
		return nil, false, nil
	}
	all, err := chain(path)
	if err != nil {
		return nil, false, err
	}
	st, err := s.stat()
	if err != nil {
		closeAll(all)
		return nil, false, err
	}
	deleted := st.Nlink == 0
	i, known := follows(all, s, deleted)
	for j, other := range all {
		if j != i {
			other.Close()
		}
	}
	if i < 0 {
		return nil, false, nil
	}
	return all[i], deleted && !known, nil
}

// follows chooses the file after s from a log's, the youngest first; -1 for none. A file that is not among them has
// been deleted, as too old: then the oldest left is next. Or it was renamed by someone else, as the kubelet does, and
// the current file is next. known says that it is among them, or was compressed into one of them.
func follows(all []*source, s *source, deleted bool) (i int, known bool) {
	for i, other := range all {
		if other.same(s) {
			return i - 1, true
		}
	}
	for i, other := range all {
		if s.becomes(other) {
			return i - 1, true
		}
	}
	if len(all) == 0 {
		return -1, false
	}
	if deleted {
		return len(all) - 1, false
	}
	return 0, false
}

func closeAll(all []*source) {
	for _, s := range all {
		s.Close()
	}
}

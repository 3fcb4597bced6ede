package logs

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"
)

// ReadOptions says which part of a log is wanted.
type ReadOptions struct {
	Driver string // json-file or cri; empty: each line tells
	Path   string // of the current file
	Follow bool   // wait for more at the end
	// Tail is how many lines from the end to begin with; negative: all, those of rotated files included.
	Tail int64
	// Since and Until bound the entries' times, both included; zero: no bound. With Tail, they choose among its lines.
	Since, Until time.Time
	// Done, when closed, tells a follower that nothing more will be written: it ends when it has read the rest.
	Done <-chan struct{}
	// Late is for how long after a rotation the writer may still write to the file before. Ours does not; others' write
	// behind the back of the one who rotates (containerd).
	Late time.Duration
	// From, when set, is where to begin, instead of Tail; each entry then says where it ends.
	From *Cursor
	// Gap is called when lines are missed: the file of From, or one that a follower had not come to yet, is gone. May be nil.
	Gap func()
}

// slack is by how much entries may be out of order: each stream takes the time before it waits for the file.
const slack = time.Second

// Read calls each for every entry, in the order of the files. It returns nil at the end: of the files, or with Follow
// when Done is closed or Until is over. Damaged lines are left out. While it follows, rotated and renamed files are
// read to their ends before their successors, each entry once; only files that are deleted before it gets to them are
// missed.
//
// Errors: of each, as it is; the context's; a *fs.PathError of class fs.ErrNotExist when there is no log (a follower
// waits for it, but not for its directory).
func Read(ctx context.Context, o ReadOptions, each func(Entry) error) error {
	parse, err := newParser(o.Driver)
	if err != nil {
		return err
	}
	r := &reader{ReadOptions: o, parse: parse, each: each}
	defer r.close()
	if !o.Follow {
		err = r.finite(ctx)
	} else {
		err = r.follow(ctx)
	}
	if errors.Is(err, errOver) {
		return nil
	}
	return err
}

// errOver says that no later entry is wanted.
var errOver = errors.New("the end of the wanted time has come")

type reader struct {
	ReadOptions
	parse parser
	each  func(Entry) error
	files []*source // the oldest first; the last one is being written
}

func (r *reader) close() { closeAll(r.files) }

// open opens the files and moves them to where the wanted lines begin.
func (r *reader) open() error {
	all, err := chain(r.Path)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return &fs.PathError{Op: "open", Path: r.Path, Err: fs.ErrNotExist}
	}
	used := len(all)
	if r.From != nil {
		var found bool
		used, found, err = from(all, *r.From)
		if !found && r.From.File != 0 && err == nil {
			r.gap()
		}
	} else if r.Tail >= 0 {
		used, err = tail(all, r.Tail, r.parse)
	} else if !r.Since.IsZero() {
		used, err = since(all, r.Since)
	}
	closeAll(all[used:])
	for i := used - 1; i >= 0; i-- {
		r.files = append(r.files, all[i])
	}
	return err
}

func (r *reader) gap() {
	if r.Gap != nil {
		r.Gap()
	}
}

// since leaves out the files that were last written before t, but never the current one.
func since(all []*source, t time.Time) (used int, err error) {
	for i := 1; i < len(all); i++ {
		fi, err := all[i].Stat()
		if err != nil {
			return 0, err
		}
		if fi.ModTime().Before(t.Add(-slack)) {
			return i, nil
		}
	}
	return len(all), nil
}

// finite reads what is there now, however fast it grows.
func (r *reader) finite(ctx context.Context) error {
	if err := r.open(); err != nil {
		return err
	}
	ends := make([]int64, len(r.files))
	for i, s := range r.files {
		size, err := s.size()
		if err != nil {
			return err
		}
		ends[i] = size
	}
	for i, s := range r.files {
		if err := s.drain(ctx, ends[i], r.lineOf(s)); err != nil {
			return err
		}
		s.release()
	}
	return nil
}

// lineOf hands on one line of a file.
func (r *reader) lineOf(s *source) func(line []byte) error {
	return func(line []byte) error { return r.line(s, line) }
}

func (r *reader) line(s *source, line []byte) error {
	var e Entry
	if !r.parse(line, &e) {
		return nil
	}
	if r.From != nil {
		m, err := s.mark()
		if err != nil {
			return err
		}
		e.End = Cursor{m, s.pos}
	}
	if !r.Until.IsZero() && e.Time.After(r.Until) {
		if e.Time.After(r.Until.Add(slack)) {
			return errOver
		}
		return nil
	}
	if e.Time.Before(r.Since) {
		return nil
	}
	return r.each(e)
}

// follow reads what is there and what will come.
func (r *reader) follow(ctx context.Context) error {
	w, err := watch(r.Path)
	if err != nil {
		return err
	}
	defer w.close()
	if err := r.first(ctx, w); err != nil {
		return err
	}
	return r.chase(ctx, w)
}

// chase reads to the end of each file and goes on to the next, until there is none to come.
func (r *reader) chase(ctx context.Context, w *watcher) error {
	for {
		over := r.over() // asked before the file is read to its end
		s := r.files[0]
		if err := s.drain(ctx, math.MaxInt64, r.lineOf(s)); err != nil {
			return err
		}
		known := len(r.files) > 1
		next, err := r.next(s)
		if err != nil {
			return err
		}
		if next && !known && r.Late > 0 {
			if err := sleep(ctx, nil, r.Late); err != nil {
				return err
			}
		}
		if next {
			// The successor was made after the last write to s: what came since the reading above is all there is.
			if err := s.drain(ctx, math.MaxInt64, r.lineOf(s)); err != nil {
				return err
			}
			s.Close()
			r.files = r.files[1:]
			continue
		}
		if over {
			return nil
		}
		if err := r.wait(ctx, w); err != nil {
			return err
		}
	}
}

// next makes sure that r.files has the successor of its first file, if there is one yet.
func (r *reader) next(s *source) (bool, error) {
	if len(r.files) > 1 {
		return true, nil
	}
	next, gap, err := successor(r.Path, s)
	if err != nil || next == nil {
		return false, err
	}
	if gap {
		r.gap()
	}
	r.files = append(r.files, next)
	return true, nil
}

// first opens the log, and waits for it to be made unless that will never be.
func (r *reader) first(ctx context.Context, w *watcher) error {
	for {
		over := r.over()
		err := r.open()
		if !errors.Is(err, os.ErrNotExist) || over {
			return err
		}
		if _, err := os.Stat(filepath.Dir(r.Path)); err != nil {
			return err
		}
		if err := r.wait(ctx, w); err != nil {
			return err
		}
	}
}

// wait waits for a change of the files, for Done, or for Until to be over.
func (r *reader) wait(ctx context.Context, w *watcher) error {
	if r.Until.IsZero() {
		return w.wait(ctx, r.Done)
	}
	limited, cancel := context.WithDeadline(ctx, r.Until.Add(slack))
	defer cancel()
	_ = w.wait(limited, r.Done) // its error is the context's
	return context.Cause(ctx)
}

// over tells whether nothing more will be written, or is wanted.
func (r *reader) over() bool {
	select {
	case <-r.Done:
		return true
	default:
		return !r.Until.IsZero() && time.Now().After(r.Until.Add(slack))
	}
}

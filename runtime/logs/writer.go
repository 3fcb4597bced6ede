package logs

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Options says where and how a log is written.
type Options struct {
	Driver   string            // json-file or cri; none writes nothing
	Path     string            // of the current file; its directory is created
	MaxSize  int64             // in bytes, of a file before it is rotated; 0: never
	MaxFiles int               // kept, the current one included; below 2 only that
	MaxLine  int               // in bytes, of a line in one entry, up to MostLine; 0: MaxLine
	Compress bool              // what is rotated
	Attrs    map[string]string // with each line, of json-file
	Logger   *slog.Logger
}

// Writer writes one container's log. It never waits for anything but the file system, and what cannot be written is
// dropped and counted. Its methods may be called by several goroutines.
type Writer struct {
	o Options

	mu      sync.Mutex
	file    *os.File // nil: closed, or driver none
	size    int64
	broken  bool      // the file does not end with a newline
	retry   time.Time // no rotation before
	streams []*Stream
	lost    loss

	squeezing sync.WaitGroup // has what is being compressed
}

// loss counts what was dropped since the file could last be written.
type loss struct{ now, total int64 }

// Stream is stdout or stderr of a Writer. It holds the beginning of a line until its end comes, at most Options.MaxLine
// bytes.
type Stream struct {
	w    *Writer
	name string
	format
	held []byte
	part bool // the last entry was a part of a line
	last time.Time
}

// buffers are shared by all writers, which use one only while they write: a thousand silent containers cost nothing.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// keepBuffer in bytes is the largest buffer that is kept for later.
const keepBuffer = 128 << 10

// NewWriter opens the log, and goes on at its end when it exists.
func NewWriter(o Options) (*Writer, error) {
	if err := checkDriver(o.Driver); err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxLine <= 0 {
		o.MaxLine = MaxLine
	}
	o.MaxLine = min(o.MaxLine, MostLine)
	w := &Writer{o: o}
	if o.Driver == DriverNone {
		return w, nil
	}
	if err := os.MkdirAll(filepath.Dir(o.Path), 0o755); err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	f, err := openLog(o.Path)
	if err != nil {
		return nil, err
	}
	if err := w.use(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return w, nil
}

func openLog(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	return f, nil
}

// use makes f the current file, and looks where it ends: a writer that was killed, or whose disk was full, may have
// left half a line.
func (w *Writer) use(f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	broken := false
	if n := fi.Size(); n > 0 && fi.Mode().IsRegular() {
		var last [1]byte
		if _, err := f.ReadAt(last[:], n-1); err != nil {
			return fmt.Errorf("log: %w", err)
		}
		broken = last[0] != '\n'
	}
	w.file, w.size, w.broken = f, fi.Size(), broken
	return nil
}

// Stream is the writer's stdout or stderr, the same each time.
func (w *Writer) Stream(name string) *Stream {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stream(name)
}

func (w *Writer) stream(name string) *Stream {
	for _, s := range w.streams {
		if s.name == name {
			return s
		}
	}
	s := &Stream{w: w, name: name, format: newFormat(w.o.Driver, name, w.o.Attrs)}
	w.streams = append(w.streams, s)
	return s
}

// Write is Stream(stream).Write.
func (w *Writer) Write(stream string, p []byte, t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stream(stream).write(p, t)
}

// Write logs bytes that were read at t: whole lines with one write(2), and the rest when its end comes. An error means
// that bytes were dropped; the next call tries again.
func (s *Stream) Write(p []byte, t time.Time) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.write(p, t)
}

func (s *Stream) write(p []byte, t time.Time) error {
	if s.w.file == nil || len(p) == 0 {
		return nil
	}
	b := buffers.Get().(*[]byte)
	s.stamp(t)
	s.last = t
	out := s.split((*b)[:0], p)
	err := s.w.append(out, t)
	if cap(out) <= keepBuffer {
		*b = out[:0]
		buffers.Put(b)
	}
	return err
}

// split appends the entries for held+p, and holds what has no end yet.
func (s *Stream) split(out, p []byte) []byte {
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			break
		}
		var rest []byte
		out, rest = s.parts(out, p[:i])
		if len(s.held) > 0 {
			s.held = append(s.held, rest...)
			rest = s.held
		}
		out = s.line(out, rest, true)
		s.part = false
		s.held = s.held[:0]
		p = p[i+1:]
	}
	out, p = s.parts(out, p)
	s.held = append(s.held, p...)
	if len(s.held) == 0 && cap(s.held) > MaxLine/4 {
		s.held = nil // a long line is no reason to keep its space
	}
	return out
}

// parts appends what of held+p is beyond the longest line as parts, and returns the rest of p: with held it fits into one entry.
func (s *Stream) parts(out, p []byte) (grown, rest []byte) {
	most := s.w.o.MaxLine
	for len(s.held)+len(p) > most {
		n := min(most-len(s.held), len(p))
		if len(s.held) == 0 {
			n = s.whole(p[:n])
			out = s.line(out, p[:n], false)
		} else {
			s.held = append(s.held, p[:n]...)
			cut := s.whole(s.held)
			out = s.line(out, s.held[:cut], false)
			s.held = append(s.held[:0], s.held[cut:]...)
		}
		s.part = true
		p = p[n:]
	}
	return out, p
}

// Flush writes the beginnings of lines that are held, as parts: before the writer is handed over or killed.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return nil
	}
	var out []byte
	for _, s := range w.streams {
		if len(s.held) > 0 {
			s.stamp(s.last)
			out = s.line(out, s.held, false)
			s.held, s.part = s.held[:0], true
		}
	}
	return w.append(out, time.Now())
}

// Close writes what is held and closes the file. In CRI's format the last line is made a full one, as other runtimes
// do; in json-file it stays without a newline. Closing again does nothing, and so does writing then.
func (w *Writer) Close() error {
	defer w.squeezing.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return nil
	}
	full := w.o.Driver == DriverCRI
	var out []byte
	for _, s := range w.streams {
		if len(s.held) > 0 || full && s.part {
			s.stamp(s.last)
			out = s.line(out, s.held, full)
			s.held, s.part = nil, false
		}
	}
	err := w.append(out, time.Now())
	err = errors.Join(err, w.file.Close())
	w.file = nil
	return err
}

// Reopen goes on in a new file at Path, after someone renamed the old one. On an error it stays with the old one.
func (w *Writer) Reopen() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return nil
	}
	old := w.file
	f, err := openLog(w.o.Path)
	if err != nil {
		return err
	}
	if err := w.use(f); err != nil {
		return errors.Join(err, f.Close())
	}
	return old.Close()
}

// Lost is how many bytes of the log's files were dropped, since the writer was made.
func (w *Writer) Lost() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost.total
}

package supervisor

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/fdpass"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

func itoa(n int) string { return strconv.Itoa(n) }

// streams are the standard streams of one process: read by pumps, written to its log and to its attachments.
type streams struct {
	dir     string
	stdio   wire.Stdio
	log     logWriter // nil: no log
	buffers *sync.Pool
	fault   func(error) // called once when the log cannot be written
	logger  *os.Process // nil: none, or one that an earlier program has started

	stdin  *stdin // nil: none
	pty    *os.File
	stdout *pump
	stderr *pump // nil with a terminal

	mu          sync.Mutex
	attachments map[*attachment]struct{}
	over        bool // the output has ended
	faulty      bool
}

// attachment is one client of a process's streams.
type attachment struct {
	key            string
	in             *inlet
	stdout, stderr *outlet
	open           int // how many of them have not ended
}

// Names of the streams in logs.
const (
	stdoutName = "stdout"
	stderrName = "stderr"
)

// take gives the streams the supervisor's ends of the pipes or the terminal; they are copied after begin.
func (s *streams) take(kept keptIO, onStdinClose func()) error {
	var err error
	if kept.pty != nil {
		s.pty = kept.pty
		if s.stdio.Stdin {
			// A duplicate, so that closing the input of a terminal does not hang it up.
			in, err := fdpass.Duplicate(kept.pty)
			if err != nil {
				return err
			}
			s.stdin = newStdin(in, false, func() {})
		}
		s.stdout, err = newPump(kept.pty, s.buffers, s.to(stdoutName, func(a *attachment) *outlet { return a.stdout }))
		return err
	}
	if kept.stdin != nil {
		s.stdin = newStdin(kept.stdin, s.stdio.StdinOnce, onStdinClose)
	}
	if kept.stdout != nil {
		s.stdout, err = newPump(kept.stdout, s.buffers, s.to(stdoutName, func(a *attachment) *outlet { return a.stdout }))
		if err != nil {
			return err
		}
	}
	if kept.stderr != nil {
		s.stderr, err = newPump(kept.stderr, s.buffers, s.to(stderrName, func(a *attachment) *outlet { return a.stderr }))
	}
	return err
}

// pumps are those that there are.
func (s *streams) pumps() []*pump {
	var list []*pump
	for _, p := range []*pump{s.stdout, s.stderr} {
		if p != nil {
			list = append(list, p)
		}
	}
	return list
}

// begin starts copying, and ends the attachments when all streams have ended.
func (s *streams) begin() {
	pumps := s.pumps()
	for _, p := range pumps {
		go p.run()
	}
	go func() {
		for _, p := range pumps {
			<-p.done
		}
		for _, p := range pumps {
			if !p.ended {
				return // held
			}
		}
		s.finish()
	}()
}

// to returns the pump's deliver function for a stream: first the log, then whoever is attached.
func (s *streams) to(stream string, of func(*attachment) *outlet) func([]byte, time.Time, <-chan struct{}) {
	return func(p []byte, t time.Time, hurry <-chan struct{}) {
		if s.log != nil {
			if err := s.log.Write(stream, p, t); err != nil {
				s.logFault(err)
			}
		}
		for _, o := range s.outlets(of) {
			o.put(p, hurry)
		}
	}
}

func (s *streams) outlets(of func(*attachment) *outlet) []*outlet {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.attachments) == 0 {
		return nil
	}
	list := make([]*outlet, 0, len(s.attachments))
	for a := range s.attachments {
		if o := of(a); o != nil {
			list = append(list, o)
		}
	}
	return list
}

// logFault reports the first of what may be many: a full disk must not stop a container.
func (s *streams) logFault(err error) {
	s.mu.Lock()
	first := !s.faulty
	s.faulty = true
	s.mu.Unlock()
	if first {
		s.fault(err)
	}
}

// attach joins a client; the files stay the caller's.
func (s *streams) attach(want wire.Attachment, files []*os.File) error {
	in, out, errOut, err := pick(want, files)
	if err != nil {
		return err
	}
	if in != nil && s.stdin == nil {
		return fmt.Errorf("attach: the process has no standard input: start it with one: %w", errdefs.ErrFailedPrecondition)
	}
	a := &attachment{key: want.Key}
	var opened []*os.File
	own := func(f *os.File, flags int) *os.File {
		if f == nil || err != nil {
			return nil
		}
		var mine *os.File
		mine, err = private(f, flags)
		opened = append(opened, mine)
		return mine
	}
	inFile, outFile, errFile := own(in, unix.O_RDONLY), own(out, unix.O_WRONLY), own(errOut, unix.O_WRONLY)
	if err != nil {
		for _, f := range opened {
			if f != nil {
				f.Close()
			}
		}
		return fmt.Errorf("attach: %w", err)
	}
	if inFile != nil {
		a.in = newInlet(inFile, s.stdin, s.buffers, nil)
	}
	if outFile != nil {
		a.stdout = newOutlet(outFile, nil)
	}
	if errFile != nil {
		a.stderr = newOutlet(errFile, nil)
	}
	s.enter(a)
	return nil
}

// enter starts an attachment's goroutines; with the output over already, it only closes what it has.
func (s *streams) enter(a *attachment) {
	gone := func() { s.leave(a) }
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attachments == nil {
		s.attachments = map[*attachment]struct{}{}
	}
	s.attachments[a] = struct{}{}
	for _, o := range []*outlet{a.stdout, a.stderr} {
		if o == nil {
			continue
		}
		a.open++
		if s.over {
			o.end()
		}
		go o.run(gone)
	}
	if a.in != nil {
		a.open++
		go a.in.run(gone)
		if s.over {
			a.in.cut()
		}
	}
}

func (s *streams) leave(a *attachment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.open--; a.open == 0 {
		delete(s.attachments, a)
	}
}

// pick assigns the descriptors of an attachment, which come in order.
func pick(want wire.Attachment, files []*os.File) (in, out, errOut *os.File, err error) {
	rest := files
	for _, s := range []struct {
		wanted bool
		to     **os.File
	}{{want.Stdin, &in}, {want.Stdout, &out}, {want.Stderr, &errOut}} {
		if !s.wanted {
			continue
		}
		if len(rest) == 0 {
			return nil, nil, nil, fmt.Errorf("attach: %d descriptors came, more streams are named: %w", len(files), errdefs.ErrInvalidArgument)
		}
		*s.to, rest = rest[0], rest[1:]
	}
	if len(rest) > 0 {
		return nil, nil, nil, fmt.Errorf("attach: %d descriptors came, fewer streams are named: %w", len(files), errdefs.ErrInvalidArgument)
	}
	return in, out, errOut, nil
}

// drain delivers all that the process has written, to the log and into the attachments' buffers.
func (s *streams) drain() {
	for _, p := range s.pumps() {
		p.drain()
	}
	if s.stdin != nil {
		s.stdin.close(false)
	}
	if s.log != nil {
		if err := s.log.Flush(); err != nil {
			s.logFault(err)
		}
	}
}

// finish ends the attachments after their last bytes, and the log.
func (s *streams) finish() {
	s.mu.Lock()
	s.over = true
	for a := range s.attachments {
		for _, o := range []*outlet{a.stdout, a.stderr} {
			if o != nil {
				o.end()
			}
		}
		if a.in != nil {
			a.in.cut()
		}
	}
	s.mu.Unlock()
	if s.stdin != nil {
		s.stdin.close(false)
	}
	if s.logger != nil {
		endLogger(s.logger)
	}
	if s.log != nil {
		if err := s.log.Close(); err != nil {
			s.logFault(err)
		}
	}
}

// abandon closes everything of a process that did not start.
func (s *streams) abandon() {
	for _, p := range s.pumps() {
		p.file.Close()
	}
	s.finish()
}

// held are duplicates of the descriptors that a daemon keeps so that they outlive the supervisor, by name. The caller
// closes them.
func (s *streams) held() (names []string, files []*os.File) {
	add := func(name string, f *os.File) {
		if f == nil {
			return
		}
		if dup, err := fdpass.Duplicate(f); err == nil { // closed: the stream has ended, there is nothing to hold
			names, files = append(names, name), append(files, dup)
		}
	}
	if s.pty != nil {
		add("pty", s.pty)
		return names, files
	}
	if s.stdin != nil && !s.stdin.isClosed() {
		add("stdin", s.stdin.file)
	}
	if s.stdout != nil {
		add(stdoutName, s.stdout.file)
	}
	if s.stderr != nil {
		add(stderrName, s.stderr.file)
	}
	return names, files
}

// resize sets the terminal's size, in characters.
func (s *streams) resize(width, height uint16) error {
	if s.pty == nil {
		return fmt.Errorf("resize: the process has no terminal: %w", errdefs.ErrFailedPrecondition)
	}
	raw, err := s.pty.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		inner = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width})
	})
	return errors.Join(err, inner)
}

package supervisor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

// A binary logger is a client of a process's output that the supervisor starts itself: an attachment as others, but one
// that may take its time. While it takes nothing the process waits, once the buffer is full; when it ends, the process goes
// on without it. An upgrade keeps it. Who takes over from a dead supervisor starts another one, for the pipes of the first
// have ended with their writer.

const (
	// loggerKey is no key that a client can give.
	loggerKey = "\x00logger"
	// loggerReady is how long a logger may take to say that it is ready.
	loggerReady = 10 * time.Second
	// loggerGrace is how long it may go on after the end of the output; containerd's.
	loggerGrace = 12 * time.Second
	// loggerPatience is how long it may take no byte.
	loggerPatience = 365 * 24 * time.Hour
)

// startLogger starts the binary logger of a process, when it has one, waits until it is ready, and joins it to the streams.
func (s *Supervisor) startLogger(p *process) error {
	l := p.stdio.Log.Logger
	if l == nil {
		return nil
	}
	a, running, err := launchLogger(p.key, l, p.stdio.Terminal)
	if err != nil {
		return fmt.Errorf("%s: its logger %s: %w", name(p.key), l.Path, err)
	}
	p.io.logger = running
	p.io.enter(a)
	return nil
}

func launchLogger(key wire.Process, l *wire.Logger, terminal bool) (*attachment, *os.Process, error) {
	var theirs, ours []*os.File
	done := func(all []*os.File) {
		for _, f := range all {
			f.Close()
		}
	}
	defer func() { done(theirs) }()
	for range 2 {
		r, w, err := os.Pipe()
		if err != nil {
			done(ours)
			return nil, nil, err
		}
		theirs, ours = append(theirs, r), append(ours, w)
	}
	ready, say, err := os.Pipe()
	if err != nil {
		done(ours)
		return nil, nil, err
	}
	defer ready.Close()
	theirs = append(theirs, say)
	cmd := exec.Command(l.Path, l.Args...)
	cmd.ExtraFiles = theirs // descriptors 3, 4 and 5
	cmd.Env = []string{"CONTAINER_ID=" + key.ID, "CONTAINER_NAMESPACE=" + key.Namespace}
	if err := cmd.Start(); err != nil {
		done(ours)
		return nil, nil, fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
	}
	say.Close()
	if err := awaitReady(ready); err != nil {
		done(ours)
		return nil, nil, errors.Join(err, cmd.Process.Kill())
	}
	a := &attachment{key: loggerKey, stdout: newOutlet(ours[0], nil)}
	a.stdout.patience = loggerPatience
	if terminal {
		ours[1].Close() // it has one stream, and this one ends at once
		return a, cmd.Process, nil
	}
	a.stderr = newOutlet(ours[1], nil)
	a.stderr.patience = loggerPatience
	return a, cmd.Process, nil
}

// awaitReady waits for a byte or the end of the pipe. A logger that dies closes it too: then its pipes tell.
func awaitReady(ready *os.File) error {
	if err := ready.SetReadDeadline(time.Now().Add(loggerReady)); err != nil {
		return err
	}
	var b [1]byte
	if _, err := ready.Read(b[:]); errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("it has not said that it is ready in %s, by closing its descriptor 5: %w", loggerReady, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// endLogger kills a logger that does not end by itself when the output has. Its zombie is an orphan's.
func endLogger(p *os.Process) {
	time.AfterFunc(loggerGrace, func() {
		_ = p.Kill() // it has ended, mostly
		_ = p.Release()
	})
}

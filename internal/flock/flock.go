// Package flock locks a file between processes: one holder at a time, and the kernel frees the lock when the holder
// dies. Locks between goroutines of one process are internal/keylock's or sync's business.
package flock

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Lock is a held lock. The file keeps the holder's PID as text, for people and for the message of TryLock, and stays
// when the lock is given back: removing it would let two holders in.
type Lock struct{ f *os.File }

// Acquire waits without limit for the lock on path, creating the file when needed.
func Acquire(path string) (*Lock, error) { return acquire(path, unix.LOCK_EX) }

// TryLock takes the lock on path, creating the file when needed, or answers ErrUnavailable with the holder's PID.
func TryLock(path string) (*Lock, error) { return acquire(path, unix.LOCK_EX|unix.LOCK_NB) }

func acquire(path string, how int) (*Lock, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if err := lock(f, how); err != nil {
			defer f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("lock %s: held by %s: %w", path, holder(f), errdefs.ErrUnavailable)
			}
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !current(f, path) { // replaced while we waited: the lock is on a file nobody will look at again
			f.Close()
			continue
		}
		if err := sign(f); err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		return &Lock{f}, nil
	}
}

func lock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}

func current(f *os.File, path string) bool {
	mine, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(mine, named)
}

func sign(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// holder names who holds the lock, as far as the file tells: between the lock and its signature it is empty.
func holder(f *os.File) string {
	buf := make([]byte, 32)
	n, _ := f.ReadAt(buf, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	if err != nil {
		return "another process"
	}
	return "process " + strconv.Itoa(pid)
}

// Unlock gives the lock back. A second call is an error of class os.ErrClosed.
func (l *Lock) Unlock() error {
	if err := l.f.Close(); err != nil { // the last descriptor: the kernel frees the lock
		return fmt.Errorf("unlock: %w", err)
	}
	return nil
}

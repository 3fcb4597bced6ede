package logs

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// pollEvery is how often a follower looks by itself: where inotify is to be had in case it misses something (a network
// file system tells nothing), and where it is not, because all of the user's instances are taken.
const (
	pollEvery     = 2 * time.Second
	pollEveryElse = 200 * time.Millisecond
)

// watcher waits for changes to a log's files, by inotify(7) on their directory: files are renamed and made there.
type watcher struct {
	inotify *os.File // nil: polling only
	prefix  string   // of the names of the log's files
	buf     []byte
}

// watch begins before the first look at the files, so that no change falls between.
func watch(path string) (*watcher, error) {
	dir := filepath.Dir(path)
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	w := &watcher{prefix: filepath.Base(path), buf: make([]byte, 4096)}
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		return w, nil
	}
	const changes = syscall.IN_MODIFY | syscall.IN_CREATE | syscall.IN_MOVED_TO | syscall.IN_MOVED_FROM | syscall.IN_DELETE
	if _, err := syscall.InotifyAddWatch(fd, dir, changes|syscall.IN_ONLYDIR); err != nil {
		syscall.Close(fd)
		return w, nil
	}
	w.inotify = os.NewFile(uintptr(fd), "inotify")
	return w, nil
}

func (w *watcher) close() {
	if w.inotify != nil {
		w.inotify.Close()
	}
}

// wait returns when something has changed, may have, or done is closed; an error only when ctx has ended.
func (w *watcher) wait(ctx context.Context, done <-chan struct{}) error {
	if w.inotify == nil {
		return sleep(ctx, done, pollEveryElse)
	}
	if err := w.inotify.SetReadDeadline(time.Now().Add(pollEvery)); err != nil {
		return sleep(ctx, done, pollEveryElse)
	}
	returned, woken := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(woken)
		select {
		case <-ctx.Done():
		case <-done:
		case <-returned:
			return
		}
		_ = w.inotify.SetReadDeadline(time.Unix(1, 0)) // wakes the reader below
	}()
	defer func() { close(returned); <-woken }()
	for {
		n, err := w.inotify.Read(w.buf)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return sleep(ctx, done, pollEveryElse)
		}
		if err != nil || w.concerns(w.buf[:n]) {
			return context.Cause(ctx)
		}
	}
}

// concerns tells whether one of the events is about the log's files, or about lost events.
func (w *watcher) concerns(events []byte) bool {
	for len(events) >= syscall.SizeofInotifyEvent {
		e := (*syscall.InotifyEvent)(unsafe.Pointer(&events[0]))
		size := syscall.SizeofInotifyEvent + int(e.Len)
		name, _, _ := bytes.Cut(events[syscall.SizeofInotifyEvent:size], []byte{0})
		if e.Mask&syscall.IN_Q_OVERFLOW != 0 || strings.HasPrefix(string(name), w.prefix) {
			return true
		}
		events = events[size:]
	}
	return false
}

func sleep(ctx context.Context, done <-chan struct{}, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-done:
	case <-t.C:
	}
	return nil
}

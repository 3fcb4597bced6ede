package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/fdpass"
	"github.com/minirt/mini/runtime/supervisor/link"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// live are the processes of a group that run, as far as is known here.
func (s *Sandboxes) live(group string) []*entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*entry
	for _, e := range s.entries {
		if e.group == group && !e.ended && e.known.PID != 0 {
			list = append(list, e)
		}
	}
	return list
}

// adoptions is how many processes are handed over at the same time.
const adoptions = 8

// handOver gives a supervisor what it does not have: after its predecessor's death, all that runs. First the
// containers, then what was executed in them.
func (g *group) handOver(ctx context.Context, c *link.Caller) error {
	has, err := listed(ctx, c)
	if err != nil {
		return err
	}
	var containers, execs []*entry
	for _, e := range g.s.live(g.name) {
		switch known, ok := has[e.key]; {
		case ok && known.Exit != nil: // while nobody listened
			g.s.exited(wire.Exited{Process: e.key, Exit: *known.Exit})
		case ok:
			if !g.s.holds(e) {
				g.s.hold(ctx, c, e)
			}
		case e.key.Exec == "":
			containers = append(containers, e)
		default:
			execs = append(execs, e)
		}
	}
	return errors.Join(g.adoptAll(ctx, c, containers), g.adoptAll(ctx, c, execs))
}

func (g *group) adoptAll(ctx context.Context, c *link.Caller, entries []*entry) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	slots := make(chan struct{}, adoptions)
	for _, e := range entries {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := g.adopt(ctx, c, e); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// adopt hands one process over, with the descriptors that are held of it.
func (g *group) adopt(ctx context.Context, c *link.Caller, e *entry) error {
	s := g.s
	s.mu.Lock()
	a := wire.Adopt{Entry: e.known}
	e.child = parentOf(e.known.PID) == os.Getpid()
	a.Child = e.child
	var files []*os.File
	for name, f := range e.held {
		dup, err := fdpass.Duplicate(f)
		if err != nil {
			continue // the supervisor opens what does not come
		}
		a.FDs, files = append(a.FDs, name), append(files, dup)
	}
	s.mu.Unlock()
	defer fdpass.CloseAll(files)
	if a.Child {
		g.reap(e)
	}
	var r wire.AdoptResult
	_, err := c.Call(ctx, wire.MethodAdopt, a, files, &r)
	if err != nil {
		return fmt.Errorf("process %s %s (%d): %w", e.key.ID, e.key.Exec, e.known.PID, err)
	}
	if r.Exit != nil {
		s.exited(wire.Exited{Process: e.key, Exit: *r.Exit})
	}
	return nil
}

// reap waits for a process that has become this process's child, and tells the supervisor how it ended.
func (g *group) reap(e *entry) {
	s := g.s
	s.mu.Lock()
	held := e.held["pidfd"]
	var pidfd *os.File
	var err error
	if held != nil {
		pidfd, err = fdpass.Duplicate(held)
	}
	s.mu.Unlock()
	if held == nil || err != nil {
		pidfd, err = openPidfd(e.known.PID)
	}
	if err != nil {
		s.Log.Warn("a child cannot be waited for", "pid", e.known.PID, "error", err)
		return
	}
	// Close ends the wait: the next daemon is not the parent, and the pidfd tells it instead.
	stop := context.AfterFunc(s.ctx, func() { pidfd.Close() })
	s.work.Go(func() {
		defer stop()
		defer pidfd.Close()
		status, err := awaitChild(pidfd, e.known.PID)
		if err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(s.ctx, s.Patience)
		defer cancel()
		report := wire.ReportExit{Process: e.key, PID: e.known.PID, Status: status}
		if _, err := g.call(ctx, wire.MethodReportExit, report, nil, nil); err != nil {
			s.Log.Debug("report an exit", "pid", e.known.PID, "error", err)
		}
	})
}

// awaitChild waits in the runtime's poller until the child has exited, and reaps it.
func awaitChild(pidfd *os.File, pid int) (int, error) {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return 0, err
	}
	var status unix.WaitStatus
	var waitErr error
	err = raw.Read(func(uintptr) bool {
		got, err := unix.Wait4(pid, &status, unix.WNOHANG, nil)
		waitErr = err
		return err != nil && !errors.Is(err, unix.EINTR) || got == pid
	})
	return int(status), errors.Join(err, waitErr)
}

func openPidfd(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// parentOf is the parent of a process, 0 when there is no such process (proc_pid_stat(5), field 4).
func parentOf(pid int) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	line := string(data)
	fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return 0
	}
	return parent
}

// listed are all entries of a supervisor, by name.
func listed(ctx context.Context, c *link.Caller) (map[wire.Process]wire.Entry, error) {
	return listedBy(ctx, c, wire.ListParams{})
}

func listedBy(ctx context.Context, c *link.Caller, from wire.ListParams) (map[wire.Process]wire.Entry, error) {
	all := map[wire.Process]wire.Entry{}
	for {
		var page wire.ListResult
		if _, err := c.Call(ctx, wire.MethodList, from, nil, &page); err != nil {
			return nil, err
		}
		for _, e := range page.Entries {
			all[e.Process] = e
		}
		if from = (wire.ListParams{After: page.Next}); page.Next == "" {
			return all, nil
		}
	}
}

// holds says whether descriptors of a process are held.
func (s *Sandboxes) holds(e *entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.held["pidfd"] != nil
}

// List returns what the connected supervisors know.
func (s *Sandboxes) List(ctx context.Context) ([]wire.Entry, error) {
	s.mu.Lock()
	var groups []*group
	for _, g := range s.groups {
		groups = append(groups, g)
	}
	s.mu.Unlock()
	var all []wire.Entry
	var errs []error
	for _, g := range groups {
		c := g.current()
		if c == nil {
			continue
		}
		entries, err := listed(ctx, c)
		errs = append(errs, err)
		for _, e := range entries {
			all = append(all, e)
		}
	}
	return all, errors.Join(errs...)
}

package engine

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/oci/spec"
)

// What becomes of a container that makes a system call which its filter forbids.
const (
	ForbiddenLog  = "log"  // it is told
	ForbiddenStop = "stop" // and the container is stopped
)

// forbiddenQuiet is how long a container goes on after its last forbidden call before it is stopped: what it tries is told
// together.
const forbiddenQuiet = 5 * time.Second

// forbidden are the calls of one container that were refused.
type forbidden struct {
	mu    sync.Mutex
	calls map[string]int
	stop  *time.Timer
}

// ForbiddenSocket is where the filters of containers are handed over: see runtime/seccomp.
func (e *Engine) ForbiddenSocket() string { return filepath.Join(e.State, "seccomp.sock") }

// askAbout has the daemon asked about what the filter of a container forbids, when its client wants that.
func (e *Engine) askAbout(c Container, s *specs.Spec) {
	if c.Forbidden != "" && s.Linux != nil && s.Linux.Seccomp != nil {
		spec.Notify(s.Linux.Seccomp, e.ForbiddenSocket(), key{c.Namespace, c.ID}.String())
	}
}

// HandleForbidden takes the news that a container made a system call which its filter forbids. container is what askAbout
// has given the filter for metadata.
func (e *Engine) HandleForbidden(container, call string, pid int) {
	ns, id, _ := strings.Cut(container, "/")
	l := e.exactly(ns, id)
	if l == nil {
		return
	}
	e.Log.Warn("a container made a system call that its profile forbids", "id", id, "call", call, "pid", pid)
	e.publish(l, "seccomp", map[string]string{"call": call, "pid": fmt.Sprint(pid)})
	f := &l.forbidden
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls == nil {
		f.calls = map[string]int{}
	}
	f.calls[call]++
	if l.record().Forbidden != ForbiddenStop {
		return
	}
	if f.stop == nil {
		f.stop = time.AfterFunc(forbiddenQuiet, func() { e.stopForbidden(l) })
	} else {
		f.stop.Reset(forbiddenQuiet)
	}
}

// String is what was refused and how often: mount (2x), unshare (1x).
func (f *forbidden) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var words []string
	for _, name := range slices.Sorted(maps.Keys(f.calls)) {
		words = append(words, fmt.Sprintf("%s (%dx)", name, f.calls[name]))
	}
	return strings.Join(words, ", ")
}

// stopForbidden stops a container for what it has tried, and keeps that with its record.
func (e *Engine) stopForbidden(l *live) {
	if s := l.state(); e.ctx.Err() != nil || s != Running && s != Paused {
		return
	}
	ctx, cancel := context.WithTimeout(e.ctx, killTimeout)
	defer cancel()
	calls := l.forbidden.String()
	if err := e.note(l, func(c *Container) { c.ForbiddenCalls = calls }); err != nil {
		return // removed meanwhile
	}
	if err := e.Stop(ctx, l.key.ns, l.key.id, StopOptions{}); err != nil {
		e.Log.Warn("stop a container that made forbidden system calls", "id", l.key.id, "error", err)
	}
}

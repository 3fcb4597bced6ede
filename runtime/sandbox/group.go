package sandbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/fdpass"
	"github.com/minirt/mini/runtime/supervisor/link"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// group is the set of containers that share a supervisor, and the connection to it.
type group struct {
	s    *Sandboxes
	name string
	dir  string
	turn chan struct{} // has a token while somebody connects

	mu   sync.Mutex
	link *link.Caller // nil while there is none
	hi   wire.HelloResult
	gone bool // retired: its supervisor was told to end
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,80}$`)

// dirName is the directory of a group: its name where that can be one.
func dirName(group string) string {
	if plainName.MatchString(group) {
		return group
	}
	sum := sha256.Sum256([]byte(group))
	return "_" + hex.EncodeToString(sum[:16])
}

// groupFor returns the group of a container with this wish.
func (s *Sandboxes) groupFor(wish string) *group { return s.groupNamed(s.groupName(wish)) }

func (s *Sandboxes) groupNamed(name string) *group {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.group(name)
}

// group makes a group on demand. The lock is held.
func (s *Sandboxes) group(name string) *group {
	g := s.groups[name]
	if g == nil {
		g = &group{s: s, name: name, dir: filepath.Join(s.root, dirName(name)), turn: make(chan struct{}, 1)}
		s.groups[name] = g
	}
	return g
}

// call asks the group's supervisor, which is started when there is none. What can be asked twice is asked again when
// the supervisor died before its answer, and another one has taken its place.
func (g *group) call(ctx context.Context, method string, in any, files []*os.File, out any) ([]*os.File, error) {
	for again := repeatable(method); ; again = false {
		c, err := g.connected(ctx)
		if err != nil {
			return nil, err
		}
		got, err := c.Call(ctx, method, in, files, out)
		if err == nil || !again || !isDone(c.Done()) || ctx.Err() != nil {
			return got, err
		}
	}
}

// repeatable says whether a method may be carried out twice. A start may not: its first half would be in the way.
func repeatable(method string) bool {
	switch method {
	case wire.MethodStart, wire.MethodExec, wire.MethodCheckpoint, wire.MethodUpgrade, wire.MethodAttach, wire.MethodShutdown:
		return false
	}
	return true
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// current is the connection, if it lives.
func (g *group) current() *link.Caller {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.link != nil && !isDone(g.link.Done()) {
		return g.link
	}
	return nil
}

// connected returns the connection; it is made when there is none, with a supervisor when none lives, and with what
// the daemon holds of its processes handed over.
func (g *group) connected(ctx context.Context) (*link.Caller, error) {
	if c := g.current(); c != nil {
		return c, nil
	}
	select {
	case g.turn <- struct{}{}:
		defer func() { <-g.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("supervisor %s: still connecting: %w", g.name, ctx.Err())
	}
	if c := g.current(); c != nil {
		return c, nil
	}
	if g.s.ctx.Err() != nil {
		return nil, fmt.Errorf("supervisor %s: the daemon is stopping: %w", g.name, errdefs.ErrUnavailable)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.s.Patience)
	defer cancel()
	c, err := g.dialOrSpawn(ctx)
	if err != nil {
		return nil, err
	}
	if err := g.handOver(ctx, c); err != nil {
		g.s.Log.Error("some processes could not be handed to the new supervisor", "group", g.name, "error", err)
	}
	g.mu.Lock()
	g.link = c
	g.mu.Unlock()
	g.s.work.Go(func() { g.watch(c) })
	return c, nil
}

// dialOrSpawn connects to the group's supervisor, and starts one when none answers. One that was given up earlier because
// it was slow to begin has the lock, and is waited for.
func (g *group) dialOrSpawn(ctx context.Context) (*link.Caller, error) {
	c, err := g.dial(ctx)
	if !errdefs.IsUnavailable(err) {
		return c, err
	}
	spawned := g.spawn(ctx)
	if spawned != nil && !locked(filepath.Join(g.dir, "lock")) {
		return nil, spawned
	}
	for tick := time.NewTicker(slowTick); ; {
		c, err := g.dial(ctx)
		if spawned == nil || !errdefs.IsUnavailable(err) {
			tick.Stop()
			return c, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return nil, spawned
		}
	}
}

// slowTick is how often a supervisor is asked that is slow to begin.
const slowTick = 20 * time.Millisecond

// dial connects to a supervisor that lives, as the one who gets its events.
func (g *group) dial(ctx context.Context) (*link.Caller, error) {
	conn, err := fdpass.Dial(ctx, filepath.Join(g.dir, "sock"))
	if err != nil {
		return nil, err
	}
	c := link.NewCaller(conn, func(method string, body json.RawMessage) { g.s.event(method, body) })
	var hi wire.HelloResult
	_, err = c.Call(ctx, wire.MethodHello, wire.Hello{Version: wire.Version, Daemon: g.s.Name, Primary: true}, nil, &hi)
	if err != nil {
		c.Close()
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, fmt.Errorf("supervisor %s (%s): it lives and does not answer: see its log beside the socket: %w", g.name, g.dir, err)
		}
		return nil, err
	}
	g.mu.Lock()
	g.hi = hi
	g.mu.Unlock()
	return c, nil
}

// watch waits for the connection's end, and then sees to it that the group's processes have a supervisor again.
func (g *group) watch(c *link.Caller) {
	select {
	case <-c.Done():
	case <-g.s.ctx.Done():
		c.Close() // one that was made while Close went through those that there were
	}
	if g.s.ctx.Err() != nil || g.isGone() {
		return
	}
	n := len(g.s.live(g.name))
	g.s.Log.Warn("a supervisor is gone", "group", g.name, "pid", g.hello().PID, "processes", n)
	if n == 0 {
		return // the next start makes another one
	}
	g.s.work.Go(func() { g.s.handlers.Lost(g.name, n) })
	ctx, cancel := context.WithTimeout(g.s.ctx, 2*g.s.Patience)
	defer cancel()
	if _, err := g.connected(ctx); err != nil {
		g.s.Log.Error("no new supervisor takes over", "group", g.name, "error", err)
	}
}

func (g *group) hello() wire.HelloResult {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.hi
}

func (g *group) isGone() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.gone
}

func (g *group) disconnect() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.link != nil {
		g.link.Close()
	}
}

// retire ends the supervisor of a group that has no containers, and forgets the group.
func (s *Sandboxes) retire(ctx context.Context, g *group) {
	g.mu.Lock()
	g.gone = true
	g.mu.Unlock()
	c := g.current()
	if c != nil {
		if _, err := c.Call(ctx, wire.MethodShutdown, nil, nil, nil); err != nil && !isDone(c.Done()) {
			s.Log.Debug("a supervisor stays", "group", g.name, "error", err)
			g.mu.Lock()
			g.gone = false
			g.mu.Unlock()
			return
		}
		select {
		case <-c.Done():
		case <-ctx.Done():
		}
	}
	s.mu.Lock()
	delete(s.groups, g.name)
	s.mu.Unlock()
	if err := os.RemoveAll(g.dir); err != nil {
		s.Log.Warn("remove a supervisor's directory", "dir", g.dir, "error", err)
	}
}

// ShutdownIdle ends the supervisors that have no containers.
func (s *Sandboxes) ShutdownIdle(ctx context.Context) {
	s.mu.Lock()
	used := map[string]bool{}
	for _, e := range s.entries {
		used[e.group] = true
	}
	var idle []*group
	for _, g := range s.groups {
		if !used[g.name] {
			idle = append(idle, g)
		}
	}
	s.mu.Unlock()
	for _, g := range idle {
		s.retire(ctx, g)
	}
}

// SupervisorInfo describes one supervisor.
type SupervisorInfo struct {
	Group      string `json:"group"`
	PID        int    `json:"pid"`
	Build      string `json:"build"`
	Generation int    `json:"generation"`
	Processes  int    `json:"processes"` // that run
	Connected  bool   `json:"connected"`
}

// Info describes the supervisors that this daemon knows.
func (s *Sandboxes) Info() []SupervisorInfo {
	s.mu.Lock()
	groups := make([]*group, 0, len(s.groups))
	for _, g := range s.groups {
		groups = append(groups, g)
	}
	s.mu.Unlock()
	list := make([]SupervisorInfo, 0, len(groups))
	for _, g := range groups {
		hi := g.hello()
		list = append(list, SupervisorInfo{
			Group: g.name, PID: hi.PID, Build: hi.Build, Generation: hi.Generation,
			Processes: len(s.live(g.name)), Connected: g.current() != nil,
		})
	}
	return list
}

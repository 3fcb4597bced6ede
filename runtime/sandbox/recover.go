package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/runtime/supervisor/link"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// Recover finds out what has become of the containers that the daemon has records of, and of the processes executed in
// them. It connects to the supervisors that live, holds their processes' descriptors, and gives what runs without one
// to a new one. Supervisors are asked in parallel, and none for longer than Config.Patience: those of one that hangs
// come back with Err set. Call it once, before the first Start.
func (s *Sandboxes) Recover(ctx context.Context, known []Known) ([]Recovered, error) {
	entries, hung, err := s.survey(ctx)
	if err != nil {
		return nil, err
	}
	var all []Recovered
	named := map[wire.Process]bool{}
	for _, k := range known {
		named[k.Process] = true
		all = append(all, s.weigh(k, entries, hung)...)
	}
	// What no record names: a container in the way of its removal, or a process of a container that has one.
	for key, e := range entries {
		container := key
		container.Exec = ""
		switch {
		case named[key]:
		case key.Exec != "" && named[container]:
			action, exit := decide("running", found{entry: &e})
			all = append(all, recovered(e, action, exit))
		case key.Exec == "":
			all = append(all, recovered(e, ActionRemove, nil))
		}
	}
	s.adoptRecovered(ctx, all)
	return all, nil
}

func recovered(e wire.Entry, a Action, exit *wire.Exit) Recovered {
	return Recovered{
		Process: e.Process, Action: a, State: e.State, Dir: e.Dir, PID: e.PID, StartTime: e.StartTime,
		CgroupPaths: e.CgroupPaths, Stdio: e.Stdio, Exit: exit,
	}
}

// survey asks every supervisor that lives what it has. hung are the groups whose supervisor lives and does not answer.
func (s *Sandboxes) survey(ctx context.Context) (map[wire.Process]wire.Entry, map[string]error, error) {
	names, err := s.livingGroups()
	if err != nil {
		return nil, nil, err
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	entries, hung := map[wire.Process]wire.Entry{}, map[string]error{}
	for _, name := range names {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, s.Patience)
			defer cancel()
			has, err := s.ask(ctx, name)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				hung[name] = err
				s.Log.Error("a supervisor does not answer", "group", name, "error", err)
			}
			for key, e := range has {
				entries[key] = e
			}
		})
	}
	wg.Wait()
	return entries, hung, nil
}

// livingGroups are those whose lock is held: liveness is a lock. The directories of others are left for their next
// supervisor.
func (s *Sandboxes) livingGroups() ([]string, error) {
	dirs, err := os.ReadDir(s.root)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, d := range dirs {
		dir := filepath.Join(s.root, d.Name())
		if !locked(filepath.Join(dir, "lock")) {
			continue
		}
		name, err := os.ReadFile(filepath.Join(dir, "group"))
		if err != nil {
			s.Log.Warn("a supervisor without a group", "dir", dir, "error", err)
			continue
		}
		names = append(names, string(name))
	}
	return names, nil
}

func locked(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// ask connects to a group's supervisor and enters what it has.
func (s *Sandboxes) ask(ctx context.Context, name string) (map[wire.Process]wire.Entry, error) {
	c, err := s.groupNamed(name).connected(ctx)
	if err != nil {
		return nil, err
	}
	// What the last daemon has asked for may be under way.
	has, err := listedBy(ctx, c, wire.ListParams{Settled: true})
	if err != nil {
		return nil, err
	}
	for key, known := range has {
		e := &entry{key: key, group: name, dir: known.Dir, known: known, held: map[string]*os.File{}, ended: known.State == "exited"}
		s.mu.Lock()
		s.entries[key] = e
		s.mu.Unlock()
		if !e.ended {
			s.hold(ctx, c, e)
		}
	}
	return has, nil
}

// hold gets duplicates of a process's descriptors. Without them it runs on all the same, until its supervisor dies.
func (s *Sandboxes) hold(ctx context.Context, c *link.Caller, e *entry) {
	var r wire.HoldResult
	files, err := c.Call(ctx, wire.MethodHold, e.key, nil, &r)
	if err != nil {
		s.Log.Warn("the descriptors of a process are not held", "container", e.key.ID, "exec", e.key.Exec, "error", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.keep(r.FDs, files)
}

// weigh decides about one known container, and about the processes executed in it when its supervisor is gone.
func (s *Sandboxes) weigh(k Known, entries map[wire.Process]wire.Entry, hung map[string]error) []Recovered {
	name := s.groupName(k.Group)
	if e, ok := entries[k.Process]; ok {
		action, exit := decide(k.State, found{entry: &e})
		return []Recovered{recovered(e, action, exit)}
	}
	known, exit := onDisk(k)
	if err := hung[name]; err != nil {
		// It lives and may answer later. What is not known must not be decided.
		s.enter(name, known)
		r := recovered(known, ActionKeep, nil)
		r.Err = fmt.Errorf("supervisor %s: %w", name, err)
		return []Recovered{r}
	}
	action, exit := decide(k.State, found{exit: exit, alive: running(known)})
	if action != ActionAdopt {
		known.PID = 0
	}
	s.enter(name, known)
	list := []Recovered{recovered(known, action, exit)}
	if action == ActionAdopt {
		for _, x := range execsOnDisk(known) {
			s.enter(name, x)
			list = append(list, recovered(x, ActionAdopt, nil))
		}
	}
	return list
}

// enter makes a process known, so that it can be handed over, or its leftovers deleted.
func (s *Sandboxes) enter(group string, known wire.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries[known.Process] = &entry{key: known.Process, group: group, dir: known.Dir, known: known, held: map[string]*os.File{}}
}

// diskRecord is the part of a supervisor's own record (supervisor.json in a process's directory) that matters here.
type diskRecord struct {
	Start     *wire.Start       `json:"start"`
	Exec      *wire.Exec        `json:"exec"`
	Cgroups   map[string]string `json:"cgroups"`
	PID       int               `json:"pid"`
	StartTime uint64            `json:"start_time"`
}

// onDisk is what the last supervisor has written of a container: more recent than the daemon's record.
func onDisk(k Known) (wire.Entry, *wire.Exit) {
	e := wire.Entry{Process: k.Process, Dir: k.Dir, PID: k.PID, StartTime: k.StartTime, State: "running"}
	var r diskRecord
	if readJSON(filepath.Join(k.Dir, "supervisor.json"), &r) == nil && r.Start != nil {
		e.PID, e.StartTime, e.CgroupPaths, e.Stdio = r.PID, r.StartTime, r.Cgroups, r.Start.Stdio
	}
	var exit wire.Exit
	// The exit file of a run before this one names another process.
	if readJSON(filepath.Join(k.Dir, "exit.json"), &exit) == nil && (e.PID == 0 || exit.PID == e.PID) {
		return e, &exit
	}
	return e, nil
}

// execsOnDisk are the processes executed in a container that still run.
func execsOnDisk(container wire.Entry) []wire.Entry {
	paths, err := filepath.Glob(filepath.Join(container.Dir, "exec", "*", "supervisor.json"))
	if err != nil {
		return nil // a pattern that is not one: the directory has odd characters
	}
	var list []wire.Entry
	for _, path := range paths {
		var r diskRecord
		if readJSON(path, &r) != nil || r.Exec == nil {
			continue
		}
		e := wire.Entry{Process: r.Exec.Process, Dir: r.Exec.Dir, PID: r.PID, StartTime: r.StartTime, Stdio: r.Exec.Stdio, State: "running"}
		if running(e) {
			list = append(list, e)
		}
	}
	return list
}

func readJSON(path string, to any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, to)
}

// running says whether the process of an entry runs: its number alone may be another's by now.
func running(e wire.Entry) bool {
	if e.PID == 0 {
		return false
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", e.PID))
	if err != nil {
		return false
	}
	line := string(data)
	fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(fields) < 20 || fields[0] == "Z" {
		return false
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	return err == nil && start == e.StartTime
}

// adoptRecovered gives what runs without a supervisor to new ones, a group at a time in parallel. A failure is in the
// list.
func (s *Sandboxes) adoptRecovered(ctx context.Context, list []Recovered) {
	byGroup := map[string][]*Recovered{}
	for i := range list {
		if r := &list[i]; r.Action == ActionAdopt {
			s.mu.Lock()
			name := s.entries[r.Process].group
			s.mu.Unlock()
			byGroup[name] = append(byGroup[name], r)
		}
	}
	var wg sync.WaitGroup
	for name, members := range byGroup {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, 2*s.Patience)
			defer cancel()
			err := s.adoptGroup(ctx, name, members)
			for _, r := range members {
				if err != nil && r.Exit == nil {
					r.Err = err
				}
			}
		})
	}
	wg.Wait()
}

// adoptGroup connects, which hands over what is known to run, and sees what came of it.
func (s *Sandboxes) adoptGroup(ctx context.Context, name string, members []*Recovered) error {
	g := s.groupNamed(name)
	c, err := g.connected(ctx)
	if err != nil {
		return err
	}
	// A new connection has handed over already. One that the survey made has not: a supervisor that was about to die still
	// had its lock then, and a new one was started before it was known what it should have.
	if err := g.handOver(ctx, c); err != nil {
		return err
	}
	has, err := listed(ctx, c)
	if err != nil {
		return err
	}
	for _, r := range members {
		e, ok := has[r.Process]
		if !ok {
			r.Err = fmt.Errorf("container %s: the new supervisor did not take it over: see its log: %w", r.ID, errdefs.ErrUnavailable)
			continue
		}
		r.State, r.CgroupPaths, r.Exit = e.State, e.CgroupPaths, e.Exit
		if e.State == "exited" {
			r.Action = ActionExited
			continue
		}
		s.mu.Lock()
		held := s.entries[r.Process]
		s.mu.Unlock()
		s.hold(ctx, c, held)
	}
	return nil
}

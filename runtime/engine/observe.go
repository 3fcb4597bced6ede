package engine

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/user"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/logs"
	"github.com/minirt/mini/runtime/stats"
)

// Stats reads the use of resources of running containers, of all in the namespace when no ids are given; parts says what
// beside processors, memory and pressure.
func (e *Engine) Stats(ctx context.Context, ns string, ids []string, parts stats.Parts) (map[string]stats.Stats, error) {
	var of []Container
	if len(ids) == 0 {
		all, err := e.List(ctx, ns)
		if err != nil {
			return nil, err
		}
		for _, c := range all {
			if c.PID != 0 {
				of = append(of, c)
			}
		}
	}
	for _, id := range ids {
		l, _, err := e.running(ns, id, "")
		if err != nil {
			return nil, err
		}
		of = append(of, l.record())
	}
	sources := make([]stats.Source, len(of))
	for i, c := range of {
		sources[i] = stats.Source{CgroupPaths: groupsOf(c), PID: c.PID, Parts: parts}
		if c.Pod != "" {
			sources[i].PID = 0 // the network is the pod's
		}
	}
	out := make(map[string]stats.Stats, len(of))
	for i, r := range stats.ReadAll(sources) {
		switch {
		case r.Err == nil:
			out[of[i].ID] = r.Stats
		case len(ids) > 0: // otherwise it ended while the list was read
			return nil, fmt.Errorf("read the use of resources of container %s: %w", of[i].ID, r.Err)
		}
	}
	return out, nil
}

// Top lists the processes in a container's cgroup.
func (e *Engine) Top(_ context.Context, ns, id string) ([]ProcessInfo, error) {
	l, _, err := e.running(ns, id, "")
	if err != nil {
		return nil, err
	}
	pids, err := e.processesOf(l)
	if err != nil {
		return nil, fmt.Errorf("list the processes of container %s: %w", l.key.id, err)
	}
	execs := map[int]string{}
	l.mu.Lock()
	for execID, p := range l.procs {
		execs[p.info(false).PID] = execID
	}
	l.mu.Unlock()
	var list []ProcessInfo
	for _, pid := range pids {
		if info, err := readProcess(pid); err == nil {
			info.ExecID = execs[pid]
			list = append(list, info)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].PID < list[j].PID })
	return list, nil
}

// readProcess reads one process from proc(5).
func readProcess(pid int) (ProcessInfo, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return ProcessInfo{}, err
	}
	info := ProcessInfo{PID: pid}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		if len(fields) == 0 {
			continue
		}
		switch name {
		case "Name":
			info.Command = "[" + fields[0] + "]"
		case "PPid":
			info.PPID, _ = strconv.Atoi(fields[0])
		case "NSpid":
			info.ContainerPID, _ = strconv.Atoi(fields[len(fields)-1])
		case "Uid":
			info.User = userName(fields[0])
		case "VmRSS":
			kib, _ := strconv.ParseInt(fields[0], 10, 64)
			info.RSS = kib << 10
		}
	}
	if cmd, err := os.ReadFile(dir + "/cmdline"); err == nil && len(cmd) > 0 {
		info.Command = strings.TrimSpace(strings.ReplaceAll(string(cmd), "\x00", " "))
	}
	if fi, err := os.Stat(dir); err == nil {
		info.StartedAt = fi.ModTime()
	}
	return info, nil
}

func userName(uid string) string {
	if uid == "0" {
		return "root"
	}
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return uid
}

// LogOptions says which part of a log is wanted.
type LogOptions struct {
	Follow       bool
	Tail         int64 // lines from the end; -1: all
	Since, Until time.Time
}

// Logs reads a container's log, the lines since its creation; with Follow until the container has ended and its last
// line is read.
func (e *Engine) Logs(ctx context.Context, ns, id string, o LogOptions, each func(logs.Entry) error) error {
	l, err := e.find(ns, id)
	if err != nil {
		return err
	}
	c := l.record()
	plan, err := e.logPlan(c)
	if err != nil {
		return err
	}
	if plan.Hidden {
		return fmt.Errorf("configured logging driver does not support reading: container %s keeps no log for that (driver %s): attach to it instead: %w",
			c.ID, cmp.Or(c.Logging.Driver, c.Log.Driver), errdefs.ErrFailedPrecondition)
	}
	r := logs.ReadOptions{Driver: c.Log.Driver, Path: c.Log.Path, Follow: o.Follow, Tail: o.Tail, Since: o.Since, Until: o.Until}
	if p, err := l.proc(""); err == nil {
		r.Done = p.exited // the writer is flushed before the exit is told
	} else {
		r.Follow = false
	}
	err = logs.Read(ctx, r, each)
	if os.IsNotExist(err) {
		return nil // nothing was ever written
	}
	return err
}

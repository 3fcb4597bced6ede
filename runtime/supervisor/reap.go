package supervisor

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// orphans reaps processes that came to the supervisor as the subreaper: what an exec or a container in the host's PID
// namespace left behind. Processes that it started itself are waited for by name, never by "any", and libcontainer
// waits for its own stages; so a sweep takes only zombies it does not know, and only while no request is under way.
type orphans struct {
	s       *Supervisor
	request sync.RWMutex // held for reading by every request, whose children are not to be reaped here
}

// sweepDelay gathers the SIGCHLD of a burst of exits into one sweep.
const sweepDelay = time.Second

func newOrphans(s *Supervisor) *orphans { return &orphans{s: s} }

func (o *orphans) run(stop <-chan struct{}) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGCHLD)
	defer signal.Stop(signals)
	for {
		select {
		case <-signals:
		case <-stop:
			return
		}
		for swept := false; !swept; swept = o.sweep() {
			select {
			case <-time.After(sweepDelay):
			case <-stop:
				return
			}
		}
	}
}

// sweep returns false when a request is under way: waiting for it would make the next ones wait.
func (o *orphans) sweep() bool {
	if !o.request.TryLock() {
		return false
	}
	defer o.request.Unlock()
	known := o.s.pids()
	for _, pid := range zombies() {
		if known[pid] {
			continue
		}
		if _, err := unix.Wait4(pid, nil, unix.WNOHANG, nil); err == nil {
			o.s.Log.Debug("reaped an orphan", "pid", pid)
		}
	}
	return true
}

// pids are the processes that have a goroutine waiting for them.
func (s *Supervisor) pids() map[int]bool {
	known := map[int]bool{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.containers {
		c.mu.Lock()
		for _, p := range c.procs {
			if p.ready {
				known[p.pid] = true
			}
		}
		c.mu.Unlock()
	}
	return known
}

// zombies lists this process's children that have exited.
func zombies() []int {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil
	}
	var found []int
	for _, t := range tasks {
		data, err := os.ReadFile("/proc/self/task/" + t.Name() + "/children")
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(data)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				continue
			}
			if st, err := readStat(pid); err == nil && st.state == 'Z' {
				found = append(found, pid)
			}
		}
	}
	return found
}

type procStat struct {
	state     byte
	startTime uint64 // clock ticks since boot
	exit      uint64 // the wait status of a zombie, for those who may trace it
}

// readStat reads the fields of /proc/PID/stat that matter here (proc_pid_stat(5)).
func readStat(pid int) (procStat, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	return parseStat(string(data))
}

// parseStat begins behind the last parenthesis: the command's name may hold anything.
func parseStat(line string) (procStat, error) {
	fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(fields) < 20 || len(fields[0]) != 1 || fields[0][0] < 'A' {
		return procStat{}, fmt.Errorf("stat line %q: %d fields behind the name, want a letter and 19 more", line, len(fields))
	}
	st := procStat{state: fields[0][0]}
	var err error
	if st.startTime, err = strconv.ParseUint(fields[19], 10, 64); err != nil || len(fields) < 50 {
		return st, err
	}
	st.exit, err = strconv.ParseUint(fields[49], 10, 32)
	return st, err
}

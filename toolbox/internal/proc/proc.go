// Package proc reads what ps shows from /proc.
package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const ticks = 100 // USER_HZ, the same on every Linux

// Process is one line of ps.
type Process struct {
	PID, PPID int
	UID       string
	State     string
	TTY       string
	RSS, VSZ  int64 // KiB
	CPU       time.Duration
	Start     time.Time
	Name      string
	Args      []string
}

// Command is the command line, or the name in brackets where there is none.
func (p Process) Command() string {
	if len(p.Args) == 0 {
		return "[" + p.Name + "]"
	}
	return strings.Join(p.Args, " ")
}

// List reads all processes, by number. Those that end meanwhile are left out.
func List() ([]Process, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	boot := bootTime()
	var list []Process
	for _, dir := range dirs {
		if p, err := read(dir, boot); err == nil {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b Process) int { return a.PID - b.PID })
	return list, nil
}

func read(dir string, boot time.Time) (Process, error) {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return Process{}, err
	}
	p, err := parseStat(string(stat), boot)
	if err != nil {
		return Process{}, err
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return Process{}, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "Uid:"); ok {
			p.UID = strings.Fields(rest)[0]
		}
	}
	args, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return Process{}, err
	}
	if len(args) > 0 {
		p.Args = strings.Split(strings.TrimRight(string(args), "\x00"), "\x00")
	}
	return p, nil
}

// parseStat reads /proc/PID/stat (proc(5)); the name is in parentheses and may hold some itself.
func parseStat(stat string, boot time.Time) (Process, error) {
	open, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return Process{}, fmt.Errorf("stat %q: no name", stat)
	}
	fields := strings.Fields(stat[end+1:])
	if len(fields) < 22 {
		return Process{}, fmt.Errorf("stat %q: too short", stat)
	}
	number := func(field int) int64 { // as proc(5) counts them, from 3
		n, _ := strconv.ParseInt(fields[field-3], 10, 64)
		return n
	}
	pid, err := strconv.Atoi(strings.TrimSpace(stat[:open]))
	return Process{
		PID:   pid,
		PPID:  int(number(4)),
		State: fields[0],
		TTY:   ttyName(number(7)),
		CPU:   time.Duration(number(14)+number(15)) * time.Second / ticks,
		Start: boot.Add(time.Duration(number(22)) * time.Second / ticks),
		VSZ:   number(23) / 1024,
		RSS:   number(24) * int64(os.Getpagesize()) / 1024,
		Name:  stat[open+1 : end],
	}, err
}

func ttyName(device int64) string {
	major, minor := device>>8&0xfff, device&0xff|device>>12&0xfff00
	switch {
	case major >= 136 && major <= 143:
		return fmt.Sprintf("pts/%d", (major-136)*256+minor)
	case major == 4:
		return fmt.Sprintf("tty%d", minor)
	default:
		return "?"
	}
}

func bootTime() time.Time {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}
	}
	for line := range strings.Lines(string(stat)) {
		if rest, ok := strings.CutPrefix(line, "btime "); ok {
			seconds, _ := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
			return time.Unix(seconds, 0)
		}
	}
	return time.Time{}
}

package engine

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// ProcessTable is what ps(1) of this host tells of a container's processes.
type ProcessTable struct {
	Titles []string
	Rows   [][]string // as long as Titles
}

// TopBy lists the processes in a container's cgroup by ps(1) with these options, as docker does. A column must be called
// PID. ErrInvalidArgument says what ps does not take.
func (e *Engine) TopBy(ctx context.Context, ns, id string, options []string) (ProcessTable, error) {
	l, _, err := e.running(ns, id, "")
	if err != nil {
		return ProcessTable{}, err
	}
	if slices.ContainsFunc(options, renamesPID) {
		return ProcessTable{}, fmt.Errorf("ps %s: the title of the column pid is needed as it is: write pid without =: %w", strings.Join(options, " "), errdefs.ErrInvalidArgument)
	}
	pids, err := e.processesOf(l)
	if err != nil {
		return ProcessTable{}, fmt.Errorf("list the processes of container %s: %w", l.key.id, err)
	}
	out, err := exec.CommandContext(ctx, "ps", options...).Output()
	if err != nil {
		said := err.Error()
		var exit *exec.ExitError
		if errors.As(err, &exit) && len(exit.Stderr) > 0 {
			said, _, _ = strings.Cut(strings.TrimSpace(string(exit.Stderr)), "\n")
		}
		return ProcessTable{}, fmt.Errorf("ps %s: %s: %w", strings.Join(options, " "), said, errdefs.ErrInvalidArgument)
	}
	table, err := processTable(string(out), pids)
	if err != nil {
		return ProcessTable{}, fmt.Errorf("ps %s: %w", strings.Join(options, " "), err)
	}
	return table, nil
}

// renamesPID says whether an option gives the column pid another title.
func renamesPID(option string) bool {
	return slices.ContainsFunc(strings.FieldsFunc(option, func(c rune) bool { return c == ',' || c == ' ' }), func(column string) bool {
		return strings.HasSuffix(strings.Split(column, "=")[0], "pid") && strings.Contains(column, "=")
	})
}

// processTable reads what ps has printed, and keeps the processes with these numbers. What is in the last column may have
// spaces.
func processTable(out string, pids []int) (ProcessTable, error) {
	head, rest, _ := strings.Cut(out, "\n")
	t := ProcessTable{Titles: strings.Fields(head)}
	at := slices.Index(t.Titles, "PID")
	if at < 0 {
		return ProcessTable{}, fmt.Errorf("couldn't find PID field in ps output: add the column pid: %w", errdefs.ErrInvalidArgument)
	}
	for line := range strings.Lines(rest) {
		fields := strings.Fields(line)
		if len(fields) <= at {
			continue // a line of its own, as some formats have
		}
		pid, err := strconv.Atoi(fields[at])
		if err != nil {
			return ProcessTable{}, fmt.Errorf("unexpected pid %q in ps output: %w", fields[at], errdefs.ErrInvalidArgument)
		}
		if !slices.Contains(pids, pid) {
			continue
		}
		last := len(t.Titles) - 1
		row := make([]string, len(t.Titles))
		copy(row, fields)
		if len(fields) > last {
			row[last] = strings.Join(fields[last:], " ")
		}
		t.Rows = append(t.Rows, row)
	}
	return t, nil
}

package view

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/api"
)

// Process is a row of top, with the columns of ps -ef.
type Process struct{ UID, PID, PPID, STIME, TIME, CMD string }

// ProcessColumns are those of top.
const ProcessColumns = `{{.UID}}\t{{.PID}}\t{{.PPID}}\t{{.STIME}}\t{{.CMD}}`

// ProcessHeader names the columns of top.
func ProcessHeader() Process { return Process{"UID", "PID", "PPID", "STIME", "TIME", "CMD"} }

// ProcessRows are the processes of a container.
func ProcessRows(list []*api.ProcessInfo, now time.Time) []Process {
	var rows []Process
	for _, p := range list {
		started := time.Unix(0, p.StartedAt).Local()
		when := started.Format("15:04")
		if now.Sub(started) > 24*time.Hour {
			when = started.Format("Jan02")
		}
		rows = append(rows, Process{UID: p.User, PID: fmt.Sprint(p.Pid), PPID: fmt.Sprint(p.Ppid), STIME: when, CMD: p.Command})
	}
	return rows
}

// WithProtocol is a port with its protocol, tcp when it has none.
func WithProtocol(port string) string {
	if strings.Contains(port, "/") {
		return port
	}
	return port + "/tcp"
}

// PortLines are those of port: all of them, or the addresses of one port.
func PortLines(c *api.Container, port string) []string {
	ports := slices.Clone(c.Ports)
	slices.SortStableFunc(ports, func(a, b *api.PublishedPort) int {
		return cmp.Or(cmp.Compare(a.ContainerPort, b.ContainerPort), cmp.Compare(a.Protocol, b.Protocol))
	})
	var lines []string
	for _, p := range ports {
		key := fmt.Sprintf("%d/%s", p.ContainerPort, cmp.Or(p.Protocol, "tcp"))
		for _, address := range hostAddresses(p.HostIp) {
			at := fmt.Sprintf("%s:%d", address, p.HostPort)
			switch {
			case port == "":
				lines = append(lines, key+" -> "+at)
			case WithProtocol(port) == key:
				lines = append(lines, at)
			}
		}
	}
	return lines
}

// PruneFilterKeys are those of the prune verbs.
func PruneFilterKeys() []string { return []string{"label", "label!", "until"} }

// Prunable are the containers that do not run and that the filters let through.
func Prunable(list []*api.Container, f Filters, now time.Time) ([]*api.Container, error) {
	var until time.Time
	for _, text := range f["until"] {
		var err error
		if until, err = untilTime(text, now); err != nil {
			return nil, err
		}
	}
	var out []*api.Container
	for _, c := range list {
		idle := (c.State == "exited" || c.State == "created") && !c.Restarting && c.Member == nil // a pod's are its kubelet's
		if idle && f.labels(c.Labels) && (until.IsZero() || time.Unix(0, c.CreatedAt).Before(until)) {
			out = append(out, c)
		}
	}
	return out, nil
}

// PrunableImages are the names of those that the filters let through.
func PrunableImages(list []LocalImage, f Filters, now time.Time) ([]string, error) {
	var until time.Time
	for _, text := range f["until"] {
		var err error
		if until, err = untilTime(text, now); err != nil {
			return nil, err
		}
	}
	names := []string{}
	for _, i := range list {
		if f.labels(i.Config.Config.Labels) && (until.IsZero() || i.Created().Before(until)) {
			names = append(names, i.Name)
		}
	}
	return names, nil
}

// untilTime reads a duration before now, seconds since 1970, or a time.
func untilTime(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Unix(n, 0), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("invalid filter 'until=%s': a duration, seconds since 1970, or a time of RFC 3339: %w", text, errdefs.ErrInvalidArgument)
	}
	return t, nil
}

// Cells are the rows of ps(1).
func Cells(rows []*api.TopRow) [][]string {
	all := make([][]string, len(rows))
	for i, r := range rows {
		all[i] = r.Cells
	}
	return all
}

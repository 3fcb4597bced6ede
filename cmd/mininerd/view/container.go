// Package view makes of what the daemon says what docker shows: rows of listings, texts of states, filters, and the
// documents of inspect. All of it is pure; now is an argument.
package view

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/minirt/mini/internal/id"
	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/runtime/api"
)

// labelled gives rows docker's {{.Label "key"}}.
type labelled struct {
	labels map[string]string
	header bool
}

// Label is the value of a label, or in the header a name for its column.
func (l labelled) Label(key string) string {
	if !l.header {
		return l.labels[key]
	}
	last := key[strings.LastIndex(key, ".")+1:]
	return strings.NewReplacer("-", " ", "_", " ").Replace(last)
}

// joined prints labels as tables do.
func joined(labels map[string]string) string {
	parts := make([]string, 0, len(labels))
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, k+"="+labels[k])
	}
	return strings.Join(parts, ",")
}

// Container is a row of ps; the fields are docker's.
type Container struct {
	Command, CreatedAt, ID, Image, Labels, LocalVolumes, Mounts, Names, Networks, Ports, RunningFor, Size, State, Status string
	labelled
}

// The columns of ps, without and with -s.
const (
	ContainerColumns     = `{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}`
	ContainerSizeColumns = ContainerColumns + `\t{{.Size}}`
)

// Raw is the template of the format "raw".
func (c Container) Raw() string {
	return "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate:{{pad .State 1 0}}\nstatus:{{pad .Status 1 0}}\n" +
		"names: {{.Names}}\nlabels:{{pad .Labels 1 0}}\nports:{{pad .Ports 1 0}}\n"
}

// ContainerHeader names the columns of ps.
func ContainerHeader() Container {
	return Container{
		Command: "COMMAND", CreatedAt: "CREATED AT", ID: "CONTAINER ID", Image: "IMAGE", Labels: "LABELS", LocalVolumes: "LOCAL VOLUMES",
		Mounts: "MOUNTS", Names: "NAMES", Networks: "NETWORKS", Ports: "PORTS", RunningFor: "CREATED", Size: "SIZE", State: "STATE",
		Status: "STATUS", labelled: labelled{header: true},
	}
}

// maxCommand is how much of a command a table shows, in characters.
const maxCommand = 20

// ContainerRows are containers as ps shows them.
func ContainerRows(list []*api.Container, whole bool, now time.Time) []Container {
	rows := make([]Container, 0, len(list))
	names := map[string]string{} // many are of few images
	for _, c := range list {
		if _, known := names[c.Image]; !known {
			names[c.Image] = Familiar(c.Image)
		}
		rows = append(rows, containerRow(c, names[c.Image], whole, now))
	}
	return rows
}

func containerRow(c *api.Container, shown string, whole bool, now time.Time) Container {
	line := commandLine(c.Args)
	if !whole {
		line = ellipsis(line, maxCommand)
	}
	r := Container{
		Command: strconv.Quote(line), CreatedAt: time.Unix(0, c.CreatedAt).Local().Format("2006-01-02 15:04:05 -0700 MST"), ID: ShortID(c.Id, whole),
		Image: shown, Labels: joined(c.Labels), Names: ContainerName(c), Networks: strings.Join(networksOf(c), ","),
		Ports: Ports(c), RunningFor: ago(c.CreatedAt, now), State: State(c), Status: Status(c, now), Size: "0B", labelled: labelled{labels: c.Labels},
	}
	var mounts []string
	local := 0
	for _, m := range c.Mounts {
		if m.Volume != "" {
			local++
		}
		text := cmp.Or(m.Volume, m.Source, m.Target)
		if !whole {
			text = ellipsis(text, 15)
		}
		mounts = append(mounts, text)
	}
	r.Mounts, r.LocalVolumes = strings.Join(mounts, ","), strconv.Itoa(local)
	if c.Size != nil {
		r.Size = WrittenSize(c)
	}
	return r
}

// WrittenSize is what a container that was got with its size has written.
func WrittenSize(c *api.Container) string {
	return units.HumanSizeWithPrecision(float64(c.Size.GetSize()), 3)
}

// WrittenAndWhole is what it has written, and how large its root filesystem is then; image is its image's size in bytes.
func WrittenAndWhole(c *api.Container, image int64) string {
	return fmt.Sprintf("%s (virtual %s)", WrittenSize(c), units.HumanSizeWithPrecision(float64(image+c.Size.GetSize()), 3))
}

// commandLine quotes what has spaces, as docker does.
func commandLine(command []string) string {
	words := slices.Clone(command)
	for i, w := range words {
		if i > 0 && strings.Contains(w, " ") {
			words[i] = "'" + w + "'"
		}
	}
	return strings.Join(words, " ")
}

// ContainerName is what a container is called: one of a pod by that, as nerdctl does, and by its id one without a name.
func ContainerName(c *api.Container) string {
	if m := c.Member; m != nil && m.Pod != "" && c.Name == "" {
		return "k8s://" + m.PodNamespace + "/" + m.Pod + "/" + m.Name
	}
	return cmp.Or(c.Name, c.Id)
}

// ShortID is the first twelve digits, unless the whole is wanted.
func ShortID(s string, whole bool) string {
	if whole {
		return s
	}
	return id.Short(strings.TrimPrefix(s, "sha256:"))
}

// Familiar is an image's name without what docker leaves out: its own registry, and without the tag that is the default.
func Familiar(image string) string {
	ref, err := name.Parse(image)
	if err != nil {
		return image
	}
	return strings.TrimSuffix(ref.Familiar(), ":latest")
}

func ellipsis(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

func ago(ns int64, now time.Time) string {
	return units.HumanDuration(now.Sub(time.Unix(0, ns))) + " ago"
}

// State is docker's word: created, running, paused, restarting, removing, exited, dead.
func State(c *api.Container) string {
	switch {
	case c.Restarting:
		return "restarting"
	case c.State == "creating":
		return "created"
	}
	return c.State
}

// Status is the sentence of ps.
func Status(c *api.Container, now time.Time) string {
	code, ended := int32(0), c.CreatedAt
	if c.Exit != nil {
		code, ended = c.Exit.Code, c.Exit.Time
	}
	switch State(c) {
	case "running":
		up := "Up " + units.HumanDuration(now.Sub(time.Unix(0, c.StartedAt)))
		switch s := c.Health.GetStatus(); s {
		case "", "none":
			return up
		case "starting":
			return up + " (health: starting)"
		default:
			return up + " (" + s + ")"
		}
	case "paused":
		return "Up " + units.HumanDuration(now.Sub(time.Unix(0, c.StartedAt))) + " (Paused)"
	case "restarting":
		return fmt.Sprintf("Restarting (%d) %s", code, ago(ended, now))
	case "removing":
		return "Removal In Progress"
	case "created":
		return "Created"
	case "exited":
		return fmt.Sprintf("Exited (%d) %s", code, ago(ended, now))
	}
	return c.State
}

func networksOf(c *api.Container) []string {
	var all []string
	for _, n := range c.Networks {
		all = append(all, n.Network)
	}
	if len(all) == 0 && c.NetworkMode != "" {
		mode, _, _ := strings.Cut(c.NetworkMode, ":")
		all = []string{mode}
	}
	return all
}

// Ports is the column of ps: published ports, then the exposed ones that are not. Neighbours are joined.
func Ports(c *api.Container) string {
	if c.State != "running" && c.State != "paused" {
		return ""
	}
	type span struct {
		address, protocol         string
		host, port, hostEnd, last uint32
	}
	var spans []span
	published := map[string]bool{}
	ports := slices.Clone(c.Ports)
	slices.SortStableFunc(ports, func(a, b *api.PublishedPort) int {
		return cmp.Or(cmp.Compare(a.HostIp, b.HostIp), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.ContainerPort, b.ContainerPort), cmp.Compare(a.HostPort, b.HostPort))
	})
	for _, p := range ports {
		protocol := cmp.Or(p.Protocol, "tcp")
		published[fmt.Sprintf("%d/%s", p.ContainerPort, protocol)] = true
		if n := len(spans); n > 0 && spans[n-1].address == p.HostIp && spans[n-1].protocol == protocol &&
			spans[n-1].last+1 == p.ContainerPort && spans[n-1].hostEnd+1 == p.HostPort {
			spans[n-1].last, spans[n-1].hostEnd = p.ContainerPort, p.HostPort
			continue
		}
		spans = append(spans, span{p.HostIp, protocol, p.HostPort, p.ContainerPort, p.HostPort, p.ContainerPort})
	}
	var all []string
	for _, s := range spans {
		host, port := fmt.Sprint(s.host), fmt.Sprint(s.port)
		if s.last > s.port {
			host, port = fmt.Sprintf("%d-%d", s.host, s.hostEnd), fmt.Sprintf("%d-%d", s.port, s.last)
		}
		for _, address := range hostAddresses(s.address) {
			all = append(all, fmt.Sprintf("%s:%s->%s/%s", address, host, port, s.protocol))
		}
	}
	for _, e := range c.Exposed {
		if !published[e] {
			all = append(all, e)
		}
	}
	return strings.Join(all, ", ")
}

// hostAddresses are what an address of the host means: none means every one, of both families.
func hostAddresses(address string) []string {
	if address == "" {
		return []string{"0.0.0.0", "[::]"}
	}
	if a, err := netip.ParseAddr(address); err == nil && a.Is6() {
		return []string{"[" + address + "]"}
	}
	return []string{address}
}

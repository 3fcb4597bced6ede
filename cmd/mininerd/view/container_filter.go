package view

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/api"
)

// ContainerFilterKeys are those of ps.
func ContainerFilterKeys() []string {
	return []string{"ancestor", "before", "exited", "expose", "health", "id", "label", "name", "network", "publish", "since", "status", "volume"}
}

// statuses are the words of status=.
func statuses() []string {
	return []string{"created", "dead", "exited", "paused", "removing", "restarting", "running"}
}

// Containers are those of a list, the newest first, that the filters let through. Unless all are wanted (or filters ask for
// a state), only running ones; last bounds their number, 0 does not.
func Containers(list []*api.Container, f Filters, all bool, last int) ([]*api.Container, error) {
	sorted := slices.Clone(list)
	slices.SortStableFunc(sorted, func(a, b *api.Container) int {
		return compareTimes(b.CreatedAt, a.CreatedAt)
	})
	if err := checkContainerFilters(f); err != nil {
		return nil, err
	}
	from, until, err := bounds(sorted, f)
	if err != nil {
		return nil, err
	}
	all = all || last > 0 || len(f["status"]) > 0 || len(f["exited"]) > 0 || len(f["since"]) > 0 || len(f["before"]) > 0
	var out []*api.Container
	for _, c := range sorted {
		running := c.State == "running" || c.State == "paused" || c.Restarting
		if !all && !running || c.CreatedAt <= from || until > 0 && c.CreatedAt >= until || !matchContainer(c, f) {
			continue
		}
		if out = append(out, c); last > 0 && len(out) == last {
			break
		}
	}
	return out, nil
}

func compareTimes(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func checkContainerFilters(f Filters) error {
	for _, s := range f["status"] {
		if !slices.Contains(statuses(), s) {
			return fmt.Errorf("invalid filter 'status=%s': use one of %s: %w", s, strings.Join(statuses(), ", "), errdefs.ErrInvalidArgument)
		}
	}
	for _, e := range f["exited"] {
		if _, err := strconv.Atoi(e); err != nil {
			return fmt.Errorf("invalid filter 'exited=%s': a number: %w", e, errdefs.ErrInvalidArgument)
		}
	}
	for _, h := range f["health"] {
		if !slices.Contains([]string{"starting", "healthy", "unhealthy", "none"}, h) {
			return fmt.Errorf("invalid filter 'health=%s': use starting, healthy, unhealthy or none: %w", h, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// bounds are the times of creation that since= and before= name by containers; 0 is none.
func bounds(list []*api.Container, f Filters) (from, until int64, err error) {
	for _, b := range []struct {
		key string
		to  *int64
	}{{"since", &from}, {"before", &until}} {
		for _, wanted := range f[b.key] {
			i := slices.IndexFunc(list, func(c *api.Container) bool { return c.Name == wanted || strings.HasPrefix(c.Id, wanted) })
			if i < 0 {
				return 0, 0, fmt.Errorf("%s: %s: %w", NoSuchContainer, wanted, errdefs.ErrNotFound)
			}
			*b.to = list[i].CreatedAt
		}
	}
	return from, until, nil
}

// NoSuchContainer begins docker's message.
const NoSuchContainer = "No such container"

func matchContainer(c *api.Container, f Filters) bool {
	health := c.Health.GetStatus()
	if health == "" {
		health = "none"
	}
	return f.labels(c.Labels) &&
		f.any("id", func(v string) bool { return matches(v, c.Id) }) &&
		f.any("name", func(v string) bool { return matches(v, ContainerName(c)) || matches(v, "/"+ContainerName(c)) }) &&
		f.any("status", func(v string) bool { return v == State(c) }) &&
		f.any("exited", func(v string) bool {
			return c.State == "exited" && c.Exit != nil && strconv.Itoa(int(c.Exit.Code)) == v
		}) &&
		f.any("health", func(v string) bool { return v == health }) &&
		f.any("ancestor", func(v string) bool { return ancestor(c, v) }) &&
		f.any("network", func(v string) bool { return inNetwork(c, v) }) &&
		f.any("volume", func(v string) bool {
			return slices.ContainsFunc(c.Mounts, func(m *api.Mount) bool {
				return m.Source == v || path.Clean(m.Target) == path.Clean(v) || m.Volume != "" && m.Volume == v
			})
		}) &&
		f.any("publish", func(v string) bool {
			return slices.ContainsFunc(c.Ports, func(p *api.PublishedPort) bool { return samePort(v, p.HostPort, p.Protocol) })
		}) &&
		f.any("expose", func(v string) bool {
			return slices.ContainsFunc(c.Exposed, func(e string) bool {
				port, protocol, _ := strings.Cut(e, "/")
				n, err := strconv.ParseUint(port, 10, 16)
				return err == nil && samePort(v, uint32(n), protocol)
			})
		})
}

// matches is docker's comparison: a regular expression, or when it is none a part of the text.
func matches(pattern, text string) bool {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return strings.Contains(text, pattern)
	}
	return re.MatchString(text)
}

func ancestor(c *api.Container, v string) bool {
	if v == c.Image || v == Familiar(c.Image) || Familiar(v) == Familiar(c.Image) {
		return true
	}
	hex := strings.TrimPrefix(v, "sha256:")
	return len(hex) >= 4 && strings.HasPrefix(strings.TrimPrefix(c.ImageDigest, "sha256:"), hex)
}

func inNetwork(c *api.Container, v string) bool {
	if slices.Contains(networksOf(c), v) {
		return true
	}
	return slices.ContainsFunc(c.Networks, func(n *api.EndpointStatus) bool { return len(v) >= 4 && strings.HasPrefix(n.NetworkId, v) })
}

// samePort compares with PORT[-PORT][/PROTOCOL].
func samePort(want string, port uint32, protocol string) bool {
	ports, proto, _ := strings.Cut(want, "/")
	if proto == "" {
		proto = "tcp"
	}
	if protocol == "" {
		protocol = "tcp"
	}
	first, last, ranged := strings.Cut(ports, "-")
	from, err := strconv.ParseUint(first, 10, 16)
	if err != nil || proto != protocol {
		return false
	}
	to := from
	if ranged {
		if to, err = strconv.ParseUint(last, 10, 16); err != nil {
			return false
		}
	}
	return uint64(port) >= from && uint64(port) <= to
}

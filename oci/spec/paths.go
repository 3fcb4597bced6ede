package spec

import (
	"path"
	"slices"
)

// maskedByDefault are files that tell a container about the host, or let it disturb it: the list of Docker and
// containerd. Those marked fixed exist from boot or never, so a host without one needs no mask; the others come with
// a module.
func maskedByDefault() []hiddenPath {
	return []hiddenPath{
		{"/proc/acpi", true},
		{"/proc/asound", false},
		{"/proc/interrupts", true},
		{"/proc/kcore", true},
		{"/proc/keys", true},
		{"/proc/latency_stats", true},
		{"/proc/timer_list", true},
		{"/proc/timer_stats", true},
		{"/proc/sched_debug", true},
		{"/proc/scsi", false},
		{"/sys/firmware", true},
		{"/sys/devices/virtual/powercap", false},
	}
}

// readonlyByDefault are files that a container may read and not write, though its root could.
func readonlyByDefault() []hiddenPath {
	return []hiddenPath{{"/proc/bus", true}, {"/proc/fs", true}, {"/proc/irq", true}, {"/proc/sys", true}, {"/proc/sysrq-trigger", true}}
}

// hiddenPath is a path of /proc or /sys; fixed says that no module brings it later.
type hiddenPath struct {
	path  string
	fixed bool
}

// DefaultMaskedPaths returns the paths that are masked when a request is silent and not privileged.
func DefaultMaskedPaths() []string { return pathsOf(maskedByDefault()) }

// DefaultReadonlyPaths returns the paths that are read-only when a request is silent and not privileged.
func DefaultReadonlyPaths() []string { return pathsOf(readonlyByDefault()) }

func pathsOf(list []hiddenPath) []string {
	paths := make([]string, len(list))
	for i, h := range list {
		paths[i] = h.path
	}
	return paths
}

// pathsRule sets masked and read-only paths. A path this host can never have is left out: the runtime would look for
// it and find nothing.
func pathsRule(b *builder) error {
	var err error
	if b.spec.Linux.MaskedPaths, err = b.hide("masked path", b.req.MaskedPaths, DefaultMaskedPaths()); err != nil {
		return err
	}
	b.spec.Linux.ReadonlyPaths, err = b.hide("read-only path", b.req.ReadonlyPaths, DefaultReadonlyPaths())
	return err
}

func (b *builder) hide(what string, asked *[]string, defaults []string) ([]string, error) {
	list := defaults
	switch {
	case asked != nil:
		list = *asked
	case b.req.Privileged:
		return nil, nil
	}
	var kept []string
	for _, p := range list {
		if !path.IsAbs(p) {
			return nil, invalid("%s %q: it must be absolute, like /proc/kcore", what, p)
		}
		if p = path.Clean(p); !slices.Contains(b.host.AbsentPaths, p) && !slices.Contains(kept, p) {
			kept = append(kept, p)
		}
	}
	return kept, nil
}

package spec

import (
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// unlimited is RLIM_INFINITY.
const unlimited = ^uint64(0)

// rlimitNames is every limit of the runtime spec, in the order of the kernel's numbers.
func rlimitNames() []string {
	return []string{
		"RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS", "RLIMIT_NPROC",
		"RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE",
		"RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME",
	}
}

// rlimitsRule sets resource limits of the process. A hard limit above what this process itself has needs
// CAP_SYS_RESOURCE; without it the container gets as much as can be had, and a warning: an image that asks for a million
// files still runs.
func rlimitsRule(b *builder) error {
	limits, err := mergeRlimits(b.in.Defaults.Rlimits, b.req.Rlimits)
	if err != nil {
		return err
	}
	for i := range limits {
		b.clampRlimit(&limits[i])
	}
	b.spec.Process.Rlimits = limits
	return nil
}

// mergeRlimits puts the request's limits over the defaults, each once, in the kernel's order.
func mergeRlimits(defaults, asked []specs.POSIXRlimit) ([]specs.POSIXRlimit, error) {
	byName := make(map[string]specs.POSIXRlimit)
	named := make(map[string]bool)
	for i, l := range slices.Concat(defaults, asked) {
		name := strings.ToUpper(l.Type)
		if !strings.HasPrefix(name, "RLIMIT_") {
			name = "RLIMIT_" + name
		}
		if !slices.Contains(rlimitNames(), name) {
			return nil, invalid("%q isn't a limit; for example RLIMIT_NOFILE or nofile", l.Type)
		}
		if l.Soft > l.Hard {
			return nil, invalid("%s: the soft limit %s is above the hard limit %s", name, showLimit(l.Soft), showLimit(l.Hard))
		}
		if i >= len(defaults) {
			if named[name] {
				return nil, invalid("%s is given twice", name)
			}
			named[name] = true
		}
		l.Type = name
		byName[name] = l
	}
	var merged []specs.POSIXRlimit
	for _, name := range rlimitNames() {
		if l, ok := byName[name]; ok {
			merged = append(merged, l)
		}
	}
	return merged, nil
}

// clampRlimit lowers a limit to what the kernel will accept.
func (b *builder) clampRlimit(l *specs.POSIXRlimit) {
	most, why := b.highestRlimit(l.Type)
	if l.Hard <= most {
		return
	}
	b.warn("%s %s: %s, so it is %s", l.Type, showLimit(l.Hard), why, showLimit(most))
	l.Hard, l.Soft = most, min(l.Soft, most)
}

// highestRlimit is the highest hard limit that can be set, and the reason (getrlimit(2)).
func (b *builder) highestRlimit(name string) (most uint64, why string) {
	most = unlimited
	if own, known := b.host.Rlimits[name]; known && !b.host.SysResource {
		most, why = own.Hard, "this host may not raise limits (CAP_SYS_RESOURCE is missing)"
	}
	if files := b.host.MaxOpenFiles; name == "RLIMIT_NOFILE" && files > 0 && files < most {
		most, why = files, "the kernel's fs.nr_open is lower"
	}
	return most, why
}

func showLimit(n uint64) string {
	if n == unlimited {
		return "unlimited"
	}
	return strconv.FormatUint(n, 10)
}

// oomScoreRule sets the process's oom_score_adj, -1000 to 1000. Going below this process's own needs CAP_SYS_RESOURCE;
// without it the container gets the lowest possible, and a warning.
func oomScoreRule(b *builder) error {
	if b.req.OOMScoreAdj == nil {
		return nil
	}
	score := *b.req.OOMScoreAdj
	if score < -1000 || score > 1000 {
		return invalid("%d: it goes from -1000 (never killed) to 1000 (killed first)", score)
	}
	if own := b.host.OOMScoreAdj; score < own && !b.host.SysResource && b.host.Capabilities != nil {
		b.warn("oom score %d: this host may not lower it below its own (CAP_SYS_RESOURCE is missing), so it is %d", score, own)
		score = own
	}
	b.spec.Process.OOMScoreAdj = &score
	return nil
}

package spec

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The real-time signals that the C library leaves to programs (signal(7)).
const (
	rtMin = 34
	rtMax = 64
)

// ParseSignal reads a signal as people and images write it: SIGTERM, TERM, term, 15, SIGRTMIN+3, RTMAX-1. 0 is a signal
// too: it only asks whether the process is there (kill(2)). Errors: ErrInvalidArgument.
func ParseSignal(s string) (int, error) {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 && n <= rtMax {
		return n, nil
	}
	name := strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(s)), "SIG")
	if n := unix.SignalNum("SIG" + name); n != 0 {
		return int(n), nil
	}
	for prefix, base := range map[string]int{"RTMIN": rtMin, "RTMAX": rtMax} {
		rest, found := strings.CutPrefix(name, prefix)
		if !found {
			continue
		}
		offset := 0
		if rest != "" {
			var err error
			if offset, err = strconv.Atoi(rest); err != nil || (rest[0] != '+' && rest[0] != '-') {
				break
			}
		}
		if n := base + offset; n >= rtMin && n <= rtMax {
			return n, nil
		}
	}
	return 0, invalid("signal %q: write a name as SIGTERM or a number from 0 to 64", s)
}

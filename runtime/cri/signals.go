package cri

import (
	"strconv"
	"strings"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// signalName is a stop signal as spec.Request has it; "" is the image's, else TERM.
func signalName(s v1.Signal) (string, error) {
	if s == v1.Signal_SIGNAL_RUNTIME_DEFAULT {
		return "", nil
	}
	name, known := v1.Signal_name[int32(s)]
	if !known {
		return "", invalid("stop signal %d: it is none of the CRI's", s)
	}
	name = strings.TrimPrefix(name, "SIGNAL_")
	name = strings.Replace(name, "RTMINPLUS", "RTMIN+", 1)
	name = strings.Replace(name, "RTMAXMINUS", "RTMAX-", 1)
	switch name { // other names of the same, signal(7)
	case "SIGCLD":
		return "SIGCHLD", nil
	case "SIGIOT":
		return "SIGABRT", nil
	case "SIGPOLL":
		return "SIGIO", nil
	}
	return name, nil
}

// signalOf is the enumeration's value of a signal by its name or number, as images and requests have it. What it does not
// have is RUNTIME_DEFAULT.
func signalOf(name string) v1.Signal {
	name = strings.ToUpper(strings.TrimSpace(name))
	if n, err := strconv.Atoi(name); err == nil {
		name = signalByNumber(n)
	}
	name = "SIG" + strings.TrimPrefix(name, "SIG")
	name = strings.Replace(name, "RTMIN+", "RTMINPLUS", 1)
	name = strings.Replace(name, "RTMAX-", "RTMAXMINUS", 1)
	return v1.Signal(v1.Signal_value["SIGNAL_"+name])
}

// rtmin is the first real-time signal that the C library leaves to programs; the last one is 64.
const rtmin, rtmax = 34, 64

func signalByNumber(n int) string {
	names := []string{
		"", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
		"STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
	}
	switch {
	case n > 0 && n < len(names):
		return names[n]
	case n == rtmin:
		return "RTMIN"
	case n == rtmax:
		return "RTMAX"
	case n > rtmin && n <= rtmin+15:
		return "RTMIN+" + strconv.Itoa(n-rtmin)
	case n > rtmin+15 && n < rtmax:
		return "RTMAX-" + strconv.Itoa(rtmax-n)
	}
	return ""
}

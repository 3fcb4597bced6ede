package cri

import (
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/oci/spec"
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

// The real-time signals that the C library leaves to programs (signal(7)), and the last that the CRI counts from the
// first of them.
const rtmin, rtmiddle, rtmax = 34, 49, 64

// signalOf is the enumeration's value of a signal, as images and requests write it. What it does not have is
// RUNTIME_DEFAULT.
func signalOf(text string) v1.Signal {
	n, err := spec.ParseSignal(text)
	if err != nil {
		return v1.Signal_SIGNAL_RUNTIME_DEFAULT
	}
	name := unix.SignalName(syscall.Signal(n))
	switch {
	case n == rtmin:
		name = "SIGRTMIN"
	case n == rtmax:
		name = "SIGRTMAX"
	case n > rtmin && n <= rtmiddle:
		name = "SIGRTMINPLUS" + strconv.Itoa(n-rtmin)
	case n > rtmiddle:
		name = "SIGRTMAXMINUS" + strconv.Itoa(rtmax-n)
	}
	return v1.Signal(v1.Signal_value["SIGNAL_"+name])
}

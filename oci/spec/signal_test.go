package spec

import (
	"testing"

	"github.com/containerd/errdefs"
)

func TestParseSignal(t *testing.T) {
	for s, want := range map[string]int{
		"TERM": 15, "sigkill": 9, "SIGUSR1": 10, "1": 1, "0": 0, "64": 64, "SIGRTMIN": 34, "rtmin+3": 37, "SIGRTMAX-1": 63, "SIGRTMAX": 64,
	} {
		if got, err := ParseSignal(s); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "65", "-1", "SIGNOPE", "RTMIN-1", "RTMAX+1", "RTMIN3", "RTMIN+x"} {
		if got, err := ParseSignal(s); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %d, %v; want an error", s, got, err)
		}
	}
}

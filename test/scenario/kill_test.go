package scenario_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/minirt/mini/internal/testenv"
)

// TestDaemonKilled kills minid while containers log, exit and start: none stops, no exit code and no line is lost.
func TestDaemonKilled(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	const n = 5
	count := "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo line $i; sleep 0.01; done; exit 7"
	for i := range n {
		d.Minictr("run", "-d", toolbox, fmt.Sprintf("count-%d", i), "sh", "-c", count)
	}
	for range 3 {
		d.Restart()
	}
	for i := range n {
		id := fmt.Sprintf("count-%d", i)
		if code := waitExit(t, d, id); code != 7 {
			t.Errorf("%s: exit code %d, want 7", id, code)
		}
		lines := strings.Split(strings.TrimSpace(d.Minictr("logs", id)), "\n")
		if len(lines) != 300 {
			t.Fatalf("%s: %d lines, want 300", id, len(lines))
		}
		for at, line := range lines {
			if want := fmt.Sprintf("line %d", at+1); line != want {
				t.Fatalf("%s: line %d is %q, want %q", id, at+1, line, want)
			}
		}
	}
}

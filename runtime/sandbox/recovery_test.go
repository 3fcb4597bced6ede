package sandbox

import (
	"testing"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

func TestDecide(t *testing.T) {
	running := &wire.Entry{State: "running"}
	paused := &wire.Entry{State: "paused"}
	exited := &wire.Entry{State: "exited", Exit: &wire.Exit{Code: 1}}
	file := &wire.Exit{Code: 2}
	for _, c := range []struct {
		state string
		found found
		want  Action
		code  int // of the exit; -1: none
	}{
		{"creating", found{}, ActionRemove, -1},
		{"creating", found{entry: running, alive: true}, ActionRemove, -1},
		{"removing", found{exit: file}, ActionRemove, -1},
		{"", found{entry: running, alive: true}, ActionRemove, -1},
		{"", found{alive: true}, ActionRemove, -1},
		{"running", found{entry: running, alive: true}, ActionKeep, -1},
		{"paused", found{entry: paused, alive: true}, ActionKeep, -1},
		{"running", found{entry: exited}, ActionExited, 1},
		{"running", found{entry: exited, exit: file}, ActionExited, 1},
		{"running", found{exit: file}, ActionExited, 2},
		{"running", found{exit: file, alive: true}, ActionExited, 2},
		{"running", found{alive: true}, ActionAdopt, -1},
		{"paused", found{alive: true}, ActionAdopt, -1},
		{"running", found{}, ActionExited, 255},
		{"paused", found{}, ActionExited, 255},
		{"created", found{}, ActionIdle, -1},
		{"created", found{entry: running, alive: true}, ActionKeep, -1},
		{"created", found{alive: true}, ActionAdopt, -1},
		{"created", found{exit: file}, ActionExited, 2},
		{"created", found{entry: exited}, ActionExited, 1},
		{"exited", found{exit: file}, ActionIdle, -1},
		{"exited", found{}, ActionIdle, -1},
		{"exited", found{entry: exited}, ActionExited, 1},
		{"exited", found{entry: running, alive: true}, ActionKeep, -1},
		{"exited", found{alive: true}, ActionAdopt, -1},
	} {
		action, exit := decide(c.state, c.found)
		code := -1
		if exit != nil {
			code = exit.Code
		}
		if action != c.want || code != c.code {
			t.Errorf("%s %+v: %s with code %d, want %s with %d", c.state, c.found, action, code, c.want, c.code)
		}
	}
}

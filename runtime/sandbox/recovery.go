package sandbox

import (
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// Known is what the daemon's records say of a container.
type Known struct {
	wire.Process
	Group     string // the wish that Start was given
	Dir       string // its bundle
	State     string // creating, created, running, paused, exited, removing
	PID       int
	StartTime uint64
}

// Action is what is to be done about a process after a restart of the daemon.
type Action string

// The actions.
const (
	ActionIdle   Action = "idle"   // it has no process, and needs none
	ActionKeep   Action = "keep"   // its supervisor has it
	ActionAdopt  Action = "adopt"  // it runs without a supervisor: a new one takes it over
	ActionExited Action = "exited" // it has ended, as Exit tells
	ActionRemove Action = "remove" // it was being made or removed, or nobody has a record of it: remove what is left
)

// Recovered is what has become of one process.
type Recovered struct {
	wire.Process
	Action      Action
	State       string // running or paused, with ActionKeep and ActionAdopt
	Dir         string
	PID         int
	StartTime   uint64
	CgroupPaths map[string]string
	Stdio       wire.Stdio
	Exit        *wire.Exit
	Err         error // it could not be recovered; its supervisor may answer later
}

// lost is the exit of a process that nobody saw end.
func lost() *wire.Exit {
	return &wire.Exit{Code: 255, Reason: "lost: it ended while neither the daemon nor a supervisor ran, and the kernel no longer tells how"}
}

// found is what there is of one process besides the daemon's record.
type found struct {
	entry *wire.Entry // of a supervisor that lives
	exit  *wire.Exit  // the exit file
	alive bool        // its process runs, by number and start time
}

// decide is the table of recovery. The rows are tried in order; state "" is a process without a record.
//
//	record              supervisor   exit file   process   action
//	creating, removing  any          any         any       remove
//	none                any          any         any       remove
//	any                 exited       any         any       exited, as the supervisor says
//	any                 running      any         any       keep
//	created, exited     none         any         dead      idle (exited with its exit file, when created)
//	any                 none         yes         any       exited, as the file says
//	any                 none         no          alive     adopt
//	running, paused     none         no          dead      exited, lost
func decide(state string, f found) (Action, *wire.Exit) {
	switch {
	case state == "creating" || state == "removing" || state == "":
		return ActionRemove, nil
	case f.entry != nil && f.entry.State == "exited":
		return ActionExited, f.entry.Exit
	case f.entry != nil:
		return ActionKeep, nil
	case state == "exited" && !f.alive:
		return ActionIdle, nil
	case f.exit != nil:
		return ActionExited, f.exit
	case f.alive:
		return ActionAdopt, nil
	case state == "created":
		return ActionIdle, nil
	}
	return ActionExited, lost()
}

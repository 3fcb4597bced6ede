package sandbox

import "github.com/minirt/mini/runtime/supervisor/wire"

// Alive says whether the process with this number still is the one that started at startTime (field 22 of
// /proc/PID/stat).
func Alive(pid int, startTime uint64) bool {
	return running(wire.Entry{PID: pid, StartTime: startTime})
}

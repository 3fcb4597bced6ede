package testenv

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// PSS is the proportional set size of a process in KiB (smaps_rollup, Linux 4.14); 0 when it is gone.
func PSS(pid int) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				return 0
			}
			return n
		}
	}
	return 0
}

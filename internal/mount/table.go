package mount

import (
	"bytes"
	"errors"
	"os"
	"strconv"
)

// mountPoints lists the mount points of this process's namespace, as /proc/self/mountinfo has them (proc(5)), in the
// order of their mounting. A line of it has no bound: an overlay of many layers names them all.
func mountPoints() ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseMountPoints(data)
}

// parseMountPoints takes the fifth field of each line.
func parseMountPoints(data []byte) ([]string, error) {
	var points []string
	for line := range bytes.Lines(data) {
		fields := bytes.SplitN(line, []byte{' '}, 6)
		if len(fields) < 6 {
			return nil, errors.New("/proc/self/mountinfo has a line of less than six fields")
		}
		points = append(points, unescape(fields[4]))
	}
	return points, nil
}

// unescape turns \ooo, which the kernel writes for blanks, tabs, line ends and backslashes, into the byte.
func unescape(field []byte) string {
	out := make([]byte, 0, len(field))
	for i := 0; i < len(field); i++ {
		if field[i] == '\\' && i+3 < len(field) {
			if n, err := strconv.ParseUint(string(field[i+1:i+4]), 8, 8); err == nil {
				out = append(out, byte(n))
				i += 3
				continue
			}
		}
		out = append(out, field[i])
	}
	return string(out)
}

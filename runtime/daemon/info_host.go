package daemon

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// machineMemory is the machine's memory in bytes; 0 where the kernel does not tell.
func machineMemory() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit)
}

func hostname() string {
	name, _ := os.Hostname() // empty where the kernel does not tell
	return name
}

// operatingSystem is what the distribution calls itself (os-release(5)); empty where it says nothing.
func operatingSystem() string {
	for _, path := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
				return strings.Trim(strings.TrimSpace(name), `"'`)
			}
		}
	}
	return ""
}

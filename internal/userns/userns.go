// Package userns tells whether this program runs in a user namespace, where root is not that of the machine.
package userns

import (
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
)

// Inside says whether the program's user namespace is another one than the first, which maps all ids to themselves.
func Inside() bool { return inside() }

var inside = sync.OnceValue(func() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && !isFirst(string(text))
})

// LastGroup is the last group of those from 0 on that the namespace has, at most 2147483647.
func LastGroup() int64 { return lastGroup() }

var lastGroup = sync.OnceValue(func() int64 {
	text, err := os.ReadFile("/proc/self/gid_map")
	if err != nil {
		return 0
	}
	return last(string(text))
})

// last reads /proc/PID/gid_map.
func last(text string) int64 {
	var next int64
	for line := range strings.Lines(text) { // the kernel keeps them in the order in which they were written
		var inside, outside, count int64
		if n, _ := fmt.Sscan(line, &inside, &outside, &count); n == 3 && inside == next {
			next += count
		}
	}
	return max(0, min(next-1, math.MaxInt32))
}

// isFirst reads /proc/PID/uid_map (user_namespaces(7)).
func isFirst(text string) bool { return strings.Join(strings.Fields(text), " ") == "0 0 4294967295" }

// Command nproc prints how many CPUs the process may use (its affinity, not its cgroup's quota).
package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func main() {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		fmt.Fprintln(os.Stderr, "nproc:", err)
		os.Exit(1)
	}
	fmt.Println(set.Count())
}

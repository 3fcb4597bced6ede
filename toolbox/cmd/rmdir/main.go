// Command rmdir removes empty directories; with -p their parents too.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

func main() {
	args := os.Args[1:]
	parents := len(args) > 0 && args[0] == "-p"
	if parents {
		args = args[1:]
	}
	status := 0
	for _, dir := range args {
		for {
			if err := unix.Rmdir(dir); err != nil {
				fmt.Fprintf(os.Stderr, "rmdir: %s: %v\n", dir, err)
				status = 1
				break
			}
			dir = filepath.Dir(dir)
			if !parents || dir == "." || dir == "/" {
				break
			}
		}
	}
	os.Exit(status)
}

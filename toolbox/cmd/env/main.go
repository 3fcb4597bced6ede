// Command env prints the environment, or runs a command in a changed one: env [-i] [-u NAME] [NAME=VALUE]… [COMMAND…].
package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

func main() {
	args := os.Args[1:]
	for len(args) > 0 {
		name, value, assignment := strings.Cut(args[0], "=")
		switch {
		case args[0] == "-i" || args[0] == "-":
			os.Clearenv()
		case args[0] == "-u" && len(args) > 1:
			args = args[1:]
			os.Unsetenv(args[0])
		case args[0] == "--":
		case assignment:
			os.Setenv(name, value)
		default:
			fmt.Fprintln(os.Stderr, "env:", run(args))
			os.Exit(127)
		}
		args = args[1:]
	}
	for _, e := range os.Environ() {
		fmt.Println(e)
	}
}

// run becomes the command; it returns only when it cannot.
func run(args []string) error {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	return syscall.Exec(path, args, os.Environ())
}

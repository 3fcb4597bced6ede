// Command kill sends a signal: kill [-TERM | -SIGTERM | -15 | -s NAME] PID…, kill -l. A negative PID is a process group.
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "kill:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	sig := unix.SIGTERM
	switch {
	case len(args) > 0 && args[0] == "-l":
		for s := syscall.Signal(1); s < 32; s++ {
			fmt.Printf("%2d %s\n", int(s), unix.SignalName(s))
		}
		return nil
	case len(args) > 1 && args[0] == "-s":
		args = append([]string{"-" + args[1]}, args[2:]...)
		fallthrough
	case len(args) > 1 && strings.HasPrefix(args[0], "-") && args[0] != "--":
		var err error
		if sig, err = parse(args[0][1:]); err != nil {
			return err
		}
		args = args[1:]
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return fmt.Errorf("which process?")
	}
	for _, arg := range args {
		pid, err := strconv.Atoi(arg)
		if err != nil {
			return fmt.Errorf("%s: not a process number", arg)
		}
		if err := unix.Kill(pid, sig); err != nil {
			return fmt.Errorf("process %d: %w", pid, err)
		}
	}
	return nil
}

func parse(name string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(name); err == nil && n >= 0 && n < 65 {
		return syscall.Signal(n), nil
	}
	sig := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(name), "SIG"))
	if sig == 0 {
		return 0, fmt.Errorf("%s: no such signal", name)
	}
	return sig, nil
}

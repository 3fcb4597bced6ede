package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"mvdan.cc/sh/v3/syntax"
)

// traps are the commands that signals run. As POSIX has it, they run between commands: a trap waits for the command in
// the foreground.
type traps struct {
	mu      sync.Mutex
	actions map[syscall.Signal]string // an empty one ignores the signal
	pending []syscall.Signal
	signals chan os.Signal
	fatal   []syscall.Signal // those that end the shell when they have no action
}

func newTraps() *traps {
	t := &traps{actions: map[syscall.Signal]string{}, signals: make(chan os.Signal, 16)}
	go t.collect()
	return t
}

// exitOnUntrapped ends the shell with 128 plus the signal, also as process 1, for which the kernel has no default.
func (t *traps) exitOnUntrapped() {
	t.mu.Lock()
	t.fatal = []syscall.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGTERM}
	t.mu.Unlock()
	signal.Notify(t.signals, unix.SIGHUP, unix.SIGINT, unix.SIGTERM)
}

func (t *traps) collect() {
	for s := range t.signals {
		sig, ok := s.(syscall.Signal)
		if !ok {
			continue
		}
		t.mu.Lock()
		action, trapped := t.actions[sig]
		switch {
		case trapped && action != "":
			t.pending = append(t.pending, sig)
		case !trapped && slices.Contains(t.fatal, sig):
			os.Exit(128 + int(sig))
		}
		t.mu.Unlock()
	}
}

// call sees every simple command before it runs: it takes the signals out of a trap command, and puts the actions that
// are due in front of others.
func (t *traps) call(_ context.Context, args []string) ([]string, error) {
	switch {
	case args[0] == "trap" && len(args) > 1:
		return t.set(args[1:]), nil
	case args[0] == "umask":
		return umask(args[1:]), nil
	case args[0] == "kill":
		// The interpreter has the name and no such builtin.
		args = append([]string{"/bin/kill"}, args[1:]...)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.pending) == 0 {
		return args, nil
	}
	var due []string
	for _, sig := range t.pending {
		due = append(due, t.actions[sig])
	}
	t.pending = nil
	quoted := make([]string, len(args))
	for i, arg := range args {
		q, err := syntax.Quote(arg, syntax.LangBash)
		if err != nil {
			return nil, err
		}
		quoted[i] = q
	}
	return []string{"eval", strings.Join(append(due, strings.Join(quoted, " ")), "\n")}, nil
}

// set applies "trap ACTION SIGNAL…" and returns the command that is left for the interpreter, which knows EXIT and ERR.
func (t *traps) set(args []string) []string {
	if args[0] == "--" {
		args = args[1:]
	}
	action, names := "-", args
	if len(args) > 1 {
		action, names = args[0], args[1:]
	}
	rest := []string{"trap", action}
	for _, name := range names {
		switch name {
		case "EXIT", "0":
			rest = append(rest, "EXIT")
			continue
		case "ERR":
			rest = append(rest, "ERR")
			continue
		}
		sig := signalOf(name)
		if sig == 0 {
			fmt.Fprintf(os.Stderr, "trap: %s: no such signal\n", name)
			return []string{"false"}
		}
		t.apply(sig, action)
	}
	if len(rest) == 2 {
		return []string{"true"}
	}
	return rest
}

func (t *traps) apply(sig syscall.Signal, action string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if action != "-" {
		t.actions[sig] = action
		signal.Notify(t.signals, sig)
		return
	}
	delete(t.actions, sig)
	if !slices.Contains(t.fatal, sig) {
		signal.Reset(sig)
	}
}

// signalOf knows TERM, SIGTERM and 15.
func signalOf(name string) syscall.Signal {
	if n, err := strconv.Atoi(name); err == nil && n > 0 && n < 65 {
		return syscall.Signal(n)
	}
	return unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(name), "SIG"))
}

// umask shows or sets the mask, which the interpreter has no builtin for.
func umask(args []string) []string {
	if len(args) == 0 {
		old := unix.Umask(0)
		unix.Umask(old)
		return []string{"printf", "%s\\n", fmt.Sprintf("%04o", old)}
	}
	mask, err := strconv.ParseUint(args[0], 8, 9)
	if err != nil {
		fmt.Fprintf(os.Stderr, "umask: %s: want an octal number\n", args[0])
		return []string{"false"}
	}
	unix.Umask(int(mask))
	return []string{"true"}
}

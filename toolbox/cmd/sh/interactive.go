package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// interact reads commands at a prompt until exit or the end of the input. Ctrl-C stops the command, or clears the line.
func interact(runner *interp.Runner) int {
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT)
	input := newLines()
	status := 0
	for {
		stmts, err := input.statements(prompt(runner))
		if errors.Is(err, io.EOF) {
			return status
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "sh:", err)
			status = 2
			continue
		}
		for _, stmt := range stmts {
			status = runInterruptible(runner, stmt, interrupts)
			if runner.Exited() {
				return status
			}
			if status == 130 {
				break
			}
		}
	}
}

func runInterruptible(runner *interp.Runner, stmt *syntax.Stmt, interrupts <-chan os.Signal) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case s := <-interrupts:
				if s == unix.SIGINT {
					cancel()
				}
			}
		}
	}()
	return exitStatus(runner.Run(ctx, stmt))
}

func prompt(runner *interp.Runner) string {
	if os.Getuid() == 0 {
		return runner.Dir + " # "
	}
	return runner.Dir + " $ "
}

// lines reads edited lines from a terminal, or plain ones from anything else.
type lines struct {
	terminal *term.Terminal
	plain    io.Reader
}

func newLines() *lines {
	if !term.IsTerminal(0) {
		return &lines{plain: os.Stdin}
	}
	stdio := struct {
		io.Reader
		io.Writer
	}{interruptible{os.Stdin}, os.Stdout}
	return &lines{terminal: term.NewTerminal(stdio, "")}
}

// statements reads lines until they are whole statements.
func (l *lines) statements(prompt string) ([]*syntax.Stmt, error) {
	var text strings.Builder
	for {
		line, err := l.line(prompt)
		if err != nil {
			return nil, err
		}
		text.WriteString(line)
		text.WriteByte('\n')
		file, err := syntax.NewParser().Parse(strings.NewReader(text.String()), "")
		switch {
		case err == nil:
			return file.Stmts, nil
		case syntax.IsIncomplete(err):
			prompt = "> "
		default:
			return nil, err
		}
	}
}

func (l *lines) line(prompt string) (string, error) {
	if l.terminal == nil {
		fmt.Print(prompt)
		return readLine(l.plain)
	}
	state, err := term.MakeRaw(0)
	if err != nil {
		return "", err
	}
	defer func() { _ = term.Restore(0, state) }()
	if width, height, err := term.GetSize(0); err == nil && width > 0 {
		_ = l.terminal.SetSize(width, height)
	}
	l.terminal.SetPrompt(prompt)
	return l.terminal.ReadLine()
}

// readLine reads byte by byte, so that what follows is left for the commands.
func readLine(r io.Reader) (string, error) {
	var line []byte
	one := make([]byte, 1)
	for {
		n, err := r.Read(one)
		if n == 1 && one[0] == '\n' {
			return string(line), nil
		}
		line = append(line, one[:n]...)
		if err != nil {
			if len(line) > 0 && errors.Is(err, io.EOF) {
				return string(line), nil
			}
			return "", err
		}
	}
}

// interruptible turns Ctrl-C, which the line editor takes for the end, into "clear the line, and enter". It reads one
// byte at a time, so that what is typed ahead is left for the command that runs next.
type interruptible struct{ r io.Reader }

func (i interruptible) Read(p []byte) (int, error) {
	const ctrlC, ctrlU, enter = 3, 21, 13
	if len(p) < 2 {
		return i.r.Read(p)
	}
	n, err := i.r.Read(p[:1])
	if n == 1 && p[0] == ctrlC {
		p[0], p[1] = ctrlU, enter
		return 2, nil
	}
	return n, err
}

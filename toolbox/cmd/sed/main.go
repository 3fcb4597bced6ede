// Command sed edits lines with a small part of sed: [ADDRESS[,ADDRESS]] s/RE/TEXT/[gip], p, d and q, with -n, -i, -e and -E.
// Regular expressions are Go's in both modes.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sed:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	var quiet, inPlace bool
	var text []string
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		switch {
		case args[0] == "-e" && len(args) > 1:
			text = append(text, args[1])
			args = args[1:]
		case args[0] == "-n":
			quiet = true
		case args[0] == "-i":
			inPlace = true
		case args[0] == "-E" || args[0] == "-r":
		default:
			return fmt.Errorf("%s: not an option; there are -n -i -E and -e SCRIPT", args[0])
		}
		args = args[1:]
	}
	if text == nil {
		if len(args) == 0 {
			return fmt.Errorf("usage: sed [-n] [-i] [-E] [-e] SCRIPT [FILE…]")
		}
		text, args = args[:1], args[1:]
	}
	program, err := compile(strings.Join(text, "\n"))
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return program.edit(os.Stdin, os.Stdout, quiet)
	}
	for _, name := range args {
		if err := editFile(program, name, quiet, inPlace); err != nil {
			return err
		}
	}
	return nil
}

func editFile(p script, name string, quiet, inPlace bool) error {
	in, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if !inPlace {
		return p.edit(bytes.NewReader(in), os.Stdout, quiet)
	}
	var out bytes.Buffer
	if err := p.edit(bytes.NewReader(in), &out, quiet); err != nil {
		return err
	}
	return os.WriteFile(name, out.Bytes(), 0o644)
}

// edit runs the script over every line.
func (p script) edit(r io.Reader, w io.Writer, quiet bool) error {
	out := bufio.NewWriter(w)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	number := 0
	more := lines.Scan()
	for more {
		line := lines.Text()
		more = lines.Scan()
		number++
		deleted, quit := false, false
		for i := range p {
			if !p[i].applies(number, line, !more) {
				continue
			}
			var print bool
			line, print, deleted, quit = p[i].run(line)
			if print {
				fmt.Fprintln(out, line)
			}
			if deleted || quit {
				break
			}
		}
		if !deleted && !quiet {
			fmt.Fprintln(out, line)
		}
		if quit {
			break
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return out.Flush()
}

// Command head prints the beginning of files: head [-n LINES | -LINES | -c BYTES] [-q] [FILE…].
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/minirt/mini/toolbox/internal/getopt"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "head:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && args[0][1] >= '0' && args[0][1] <= '9' {
		args = append([]string{"-n", args[0][1:]}, args[1:]...)
	}
	given, files, err := getopt.Parse("n:c:q", args)
	if err != nil {
		return err
	}
	count, bytes, quiet := int64(10), false, false
	for _, g := range given {
		if g.Letter == 'q' {
			quiet = true
			continue
		}
		bytes = g.Letter == 'c'
		if count, err = strconv.ParseInt(g.Value, 10, 64); err != nil {
			return err
		}
	}
	if len(files) == 0 {
		return print(os.Stdin, count, bytes)
	}
	for _, name := range files {
		if len(files) > 1 && !quiet {
			fmt.Printf("==> %s <==\n", name)
		}
		if err := printFile(name, count, bytes); err != nil {
			return err
		}
	}
	return nil
}

func printFile(name string, count int64, bytes bool) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return print(f, count, bytes)
}

func print(r io.Reader, count int64, bytes bool) error {
	if bytes {
		_, err := io.CopyN(os.Stdout, r, count)
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	lines := bufio.NewReader(r)
	for range count {
		line, err := lines.ReadString('\n')
		if _, err := io.WriteString(os.Stdout, line); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

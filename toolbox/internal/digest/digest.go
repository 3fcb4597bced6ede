// Package digest prints and checks the sums of files, for the commands named after their hash.
package digest

import (
	"bufio"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"
)

// Main is a whole command: [-c] [FILE…].
func Main(newHash func() hash.Hash, args []string) int {
	check := len(args) > 0 && args[0] == "-c"
	if check {
		args = args[1:]
	}
	if len(args) == 0 {
		args = []string{"-"}
	}
	status := 0
	for _, name := range args {
		var err error
		if check {
			err = verify(newHash, name)
		} else {
			var sum string
			if sum, err = sumOf(newHash(), name); err == nil {
				fmt.Printf("%s  %s\n", sum, name)
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
	}
	return status
}

func open(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(os.Stdin), nil
	}
	return os.Open(name)
}

func sumOf(h hash.Hash, name string) (string, error) {
	f, err := open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

func verify(newHash func() hash.Hash, list string) error {
	f, err := open(list)
	if err != nil {
		return err
	}
	defer f.Close()
	bad := 0
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		want, name, ok := strings.Cut(lines.Text(), " ")
		if !ok {
			continue
		}
		name = strings.TrimLeft(name, " *")
		got, err := sumOf(newHash(), name)
		switch {
		case err != nil:
			fmt.Fprintln(os.Stderr, err)
			bad++
		case got != want:
			fmt.Println(name + ": FAILED")
			bad++
		default:
			fmt.Println(name + ": OK")
		}
	}
	if bad > 0 {
		return fmt.Errorf("%s: %d files differ", list, bad)
	}
	return lines.Err()
}

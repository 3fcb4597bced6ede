// Command stty shows and sets a terminal: size, -a, rows N, cols N, raw, sane, echo and -echo.
package main

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "stty:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	if err != nil {
		return fmt.Errorf("standard input is not a terminal: %w", err)
	}
	if len(args) == 0 {
		args = []string{"-a"}
	}
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "size":
			fmt.Println(size.Row, size.Col)
		case "rows", "cols", "columns":
			if i+1 == len(args) {
				return fmt.Errorf("%s: how many?", args[i])
			}
			n, err := strconv.ParseUint(args[i+1], 10, 16)
			if err != nil {
				return err
			}
			if args[i] == "rows" {
				size.Row = uint16(n)
			} else {
				size.Col = uint16(n)
			}
			i++
			if err := unix.IoctlSetWinsize(0, unix.TIOCSWINSZ, size); err != nil {
				return err
			}
		default:
			if err := mode(args[i], size); err != nil {
				return err
			}
		}
	}
	return nil
}

const (
	cooked  = unix.ICANON | unix.ISIG | unix.IEXTEN
	echoing = unix.ECHO | unix.ECHOE | unix.ECHOK
)

func mode(word string, size *unix.Winsize) error {
	t, err := unix.IoctlGetTermios(0, unix.TCGETS)
	if err != nil {
		return err
	}
	switch word {
	case "-a":
		fmt.Printf("rows %d; columns %d; echo %v; icanon %v; isig %v; opost %v\n", size.Row, size.Col,
			t.Lflag&unix.ECHO != 0, t.Lflag&unix.ICANON != 0, t.Lflag&unix.ISIG != 0, t.Oflag&unix.OPOST != 0)
		return nil
	case "echo":
		t.Lflag |= echoing
	case "-echo":
		t.Lflag &^= unix.ECHO
	case "raw":
		t.Lflag &^= cooked
		t.Iflag &^= unix.ICRNL | unix.IXON
		t.Oflag &^= unix.OPOST
	case "sane":
		t.Lflag |= cooked | echoing
		t.Iflag |= unix.ICRNL | unix.IXON
		t.Oflag |= unix.OPOST | unix.ONLCR
	default:
		return fmt.Errorf("%s: not one of size, -a, rows, cols, raw, sane, echo, -echo", word)
	}
	return unix.IoctlSetTermios(0, unix.TCSETS, t)
}

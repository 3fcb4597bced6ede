package cli

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/containerd/console"

	"github.com/minirt/mini/runtime/client"
)

// Terminal is this program's own terminal, in raw mode until it is restored.
type Terminal struct {
	Changes <-chan client.Size // the sizes that it is given

	console console.Console
	winch   chan os.Signal
}

// RawTerminal puts the terminal of the standard input in raw mode, in which every key goes to the process. It returns nil
// when the standard input is none.
func RawTerminal() (*Terminal, error) {
	term, err := console.ConsoleFromFile(os.Stdin)
	if err != nil {
		return nil, nil
	}
	// The process's terminal has made carriage returns of its newlines already.
	if err := errors.Join(term.SetRaw(), console.ClearONLCR(os.Stdin.Fd())); err != nil {
		_ = term.Reset() // half of it may have been done
		return nil, fmt.Errorf("put the terminal in raw mode: %w", err)
	}
	sizes := make(chan client.Size, 1)
	t := &Terminal{Changes: sizes, console: term, winch: make(chan os.Signal, 1)}
	signal.Notify(t.winch, syscall.SIGWINCH)
	go func() {
		for range t.winch {
			if size := t.Size(); size.Width > 0 {
				sizes <- size
			}
		}
	}()
	return t, nil
}

// Size is the terminal's now; zero when it has none.
func (t *Terminal) Size() client.Size {
	size, err := t.console.Size()
	if err != nil {
		return client.Size{}
	}
	return client.Size{Width: uint32(size.Width), Height: uint32(size.Height)}
}

// Restore ends the raw mode.
func (t *Terminal) Restore() {
	signal.Stop(t.winch)
	close(t.winch)
	_ = t.console.Reset() // the program ends now, or goes on with the terminal as it is
}

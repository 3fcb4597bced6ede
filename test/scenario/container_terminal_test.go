package scenario_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/console"

	"github.com/minirt/mini/internal/testenv"
)

// screen is a program, minictr most of the time, on a terminal of its own, as a person has it before them.
type screen struct {
	t      *testing.T
	cmd    *exec.Cmd
	master console.Console
	mu     sync.Mutex
	all    strings.Builder
	ended  chan struct{} // closed when what it wrote is read to the end
}

// show starts minictr on a terminal of this size.
func show(t *testing.T, d *testenv.DaemonProcess, width, height uint16, args ...string) *screen {
	t.Helper()
	return showProgram(t, width, height, testenv.Binary(t, "minictr"), append([]string{"--address", d.Address}, args...)...)
}

// showProgram starts any program on a terminal of this size.
func showProgram(t *testing.T, width, height uint16, program string, args ...string) *screen {
	t.Helper()
	master, name, err := console.NewPty()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() }) // it may be closed already
	s := &screen{t: t, master: master, ended: make(chan struct{})}
	s.resize(width, height)
	slave, err := os.OpenFile(name, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	s.cmd = exec.CommandContext(t.Context(), program, args...)
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = slave, slave, slave
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go s.read()
	return s
}

func (s *screen) read() {
	defer close(s.ended)
	buffer := make([]byte, 64<<10)
	for {
		n, err := s.master.Read(buffer) // EIO when minictr has ended
		s.mu.Lock()
		s.all.Write(buffer[:n])
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *screen) resize(width, height uint16) {
	s.t.Helper()
	if err := s.master.Resize(console.WinSize{Width: width, Height: height}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

func (s *screen) typed(text string) {
	s.t.Helper()
	if _, err := s.master.Write([]byte(text)); err != nil {
		s.t.Fatal(err)
	}
}

// sees waits until the text has been shown.
func (s *screen) sees(text string) {
	s.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(s.text(), text) {
		if time.Now().After(deadline) {
			s.t.Fatalf("not shown within 10 s: %q; there is:\n%q", text, s.text())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// code waits for minictr's end.
func (s *screen) code() int {
	s.t.Helper()
	_ = s.cmd.Wait() // its code tells
	<-s.ended
	return s.cmd.ProcessState.ExitCode()
}

// TestTerminal runs a shell on a terminal: its size follows the person's, typed text arrives, its code is minictr's.
func TestTerminal(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	for _, kind := range []string{"run", "exec"} {
		t.Run(kind, func(t *testing.T) {
			args := []string{"run", "--rm", "-t", toolbox, "shell", "sh", "-c"}
			if kind == "exec" {
				d.In(t).Minictr("run", "-d", toolbox, "up", "sleep", "600")
				args = []string{"exec", "-t", "up", "sh", "-c"}
			}
			s := show(t, d.In(t), 81, 25, append(args, "tty; stty size; echo err >&2; while read line; do echo \"<$line>\"; stty size; done; exit 6")...)
			s.sees("/dev/pts/")
			s.sees("25 81")
			s.sees("err\r\n")
			s.resize(133, 44)
			testenv.Eventually(t, 10*time.Second, "the size follows", func() bool {
				s.typed("a word\r")
				time.Sleep(20 * time.Millisecond) // for the shell to answer
				return strings.Contains(s.text(), "44 133\r\n")
			})
			s.sees("<a word>\r\n44 133\r\n")
			s.typed("\x04") // end of file
			if code := s.code(); code != 6 {
				t.Errorf("code %d:\n%s", code, s.text())
			}
		})
	}
}

// TestInterruptKey types ctrl-c to a process on a terminal: the process gets the signal, not minictr.
func TestInterruptKey(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	s := show(t, d, 80, 25, "run", "--rm", "-t", toolbox, "shell", "sh", "-c", "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.02; done")
	s.sees("ready")
	s.typed("\x03")
	s.sees("caught")
	if code := s.code(); code != 5 {
		t.Errorf("code %d:\n%s", code, s.text())
	}
}

// TestDetachKeys leaves a container by keys, finds it running, and joins it again.
func TestDetachKeys(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	for i, keys := range []struct{ flag, typed string }{{"", "\x10\x11"}, {"ctrl-a,q", "\x01q"}} {
		id := fmt.Sprintf("shell-%d", i)
		var flags []string
		if keys.flag != "" {
			flags = []string{"--detach-keys", keys.flag}
		}
		script := "while read line; do echo \"<$line>\"; done; exit 4"
		s := show(t, d, 80, 25, append(append([]string{"run", "-t"}, flags...), toolbox, id, "sh", "-c", script)...)
		s.typed("one\r")
		s.sees("<one>")
		s.typed(keys.typed)
		if code := s.code(); code != 0 {
			t.Errorf("detached with code %d:\n%s", code, s.text())
		}
		if c := inspect(t, d, id); c.State != "running" {
			t.Fatalf("after detaching it is %s", c.State)
		}
		s = show(t, d, 80, 25, append(append([]string{"tasks", "attach"}, flags...), id)...)
		testenv.Eventually(t, 10*time.Second, "typed text comes back after attaching again", func() bool {
			s.typed("two\r")
			time.Sleep(20 * time.Millisecond) // for the shell to answer
			return strings.Contains(s.text(), "<two>")
		})
		s.typed("\x04")
		if code := s.code(); code != 4 {
			t.Errorf("code %d:\n%s", code, s.text())
		}
	}
}

// TestSeveralAttachments joins a container with three clients, of which one leaves and one is killed.
func TestSeveralAttachments(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	d.Minictr("run", "-d", "-t", toolbox, "shared", "sh", "-c", "while read line; do echo \"<$line>\"; done; exit 4")
	var all []*screen
	for i := range 3 {
		s := show(t, d, 80, 25, "tasks", "attach", "shared")
		word := fmt.Sprintf("word-%d", i)
		testenv.Eventually(t, 10*time.Second, "one more is attached", func() bool {
			s.typed(word + "\r")
			time.Sleep(20 * time.Millisecond) // for the shell to answer
			return strings.Contains(s.text(), "<"+word+">")
		})
		all = append(all, s)
	}
	all[0].typed("from the first\r")
	for _, s := range all {
		s.sees("<from the first>")
	}
	all[0].typed("\x10\x11")
	if code := all[0].code(); code != 0 {
		t.Errorf("detached with code %d", code)
	}
	if err := all[1].cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	all[1].code()
	all[2].typed("from the last\r")
	all[2].sees("<from the last>")
	for _, s := range all[:2] {
		if strings.Contains(s.text(), "from the last") {
			t.Error("one that has left sees more")
		}
	}
	all[2].typed("\x04")
	if code := all[2].code(); code != 4 {
		t.Errorf("code %d", code)
	}
	if log := d.Minictr("logs", "shared"); !strings.Contains(log, "<from the first>") || !strings.Contains(log, "<from the last>") {
		t.Errorf("the log does not have all:\n%s", log)
	}
}

package scenario_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// upgrade replaces the supervisor's program and looks that it is the same process, of a later generation.
func upgrade(t *testing.T, d *testenv.DaemonProcess) {
	t.Helper()
	before, generation := d.Supervisors(), generationOf(t, d)
	out, err := exec.CommandContext(t.Context(), testenv.Binary(t, "minid"), "--config", d.Config, "upgrade-supervisor").CombinedOutput()
	if err != nil {
		t.Fatalf("upgrade-supervisor: %v: %s\nlog of minid:\n%s", err, out, d.Log())
	}
	after := d.Supervisors()
	if len(after) != 1 || after[0] != before[0] || !strings.Contains(string(out), fmt.Sprintf("process %d,", before[0])) {
		t.Errorf("supervisors before %v, after %v; it says: %s", before, after, out)
	}
	// It is of the version that the daemon is of, built together with it.
	version := minidVersion(t)
	if !strings.Contains(string(out), "version "+version) {
		t.Errorf("the new program is not of version %s: %s", version, out)
	}
	if now := generationOf(t, d); now != generation+1 {
		t.Errorf("the generation after %d is %d", generation, now)
	}
}

// generationOf is how often the supervisor has replaced itself, by its log.
func generationOf(t *testing.T, d *testenv.DaemonProcess) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(d.State, "supervisor/node/log"))
	if err != nil {
		t.Fatal(err)
	}
	all := regexp.MustCompile(`msg="supervisor serves".* generation=(\d+)`).FindAllStringSubmatch(string(data), -1)
	if len(all) == 0 {
		t.Fatalf("the supervisor's log:\n%s", data)
	}
	n := -1
	if _, err := fmt.Sscan(all[len(all)-1][1], &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestUpgrade replaces the supervisor's program under a container on a terminal that somebody looks at and types into,
// and under others that log: not a byte is lost, and exits are still seen.
func TestUpgrade(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	rootfs := probeRootfs(t)
	s := show(t, d, 80, 25, "run", "-t", "--rootfs", rootfs, "seen", "/probe", "ticks", "7")
	s.sees("0000010\r\n")
	for i := range 5 {
		d.Minictr("run", "-d", "--rootfs", rootfs, fmt.Sprintf("logs-%d", i), "/probe", "ticks", "8")
	}
	before := containers(t, d)

	var typing sync.WaitGroup
	stop := make(chan struct{})
	typed := 0
	typing.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(3 * time.Millisecond): // as fast as a person at the best
				s.typed(fmt.Sprintf("word-%d\r", typed))
				typed++
			}
		}
	})
	for range 3 {
		upgrade(t, d)
	}
	close(stop)
	typing.Wait()
	s.sees(fmt.Sprintf("got word-%d\r\n", typed-1))
	s.resize(100, 30)
	if out := d.Minictr("exec", "seen", "/probe", "lines", "1"); out != "0000000\n" {
		t.Errorf("exec after the upgrade: %q", out)
	}
	for id, c := range containers(t, d) {
		if c.State != "running" || c.PID != before[id].PID {
			t.Errorf("%s is %s as process %d, it was %d", id, c.State, c.PID, before[id].PID)
		}
		signalTo(t, c.PID, syscall.SIGUSR1)
	}
	if code := s.code(); code != 7 {
		t.Errorf("code %d", code)
	}
	wholeScreen(t, s.text(), typed)
	for i := range 5 {
		id := fmt.Sprintf("logs-%d", i)
		if code := waitExit(t, d, id); code != 8 {
			t.Errorf("%s: code %d", id, code)
		}
		numbers, end := numbered(t, d.Minictr("logs", id))
		if lost, _ := gaps(numbers); len(lost) > 0 || end != len(numbers) {
			t.Errorf("%s: %d lines of %d, without %v", id, len(numbers), end, lost)
		}
	}
}

// wholeScreen wants every line of the probe and the answer to every typed word, once and in order.
func wholeScreen(t *testing.T, text string, typed int) {
	t.Helper()
	var answers, rest []string
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\r\n"), "\r\n") {
		if strings.HasPrefix(line, "got ") {
			answers = append(answers, line)
		} else {
			rest = append(rest, line)
		}
	}
	for i, answer := range answers {
		if want := fmt.Sprintf("got word-%d", i); answer != want {
			t.Errorf("answer %d is %q", i, answer)
			break
		}
	}
	if len(answers) != typed {
		t.Errorf("%d answers to %d words", len(answers), typed)
	}
	numbers, end := numbered(t, strings.Join(rest, "\n"))
	if lost, _ := gaps(numbers); len(lost) > 0 || end != len(numbers) {
		t.Errorf("on the screen are %d lines of %d, without %v", len(numbers), end, lost)
	}
}

// TestUpgradeThenCrash kills the daemon, and then the supervisor, after an upgrade: nothing depends on what came before.
func TestUpgradeThenCrash(t *testing.T) {
	h := newHerd(t)
	upgrade(t, h.d)
	h.d.Restart()
	h.end(h.some(0))
	h.ended(h.some(0), false)
	h.logged(h.some(0), 0)
	upgrade(t, h.d)
	h.killSupervisor()
	left := append(append(h.some(1), h.some(2)...), h.some(3)...)
	h.runs(left)
	h.finish(left, readChunk)
}

// minidVersion is the second word of "minid version".
func minidVersion(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), testenv.Binary(t, "minid"), "version").Output()
	if words := strings.Fields(string(out)); err == nil && len(words) > 1 {
		return words[1]
	}
	t.Fatalf("minid version: %s %v", out, err)
	return ""
}

package scenario_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// numbered reads the lines of the probe: their numbers in order, and N of a last "end N", -1 without one. A line that is
// neither, and one that is repeated, is an error.
func numbered(t *testing.T, text string) (numbers []int, end int) {
	t.Helper()
	end = -1
	last := -1
	for _, line := range lines(text) {
		if rest, ok := strings.CutPrefix(line, "end "); ok {
			n, err := strconv.Atoi(rest)
			if err != nil || end >= 0 {
				t.Errorf("a wrong last line: %q", line)
			}
			end = n
			continue
		}
		n, err := strconv.Atoi(line)
		if err != nil || len(line) != 7 || end >= 0 {
			t.Errorf("not a line of the probe: %q, after %d", line, last)
			continue
		}
		if n <= last {
			t.Errorf("line %d comes after line %d", n, last)
		}
		last = n
		numbers = append(numbers, n)
	}
	return numbers, end
}

// gaps tells which numbers are missing, from 0 on.
func gaps(numbers []int) (gaps []string, missing int) {
	next := 0
	for _, n := range numbers {
		if n > next {
			gaps = append(gaps, fmt.Sprintf("%d-%d", next, n-1))
			missing += n - next
		}
		next = n + 1
	}
	return gaps, missing
}

// TestLogsAcrossRotation follows a log whose file is rotated several times a second: no line is lost, none repeated.
func TestLogsAcrossRotation(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	rootfs := probeRootfs(t)
	for _, driver := range []string{"json-file", "cri"} {
		d.Minictr("run", "-d", "--rootfs", "--log-driver", driver, "--log-max-size", "16KiB", "--log-max-files", "4", rootfs, driver, "/probe", "ticks", "3")
	}
	followers := map[string]*running{}
	for _, driver := range []string{"json-file", "cri"} {
		followers[driver] = begin(t, d, "logs", "-f", driver)
	}
	for driver, follower := range followers {
		testenv.Eventually(t, 20*time.Second, "1,500 lines are followed", func() bool { return strings.Contains(follower.said(), "\n0001500\n") })
		signalTo(t, inspect(t, d, driver).PID, syscall.SIGUSR1)
		if err := follower.Wait(); err != nil {
			t.Errorf("%s: logs -f: %v", driver, err)
		}
		numbers, end := numbered(t, follower.said())
		if lost, _ := gaps(numbers); len(lost) > 0 || end != len(numbers) || end < 1500 {
			t.Errorf("%s: followed %d lines of %d, without %v", driver, len(numbers), end, lost)
		}
		rotatedFiles(t, d, driver, end)
	}
}

// rotatedFiles looks at the files of a log, of at most 4 times 16 KiB.
func rotatedFiles(t *testing.T, d *testenv.DaemonProcess, id string, end int) {
	t.Helper()
	path := inspect(t, d, id).LogPath
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) != 4 {
		t.Errorf("%s: log files %v, want 4: %v", id, files, err)
	}
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || info.Size() > 17<<10 {
			t.Errorf("%s: %d bytes: %v", file, info.Size(), err)
		}
	}
	numbers, last := numbered(t, d.Minictr("logs", id))
	if len(numbers) == 0 || last != end || numbers[len(numbers)-1] != end-1 || numbers[len(numbers)-1]-numbers[0] != len(numbers)-1 {
		t.Errorf("%s: what is kept is not the last of the log: %d lines", id, len(numbers))
	}
}

// TestLogs prints parts of a log.
func TestLogs(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	long := strings.Repeat("x", 40000)
	script := "echo one; echo two >&2; printf %040000d 0 | tr 0 x; echo; printf unended"
	for _, driver := range []string{"json-file", "cri"} {
		d.Minictr("run", "-d", "--log-driver", driver, toolbox, driver, "sh", "-c", script)
		waitExit(t, d, driver)
		o := d.Try("logs", driver)
		unended := map[string]string{"json-file": "unended", "cri": "unended\n"}[driver] // which CRI's format cannot tell
		if want := "one\n" + long + "\n" + unended; o.Stdout != want || o.Stderr != "two\n" {
			t.Errorf("%s: %d bytes, want %d; %q", driver, len(o.Stdout), len(want), o.Stderr)
		}
		if out := d.Minictr("logs", "--tail", "1", driver); out != unended {
			t.Errorf("%s: the last line is %q", driver, out)
		}
		if out := d.Minictr("logs", "-f", "-t", "--tail", "1", driver); !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\S* unended`).MatchString(out) {
			t.Errorf("%s: with its time: %q", driver, out)
		}
		if out := d.Minictr("logs", "--since", "0.000001s", driver); out != "" {
			t.Errorf("%s: lines of the last microsecond: %q", driver, out)
		}
	}
	path := filepath.Join(testenv.Dir(t), "its.log")
	d.Minictr("run", "-d", "--log-path", path, toolbox, "elsewhere", "echo", "there")
	waitExit(t, d, "elsewhere")
	if data, err := os.ReadFile(path); err != nil || !strings.Contains(string(data), `"log":"there\n"`) || d.Minictr("logs", "elsewhere") != "there\n" {
		t.Errorf("a log at a path: %s %v", data, err)
	}
	d.Minictr("run", "-d", "--null-io", toolbox, "none", "echo", "nothing")
	refused(t, d.Try("logs", "none"), "none", "no log")
	refused(t, d.Try("run", "--log-driver", "paper", toolbox, "bad", "true"), "paper", "json-file")
	refused(t, d.Try("logs", "nobody"), "nobody")
}

package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// patience is for everything, on a busy machine: more than the tests give themselves there. It takes a minute on two idle cores.
const patience = 10 * time.Minute

// TestMachine boots the machine with AppArmor, and shows its tests as parts of this one.
func TestMachine(t *testing.T) {
	parts := 5
	if _, err := os.Stat("/lib/systemd/systemd"); err != nil {
		parts--
		t.Run("Systemd", func(t *testing.T) { t.Skip("needs systemd, which is not installed (make deps-test)") })
	}
	runMachine(t, "apparmor", parts)
}

// TestMachineSELinux boots the machine with SELinux, and a policy that keeps containers in.
func TestMachineSELinux(t *testing.T) {
	testenv.Need(t, "checkpolicy")
	runMachine(t, "selinux", 1)
}

// runMachine boots the machine with a security module; so many times it runs a program of tests.
func runMachine(t *testing.T, security string, parts int) {
	t.Helper()
	testenv.Long(t)
	testenv.Need(t, "qemu-system-x86_64", "mke2fs", "ldd")
	kernel := filepath.Join(testenv.Repository(t), ".cache/vm/vmlinuz")
	if _, err := os.Stat(kernel); err != nil {
		t.Skip("needs Debian's cloud kernel in .cache/vm (scripts/vm-kernel)")
	}
	results, console, err := boot(t, kernel, disk(t, kernel), security)
	if err != nil {
		t.Errorf("the machine: %v", err)
	}
	outcomes, rest := parse(results)
	for _, o := range outcomes {
		t.Run(o.test, func(t *testing.T) {
			switch o.verdict {
			case "SKIP":
				t.Skip(o.output)
			case "FAIL":
				t.Error(o.output)
			}
		})
	}
	if !complete(results, parts) {
		t.Errorf("not all tests ran to their end there:\n%s\nconsole:\n%s", rest, console)
	}
}

// complete tells whether each part has ended by itself: all tests passed (0) or some failed (1), which their outcomes say.
// A part that broke off or ran out of time ends with 2, and its last test has no outcome.
func complete(results string, parts int) bool {
	ends := regexp.MustCompile(`(?m)^tests \S+ ended with (\d+)$`).FindAllStringSubmatch(results, -1)
	return len(ends) == parts && !slices.ContainsFunc(ends, func(m []string) bool { return m[1] != "0" && m[1] != "1" })
}

// boot runs the machine until it switches itself off, and returns what its two serial lines have said.
func boot(t *testing.T, kernel, disk, security string) (results, console string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	log := filepath.Join(filepath.Dir(disk), "console")
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024", "-nodefaults", "-no-user-config", "-display", "none",
		"-no-reboot", "-nic", "none", "-kernel", kernel,
		"-append", "console=ttyS0 quiet loglevel=4 panic=-1 root=/dev/nvme0n1 rootfstype=ext4 rw init=/sbin/init "+
			"psi=1 security="+security+" apparmor=1 selinux=1 enforcing=0 cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1 mitigations=off tsc=reliable",
		"-drive", "if=none,id=disk,format=raw,cache=unsafe,file="+disk, "-device", "nvme,serial=mini,drive=disk",
		"-serial", "file:"+log, "-serial", "stdio")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("it did not switch itself off within %s", patience)
	} else if err != nil {
		err = fmt.Errorf("%w: %s", err, errs.String())
	}
	text, readErr := os.ReadFile(log)
	return strings.ReplaceAll(out.String(), "\r", ""), string(text), errors.Join(err, readErr)
}

// outcome is how a test of the machine ended.
type outcome struct{ test, verdict, output string }

// parse reads what `go test -v` prints: the tests at the top level, each with what was said while it ran, and what was
// said outside of them.
func parse(results string) (outcomes []outcome, rest string) {
	verdict := regexp.MustCompile(`^--- (PASS|FAIL|SKIP): (\S+)`)
	var said, outside strings.Builder
	for line := range strings.Lines(results) {
		if strings.HasPrefix(line, "=== RUN   ") && !strings.Contains(line, "/") {
			outside.WriteString(said.String())
			said.Reset()
		}
		said.WriteString(line)
		if m := verdict.FindStringSubmatch(line); m != nil {
			outcomes = append(outcomes, outcome{test: m[2], verdict: m[1], output: said.String()})
			said.Reset()
		}
	}
	return outcomes, outside.String() + said.String()
}

func TestParse(t *testing.T) {
	got, rest := parse("=== RUN   TestA\n    a_test.go:1: bad\n=== RUN   TestA/part\n    --- FAIL: TestA/part\n--- FAIL: TestA (1.00s)\n" +
		"=== RUN   TestB\n--- PASS: TestB (0.00s)\n=== RUN   TestC\n    c: why\n--- SKIP: TestC (0.00s)\nFAIL\n\ntests x ended with 1\n")
	if len(got) != 3 || got[0].verdict != "FAIL" || !strings.Contains(got[0].output, "bad") || got[1].verdict != "PASS" || got[2].test != "TestC" {
		t.Errorf("%+v", got)
	}
	if strings.Contains(got[2].output, "bad") || rest != "FAIL\n\ntests x ended with 1\n" {
		t.Errorf("the output of another test: %q, outside of them: %q", got[2].output, rest)
	}
}

func TestComplete(t *testing.T) {
	const passed, broken = "PASS\n\ntests ^A ended with 0\n", "panic: test timed out\n\ntests ^B ended with 2\n"
	for results, want := range map[string]bool{
		passed + "FAIL\n\ntests ^B ended with 1\n": true, passed + broken: false, broken + passed: false, passed: false, "": false,
	} {
		if got := complete(results, 2); got != want {
			t.Errorf("%q: %v", results, got)
		}
	}
}

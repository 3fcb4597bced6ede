package enter

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/testenv"
)

const namespaces = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET

// host is a process in namespaces of its own.
func host(t testing.TB) *os.File {
	t.Helper()
	testenv.Root(t)
	child := exec.Command("sleep", "1000")
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Pdeathsig: syscall.SIGKILL}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		child.Process.Kill()
		child.Wait()
	})
	fd, err := unix.PidfdOpen(child.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	t.Cleanup(func() { f.Close() })
	return f
}

func request(first *os.File, args ...string) Request {
	return Request{
		First: first, Namespaces: namespaces, Umask: -1, Cwd: "/", Programs: []string{args[0]}, Args: args, Environ: []string{"A=b"},
		Capabilities: Capabilities{Last: unix.CAP_LAST_CAP},
	}
}

func wait(t testing.TB, pid int) syscall.WaitStatus {
	t.Helper()
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
		t.Fatal(err)
	}
	return status
}

func TestStart(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	q := request(host(t), "/bin/sh", "-c", "echo $A $$; ulimit -n; exit 7")
	q.Stdout = w
	pid, err := Start(q)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if status := wait(t, pid); status.ExitStatus() != 7 {
		t.Errorf("status %v", status)
	}
	buf := make([]byte, 100)
	n, _ := r.Read(buf)
	if out := strings.Fields(string(buf[:n])); len(out) != 3 || out[0] != "b" || out[1] != "2" {
		t.Errorf("output %q, want b and the second process of its namespace", buf[:n])
	}
}

// act is the environment variable that makes this test's program one that a test starts.
const act = "ENTER_TEST_ACT"

func TestMain(m *testing.M) {
	if os.Getenv(act) == "" {
		os.Exit(m.Run())
	}
	keyring, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, unix.KEY_SPEC_SESSION_KEYRING)
	if err != nil {
		keyring = err.Error()
	}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		os.Exit(1)
	}
	fmt.Println(keyring[strings.LastIndexByte(keyring, ';')+1:], set.Count())
	os.Exit(0)
}

// What a shell cannot see of itself: the session keyring, and the processors it may run on, which are all, though the
// thread that starts it may not.
func TestStartOfKeyringAndProcessors(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	q := request(host(t), self)
	q.Stdout, q.Keyring, q.Environ = w, "_ses.enter-test", []string{act + "=1"}

	runtime.LockOSThread() // for good: the thread ends with this
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for cpu := 0; one.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	pid, err := Start(q)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	wait(t, pid)
	out, err := io.ReadAll(r)
	if want := fmt.Sprintln("_ses.enter-test", all.Count()); err != nil || string(out) != want {
		t.Errorf("%q, error %v; want %q", out, err, want)
	}
}

// A failure of any stage leaves nothing, and says which it was.
func TestStartFails(t *testing.T) {
	first := host(t)
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("no first line"), 0o755); err != nil {
		t.Fatal(err)
	}
	for stage, spoil := range map[string]func(*Request){
		"oom_score_adj": func(r *Request) { r.OOMScoreAdj = "nonsense" },
		"cgroup":        func(r *Request) { r.Procs = []string{"/dev/full"} },
		"rlimit":        func(r *Request) { r.Rlimits = []Rlimit{{Resource: unix.RLIMIT_CORE, Soft: 2, Hard: 1}} },
		"namespace_path": func(r *Request) {
			r.Paths = []string{"/dev/null"}
		},
		"user_namespace": func(r *Request) { r.Namespaces |= unix.CLONE_NEWUSER }, // it is in it already
		"filter":         func(r *Request) { r.Filter = make([]byte, 8); r.NoNewPrivs = true },
		"chdir":          func(r *Request) { r.Cwd = "/no/such" },
		"program":        func(r *Request) { r.Programs = []string{"/no/such", "/etc", "/etc/passwd"} },
		"execve":         func(r *Request) { r.Programs = []string{script} },
	} {
		q := request(first, "/bin/true")
		spoil(&q)
		pid, err := Start(q)
		var failed *Error
		if !errors.As(err, &failed) || failed.Stage != stage || failed.Err == 0 {
			t.Errorf("%s: process %d, error %v", stage, pid, err)
		}
		if pid > 0 {
			wait(t, pid)
		}
	}
	var status syscall.WaitStatus
	if pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil); pid > 0 {
		t.Errorf("process %d is left, error %v", pid, err)
	}
}

func BenchmarkStart(b *testing.B) {
	q := request(host(b), "/bin/true")
	for b.Loop() {
		pid, err := Start(q)
		if err != nil {
			b.Fatal(err)
		}
		wait(b, pid)
	}
	var all syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &all); err != nil {
		b.Fatal(err)
	}
	cpu := all.Utime.Nano() + all.Stime.Nano()
	b.ReportMetric(float64(cpu)/1e3/float64(b.N), "children-µs/op")
}

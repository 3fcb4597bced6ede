package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/containerd/errdefs"
	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

// filtered gives a container Docker's profile.
func filtered(s *specs.Spec) {
	profile, err := seccomp.GetDefaultProfile(s)
	if err != nil {
		panic(err)
	}
	s.Linux.Seccomp = profile
}

// remembered waits until the supervisor has n filters.
func (w *world) remembered(n int) {
	w.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); w.filters() < n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("%d filters are remembered, not %d\n%s", w.filters(), n, w.supervisorLog())
		}
	}
}

// filters counts the memory files of filters that the supervisor has.
func (w *world) filters() int {
	n := 0
	for _, s := range w.boxes.Info() {
		links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", s.PID))
		for _, l := range links {
			if to, _ := os.Readlink(l); strings.HasPrefix(to, "/memfd:seccomp-filter") {
				n++
			}
		}
	}
	return n
}

// filterOf reads the only filter of a process (ptrace(2), PTRACE_SECCOMP_GET_FILTER).
func filterOf(t *testing.T, pid int) []unix.SockFilter {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.PtraceAttach(pid); err != nil {
		t.Fatal(err)
	}
	defer unix.PtraceDetach(pid)
	if _, err := unix.Wait4(pid, nil, unix.WALL, nil); err != nil {
		t.Fatal(err)
	}
	filter := make([]unix.SockFilter, 4096)
	n, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SECCOMP_GET_FILTER, uintptr(pid), 0, uintptr(unsafe.Pointer(&filter[0])), 0, 0)
	if errno != 0 {
		t.Skipf("this kernel does not give filters away: %v", errno)
	}
	return filter[:n]
}

// TestRememberedFilterIsInForce compares the first process of a container whose filter libseccomp compiled with those
// that got the remembered one. libcontainer's ENOSYS stub orders its tests of architectures by chance.
func TestRememberedFilterIsInForce(t *testing.T) {
	w := newWorld(t, ScopeNode)
	compiled := w.start(container{id: "compiled", args: []string{"sleep", "1000"}, change: filtered})
	want := filterOf(t, compiled.PID)
	w.remembered(1)
	for i := range 30 {
		r := w.start(container{id: fmt.Sprint("next", i), args: []string{"sleep", "1000"}, change: filtered})
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.PID))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{"Seccomp:\t2\n", "Seccomp_filters:\t1\n", "NoNewPrivs:\t1\n"} {
			if !strings.Contains(string(status), line) {
				t.Errorf("status has no %q", line)
			}
		}
		if slices.Equal(filterOf(t, r.PID), want) {
			return
		}
	}
	t.Error("no container has the filter that libseccomp compiles")
}

// TestNothingElseChanges runs containers before and after the filter is remembered, which see the same.
func TestNothingElseChanges(t *testing.T) {
	script := `exec 2>&1; busybox ls /proc/1/fd; busybox readlink /proc/1/exe; env; id; busybox tr '\0' ' ' </proc/1/cmdline;
		busybox grep -E 'Seccomp|NoNewPrivs|Cap|Uid|SigCgt' /proc/1/status; busybox unshare -U true; busybox mount -t tmpfs x /tmp; echo $?`
	for name, change := range map[string]func(*specs.Spec){
		"root": filtered,
		"user": func(s *specs.Spec) {
			filtered(s)
			s.Process.User = specs.User{UID: 1000, GID: 1000}
			s.Process.Capabilities = nil
		},
		"userns": func(s *specs.Spec) {
			filtered(s)
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
			ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
			s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
		},
		"new privileges": func(s *specs.Spec) { filtered(s); s.Process.NoNewPrivileges = false },
		"own profile": func(s *specs.Spec) {
			s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog},
				Syscalls: []specs.LinuxSyscall{{Names: []string{"unshare"}, Action: specs.ActErrno}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, ScopeNode)
			see := func(id string) (first, executed string) {
				out := newCapture(t)
				w.start(container{id: id, args: []string{"sh", "-c", script}, change: change}, nil, out.give(), out.give())
				first = out.all()
				out = newCapture(t)
				pid := w.start(container{id: id + "x", args: []string{"sleep", "1000"}, change: change}).PID
				w.untilNot(func() bool { // libcontainer's init gives way to the program a moment after the start
					line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
					return err != nil || !strings.HasPrefix(string(line), "sleep")
				})
				if _, err := w.exec(id+"x", "e", wire.Stdio{}, []*os.File{nil, out.give(), out.give()}, "sh", "-c", script); err != nil {
					t.Fatal(err)
				}
				return first, out.all()
			}
			// The first of these containers compiles; whether the second does is for chance.
			wantFirst, wantExec := see("before")
			w.remembered(1)
			first, executed := see("after")
			if first != wantFirst || !strings.Contains(first, "Seccomp:\t2") || !strings.HasPrefix(first, "0\n1\n2\n") {
				t.Errorf("the first process sees\n%s\nbefore:\n%s", first, wantFirst)
			}
			if executed != wantExec {
				t.Errorf("an executed process sees\n%s\nbefore:\n%s", executed, wantExec)
			}
		})
	}
}

// TestStartErrorsStay: the messages are those of a start without a remembered filter.
func TestStartErrorsStay(t *testing.T) {
	w := newWorld(t, ScopeNode)
	starts := []struct {
		id   string
		args []string
		is   func(error) bool
	}{
		{"nowhere", []string{"nothing-like-this"}, errdefs.IsNotFound},
		{"nofile", []string{"/bin/nothing"}, errdefs.IsNotFound},
		{"plain", []string{"/etc/plain"}, errdefs.IsPermissionDenied},
		{"directory", []string{"/etc"}, errdefs.IsPermissionDenied},
	}
	told := map[string]string{}
	try := func(round string) {
		for _, c := range starts {
			s := w.bundle(container{id: c.id + round, args: c.args, change: filtered})
			_, err := w.boxes.Start(context.Background(), s.ID, s, nil)
			if !c.is(err) {
				t.Errorf("%s%s: %v", c.id, round, err)
			} else if round == "-before" {
				told[c.id] = err.Error()
			} else if err.Error() != told[c.id] {
				t.Errorf("%s: %v, before: %s", c.id, err, told[c.id])
			}
		}
	}
	try("-before")
	w.remembered(1)
	try("-after")
}

// TestOwnDescriptorsAsProgram names descriptors of libcontainer's init as the program (CVE-2024-21626), before and after a
// filter is remembered. Those are sockets, pipes and the filter, and closed when it is executed: either nothing is
// found to execute before the start is answered, or the init ends with an error after.
func TestOwnDescriptorsAsProgram(t *testing.T) {
	w := newWorld(t, ScopeNode)
	try := func(round string) {
		for fd := 3; fd < 12; fd++ {
			out := newCapture(t)
			program := fmt.Sprintf("/proc/self/fd/%d", fd)
			s := w.bundle(container{id: fmt.Sprintf("fd-%d%s", fd, round), args: []string{program, "--version"}, change: filtered})
			s.Attach = &wire.Attachment{Stdout: true, Stderr: true}
			_, err := w.boxes.Start(context.Background(), s.ID, s, []*os.File{out.give(), out.give()})
			if err != nil {
				continue
			}
			exit, said := w.awaitExit(s.Process), out.all()
			if exit.Code == 0 || !strings.Contains(said, "exec "+program+": no such file") && !strings.Contains(said, "permission denied") {
				t.Errorf("%s%s was executed: exit code %d, it says %q", program, round, exit.Code, said)
			}
		}
	}
	try("-before")
	w.remembered(1)
	try("-after")
}

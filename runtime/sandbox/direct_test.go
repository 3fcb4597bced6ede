package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	profiles "github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

// everything prints what a process can see of itself. The first process of the pipeline is the shell, whose numbers are
// left out: they are never the same.
const everything = `echo "cwd $(/bin/busybox readlink /proc/$$/cwd)"
cd /proc/$$
echo "root $(/bin/busybox readlink root) exe $(/bin/busybox readlink exe)"
/bin/busybox grep -E '^(Umask|Uid|Gid|Groups|FDSize|Sig[PBIC]|Shd|Cap|NoNewPrivs|Seccomp|Speculation|Cpus_allowed|Mems_allowed)' status
/bin/busybox cut -d' ' -f5,6,7,18,19,40,41 stat | /bin/busybox sed "s/\b$$\b/self/g"
echo "oom $(cat oom_score_adj) personality $(cat personality 2>&1) coredump $(cat coredump_filter) timerslack $(cat timerslack_ns 2>&1) dumpable $(/bin/busybox stat -c %u:%g status)"
cat limits cgroup
for n in ns/*; do /bin/busybox readlink $n; done
echo fd/* # and the one that reads the directory
for n in 0 1 2; do /bin/busybox readlink fd/$n; done
/bin/busybox stat -L -c '%F %u:%g' fd/0 fd/1 fd/2
/bin/busybox tr '\0' '\n' < environ
/bin/busybox tr '\0' '\n' < cmdline | /bin/busybox head -n 2
/bin/busybox sort /proc/$$/attr/current 2>&1
`

// changed executes a command as the container's process is, but for a change, and returns its exit and output. The long
// way is libcontainer's: an affinity for all processors changes nothing else.
func (w *world) changed(id, exec string, long bool, change func(*specs.Process), args ...string) (wire.Exit, string, error) {
	w.t.Helper()
	p := w.spec(id, args...).Process
	if change != nil {
		change(p)
	}
	if long {
		p.ExecCPUAffinity = &specs.CPUAffinity{Final: fmt.Sprintf("0-%d", runtime.NumCPU()-1)}
	}
	dir := filepath.Join(w.dir, "bundle", id, "exec", exec)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	data, err := json.Marshal(p)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "process.json"), data, 0o600); err != nil {
		w.t.Fatal(err)
	}
	out := newCapture(w.t)
	x := wire.Exec{Process: execKey(id, exec), Dir: dir, Attach: &wire.Attachment{Stdout: true, Stderr: true}}
	w.note(func() { delete(w.exits, x.Process) })
	second, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", out.give().Fd()), os.O_WRONLY, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = w.boxes.Exec(context.Background(), x, []*os.File{out.give(), second})
	out.give().Close()
	second.Close()
	if err != nil {
		return wire.Exit{}, "", err
	}
	exit := w.awaitExit(x.Process)
	out.wait("the end of the output", func() bool { return out.ended })
	if _, err := w.boxes.Delete(context.Background(), x.Process); err != nil {
		w.t.Errorf("delete: %v", err)
	}
	out.mu.Lock()
	defer out.mu.Unlock()
	return exit, string(out.got), nil
}

// longWays counts the execs that were left to libcontainer.
func (w *world) longWays() int { return strings.Count(w.supervisorLog(), "an exec takes the long way") }

// untilDirect waits until a container's execs need libcontainer no more: a seccomp profile is compiled beside the first.
func (w *world) untilDirect(id string) {
	w.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		before := w.longWays()
		if _, _, err := w.changed(id, "first", false, nil, "true"); err != nil {
			w.t.Fatal(err)
		}
		if w.longWays() == before {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: execs are left to libcontainer:\n%s", id, w.supervisorLog())
		}
	}
}

// TestDirectExecIsTheSame compares what a process sees that was executed by runtime/supervisor/enter with one executed by
// libcontainer.
func TestDirectExecIsTheSame(t *testing.T) {
	w := newWorld(t, ScopeNode)
	for id, change := range directContainers(w) {
		w.start(container{id: id, args: []string{"sleep", "1000"}, change: change})
		w.untilDirect(id)
		for what, change := range directRequests() {
			t.Run(id+"/"+what, func(t *testing.T) {
				name := strings.ReplaceAll(what, " ", "-")
				_, want, err := w.changed(id, name, true, change, "sh", "-c", everything)
				if err != nil {
					t.Fatal(err)
				}
				before := w.longWays()
				exit, got, err := w.changed(id, name, false, change, "sh", "-c", everything)
				if err != nil {
					t.Fatal(err)
				}
				if n := w.longWays(); n != before {
					t.Fatalf("it was left to libcontainer:\n%s", w.supervisorLog())
				}
				if exit.Code != 0 || got != want || len(got) < 1000 {
					t.Errorf("exit %d; got and want:\n%s", exit.Code, difference(got, want))
				}
				if os.Getenv("SANDBOX_TEST_LOG") != "" {
					t.Log(got)
				}
			})
		}
	}
}

// difference is those lines of two texts that are not the same.
func difference(got, want string) string {
	var out strings.Builder
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		a, b := "(none)", "(none)"
		if i < len(g) {
			a = g[i]
		}
		if i < len(w) {
			b = w[i]
		}
		if a != b {
			fmt.Fprintf(&out, "- %s\n+ %s\n", a, b)
		}
	}
	return out.String()
}

// What cannot be executed is told in the same words, and what ends by itself with the same code.
func TestDirectExecEndsTheSame(t *testing.T) {
	w := newWorld(t, ScopeNode)
	w.start(container{id: "c", args: []string{"sleep", "1000"}})
	at := func(dir string) func(*specs.Process) { return func(p *specs.Process) { p.Cwd = dir } }
	for _, test := range []struct {
		change func(*specs.Process)
		args   []string
	}{
		{nil, []string{"true"}},
		{nil, []string{"sh", "-c", "exit 3"}},
		{nil, []string{"sh", "-c", "kill -9 $$"}},
		{nil, []string{"no-such"}},
		{nil, []string{"/no/such"}},
		{nil, []string{"/etc/plain"}},
		{nil, []string{"/etc"}},
		{nil, []string{"/etc/script"}},
		{at("/tmp"), []string{"../bin/true"}},
		{at("/no/such"), []string{"true"}},
		{at("/etc/passwd"), []string{"true"}},
		{at("/proc/self/fd"), []string{"true"}},
		{at("/proc/self/fd/3"), []string{"true"}},
		{at("/proc/1/cwd"), []string{"true"}},
		{func(p *specs.Process) { p.Env = []string{"PATH=bin", "HOME=/"} }, []string{"true"}},
		{func(p *specs.Process) { p.Env = []string{"HOME=/"} }, []string{"true"}},
		{func(p *specs.Process) { p.Env = []string{"PATH=/bin"} }, []string{"sh", "-c", "test $HOME = /root"}},
		{func(p *specs.Process) { p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 9, Hard: 5}} }, []string{"true"}},
		{func(p *specs.Process) { p.User.UID = 1000 }, []string{"/root/private"}},
	} {
		name := strings.Join(test.args, " ")
		want, wantOut, wantErr := w.changed("c", "x", true, test.change, test.args...)
		got, gotOut, gotErr := w.changed("c", "x", false, test.change, test.args...)
		if fmt.Sprint(gotErr) != fmt.Sprint(wantErr) || got.Code != want.Code || got.Signal != want.Signal || gotOut != wantOut {
			t.Errorf("%s: exit %d %q, error %v; want %d %q, %v", name, got.Code, gotOut, gotErr, want.Code, wantOut, wantErr)
		}
	}
}

func directContainers(w *world) map[string]func(*specs.Spec) {
	pod := w.start(container{id: "pod", args: []string{"sleep", "1000"}}).PID

	score := 500
	umask := uint32(0o077)
	return map[string]func(*specs.Spec){
		"plain": nil,
		"usual": usual,
		"limited": func(s *specs.Spec) {
			s.Process.OOMScoreAdj, s.Process.User.Umask = &score, &umask
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 77, Hard: 88}, {Type: "RLIMIT_CORE"}}
		},
		"seccomp": func(s *specs.Spec) {
			profile, err := profiles.GetDefaultProfile(s)
			if err != nil {
				w.t.Fatal(err)
			}
			s.Linux.Seccomp = profile
		},
		"cgroup-namespace": func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
		},
		"user-namespace": func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
			s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 200000, Size: 65536}}
			s.Linux.GIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 200000, Size: 65536}}
		},
		"pods-namespaces": func(s *specs.Spec) {
			for i, ns := range s.Linux.Namespaces {
				if ns.Type != specs.MountNamespace {
					name := map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "net"}[ns.Type]
					if name == "" {
						name = string(ns.Type)
					}
					s.Linux.Namespaces[i].Path = fmt.Sprintf("/proc/%d/ns/%s", pod, name)
				}
			}
			s.Hostname = ""
		},
		"hosts-namespaces": func(s *specs.Spec) {
			s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}}
			s.Hostname = ""
		},
	}
}

func directRequests() map[string]func(*specs.Process) {
	all := []string{"CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_NO_SUCH"}
	return map[string]func(*specs.Process){
		"as the container": nil,
		"a user": func(p *specs.Process) {
			p.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{5, 2000, 7}}
		},
		"a user with capabilities": func(p *specs.Process) {
			p.User = specs.User{UID: 1000, GID: 1001}
			c := []string{"CAP_KILL"}
			p.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: c, Permitted: c, Inheritable: c, Ambient: c}
		},
		"privileged": func(p *specs.Process) {
			p.NoNewPrivileges = false
			p.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
		},
		"without capabilities": func(p *specs.Process) { p.Capabilities = &specs.LinuxCapabilities{} },
		"limits": func(p *specs.Process) {
			p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}, {Type: "RLIMIT_CPU", Soft: 100, Hard: 100}}
		},
		"a directory": func(p *specs.Process) { p.Cwd = "/tmp" },
		"an environment": func(p *specs.Process) {
			p.Env = []string{"A=1", "HOME=/", "B=", "A=2", "PATH=/sbin:/bin//", "C=x=y"}
		},
	}
}

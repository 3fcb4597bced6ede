package scenario_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// TestProcess looks at the first process of a container from its inside.
func TestProcess(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	file := filepath.Join(testenv.Dir(t), "env")
	if err := os.WriteFile(file, []byte("# comment\nA=from the file\nB=2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FROM_HERE", "here")
	for _, c := range []runCase{
		{"first", nil, "echo $$", "1"},
		{"hostname", nil, "hostname", "case"},
		{"hostname given", []string{"--hostname", "other"}, "hostname; cat /etc/hostname 2>/dev/null || true", "part:other"},
		{"environment", []string{"--env-file", file, "--env", "A=over", "--env", "FROM_HERE", "--env", "COMMA=a,b"},
			"echo $A $B $FROM_HERE $COMMA $HOME", "over 2 here a,b /root"},
		{"directory", []string{"--cwd", "/usr/made"}, "pwd", "/usr/made"},
		{"user", []string{"--user", "1000:50"}, "id -u; id -g; touch /x 2>/dev/null || echo refused", "1000\n50\nrefused"},
		{"groups", []string{"--group-add", "50", "--group-add", "2000"}, "grep Groups /proc/self/status | cut -f2", "0 50 2000 "},
		{"umask", []string{"--umask", "027"}, "touch /f; mkdir /d; stat -c %a /f /d", "640\n750"},
		{"umask by default", nil, "touch /f; stat -c %a /f", "644"},
		{"rlimit", []string{"--rlimit", "nproc=1234:4321", "--rlimit", "core=0"}, "set -- $(grep processes /proc/1/limits); echo $3 $4; set -- $(grep core /proc/1/limits); echo $5 $6",
			"1234 4321\n0 0"},
		{"open files", []string{"--rlimit-nofile", "2000"}, "set -- $(grep files /proc/1/limits); echo $5", "2000"},
		{"OOM score", []string{"--oom-score-adj", "500"}, "cat /proc/self/oom_score_adj", "500"},
		{"sysctl", []string{"--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=4096"}, "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax", "1\n4096"},
		{"entrypoint", []string{"--entrypoint", "env X=1"}, "echo $X", "1"},
		{"no other processes", nil, "ps -o pid | wc -l", "4"},
		{"shared memory", []string{"--shm-size", "3MiB"}, "set -- $(df /dev/shm | tail -n 1); echo $3", "3072"},
	} {
		c.check(t, d, toolbox)
	}
}

// TestLowerOOMScore asks for what a host without CAP_SYS_RESOURCE refuses: a warning, and the container runs.
func TestLowerOOMScore(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	o := d.Try("run", "--rm", "--oom-score-adj", "-999", toolbox, "lower", "cat", "/proc/self/oom_score_adj")
	if o.Code != 0 {
		t.Fatalf("code %d: %s", o.Code, o.Stderr)
	}
	warned := strings.Contains(o.Stderr, "warning: ") && strings.Contains(o.Stderr, "-999")
	if lowered := o.Stdout == "-999\n"; lowered == warned {
		t.Errorf("the score is %q, and the warning: %q", o.Stdout, o.Stderr)
	}
	o = d.Try("run", "--rm", "--rlimit", "nofile=99999999:99999999", toolbox, "higher", "true")
	if o.Code != 0 && !strings.Contains(o.Stderr, "nr_open") || o.Code == 0 && !strings.Contains(o.Stderr, "warning: ") {
		t.Errorf("more open files than there can be: code %d: %s", o.Code, o.Stderr)
	}
}

// TestSignals sends them to minictr, which passes them on, and to the container.
func TestSignals(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	script := "trap 'echo TERM; exit 3' TERM; trap 'echo HUP' HUP; trap 'echo INT' INT; echo ready; while :; do sleep 0.02; done"
	p := begin(t, d, "run", "--rm", toolbox, "passed", "sh", "-c", script)
	for _, step := range []struct {
		said string
		then syscall.Signal
	}{{"ready\n", syscall.SIGHUP}, {"HUP\n", syscall.SIGINT}, {"INT\n", syscall.SIGTERM}} {
		testenv.Eventually(t, 10*time.Second, "the container says "+step.said, func() bool { return strings.HasSuffix(p.said(), step.said) })
		if err := p.Process.Signal(step.then); err != nil {
			t.Fatal(err)
		}
	}
	_ = p.Wait()
	if code := p.ProcessState.ExitCode(); code != 3 || p.said() != "ready\nHUP\nINT\nTERM\n" {
		t.Errorf("code %d, said %q", code, p.said())
	}

	d.Minictr("run", "-d", toolbox, "killed", "sleep", "600")
	d.Minictr("tasks", "kill", "killed", "9")
	if code := d.Minictr("tasks", "wait", "killed"); code != "137\n" {
		t.Errorf("wait says %q", code)
	}
	c := inspect(t, d, "killed")
	if c.State != "exited" || c.Exit.Code != 137 || c.Exit.Signal != 9 || c.Exit.OOM {
		t.Errorf("killed by 9: %+v", c)
	}
	refused(t, d.Try("tasks", "kill", "killed"), "killed", "exited")
}

// TestKillAll sends a signal to every process of a container that shares the host's process numbers.
func TestKillAll(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	d.Minictr("run", "-d", "--with-ns", "pid:host", toolbox, "family", "sh", "-c", "sleep 600 & sleep 600 & wait; wait; sleep 600")
	testenv.Eventually(t, 5*time.Second, "its processes are there", func() bool {
		return len(lines(d.Minictr("tasks", "ps", "-q", "family"))) == 3 || len(lines(d.Minictr("tasks", "ps", "family"))) == 4
	})
	d.Minictr("tasks", "kill", "--all", "-s", "KILL", "family")
	if code := waitExit(t, d, "family"); code != 137 {
		t.Errorf("code %d", code)
	}
}

// TestStdinOfContainers feeds containers by pipes.
func TestStdinOfContainers(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	if out := feed(t, d, "hi\n", "run", "--rm", toolbox, "cat", "cat"); out != "hi\n" {
		t.Errorf("cat gave %q", out)
	}
	large := strings.Repeat("0123456789abcde\n", 1<<16) // 1 MiB: more than any pipe holds
	if out := feed(t, d, large, "run", "--rm", toolbox, "large", "cat"); out != large {
		t.Errorf("%d bytes of %d came back", len(out), len(large))
	}
	d.Minictr("run", "-d", toolbox, "up", "sleep", "600")
	if out := feed(t, d, large, "exec", "up", "wc", "-c"); strings.TrimSpace(out) != "1048576" {
		t.Errorf("exec got %q bytes", out)
	}
	if out := feed(t, d, large, "run", "--rm", toolbox, "early", "true"); out != "" {
		t.Errorf("a process that does not read: %q", out)
	}
}

// TestExecOptions runs more processes in a container, each with its own ways.
func TestExecOptions(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	d.Minictr("run", "-d", "--env", "A=1", "--cwd", "/tmp", "--cap-drop", "ALL", toolbox, "up", "sleep", "600")
	for _, c := range []struct {
		flags        []string
		script, want string
	}{
		{nil, "echo $A; pwd; grep CapEff /proc/self/status | cut -f2", "1\n/tmp\n0000000000000000"},
		{[]string{"--env", "A=2", "--cwd", "/bin", "--user", "7:8"}, "echo $A; pwd; id -u; id -g", "2\n/bin\n7\n8"},
		{[]string{"--cap-add", "NET_ADMIN"}, "grep CapEff /proc/self/status | cut -f2", "0000000000001000"},
		{[]string{"--allow-new-privs"}, "grep NoNewPrivs /proc/self/status | cut -f2", "0"},
		{nil, "grep Seccomp: /proc/self/status | cut -f2; grep NoNewPrivs /proc/self/status | cut -f2", "2\n1"},
		{nil, "hostname; cat /proc/1/comm", "up\nsleep"},
	} {
		out := d.Minictr(append(append([]string{"exec"}, c.flags...), "up", "sh", "-c", c.script)...)
		if strings.TrimSpace(out) != c.want {
			t.Errorf("exec %q %s:\n%s\nwant\n%s", c.flags, c.script, out, c.want)
		}
	}
	if o := d.Try("exec", "up", "/no/such"); o.Code != 127 || !strings.Contains(o.Stderr, "/no/such") {
		t.Errorf("a program that is not there: code %d: %s", o.Code, o.Stderr)
	}
	if o := d.Try("exec", "up", "/etc/os-release"); o.Code != 126 || !strings.Contains(o.Stderr, "/etc/os-release") {
		t.Errorf("a file that is no program: code %d: %s", o.Code, o.Stderr)
	}
	execID := strings.TrimSpace(d.Minictr("exec", "-d", "--exec-id", "named", "up", "sh", "-c", "sleep 0.1; exit 4"))
	if execID != "named" {
		t.Errorf("exec -d printed %q", execID)
	}
	refused(t, d.Try("exec", "--exec-id", "named", "up", "true"), "named", "exists")
	testenv.Eventually(t, 5*time.Second, "the detached process can be removed, having ended", func() bool {
		return d.Try("tasks", "rm", "--exec-id", "named", "up").Code == 0
	})
}

// TestPauseAndResume freezes a container that counts.
func TestPauseAndResume(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	rootfs := probeRootfs(t)
	d.Minictr("run", "-d", "--rootfs", rootfs, "counts", "/probe", "ticks", "5")
	d.Minictr("tasks", "pause", "counts")
	if list := d.Minictr("tasks", "ls"); !strings.Contains(list, "PAUSED") {
		t.Errorf("tasks ls:\n%s", list)
	}
	refused(t, d.Try("exec", "counts", "/probe", "lines", "1"), "counts", "paused")
	refused(t, d.Try("tasks", "pause", "counts"), "paused")
	d.Restart()
	if c := inspect(t, d, "counts"); c.State != "paused" {
		t.Errorf("after a restart of the daemon it is %s", c.State)
	}
	before := d.Minictr("logs", "counts")
	time.Sleep(100 * time.Millisecond) // time in which it would count
	if after := d.Minictr("logs", "counts"); after != before {
		t.Errorf("it counts on while it is paused: %d bytes, then %d", len(before), len(after))
	}
	d.Minictr("tasks", "resume", "counts")
	testenv.Eventually(t, 5*time.Second, "it counts on", func() bool { return d.Minictr("logs", "counts") != before })
	d.Minictr("tasks", "pause", "counts")
	d.Minictr("containers", "rm", "--force", "counts")
	if all := containers(t, d); len(all) != 0 {
		t.Errorf("a paused container is not removed: %v", all)
	}
}

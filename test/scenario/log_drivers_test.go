package scenario_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// counting is a container's script that writes numbered lines, some at once and then one each 20 ms.
const counting = `i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); [ $i -gt 50 ] && sleep 0.02; done; echo last >&2`

// allLines wants the numbered lines in order, none lost; again says how many may have come twice.
func allLines(t *testing.T, lines []string, again int) {
	t.Helper()
	next, twice := 0, 0
	for _, l := range lines {
		var n int
		if _, err := fmt.Sscanf(l, "line %d", &n); err != nil {
			continue
		}
		switch {
		case n == next:
			next++
		case n == next-1 && twice < again:
			twice++
		default:
			t.Fatalf("line %d came where line %d was due", n, next)
		}
	}
	if next != 200 {
		t.Errorf("%d lines came, 200 were written", next)
	}
}

// sink keeps what a place of logs has got.
type sink struct {
	mu    sync.Mutex
	lines []string
}

func (s *sink) add(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
}

func (s *sink) has(text string) bool {
	for _, l := range s.all() {
		if strings.Contains(l, text) {
			return true
		}
	}
	return false
}

func (s *sink) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.lines...)
}

func TestLogDrivers(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{Config: "[log]\ndriver = \"json-file\"\noptions = { max-file = \"4\" }\n"})
	n := newNerd(t, d)
	run := func(name string, args ...string) string {
		return strings.TrimSpace(n.do(append([]string{"run", "--network=none", "--name", name}, args...)...))
	}
	for _, part := range []struct {
		name string
		test func(*testing.T, *testenv.DaemonProcess, nerd, func(string, ...string) string)
	}{
		{"files", logFiles}, {"syslog", logSyslog}, {"syslog by TLS", logSyslogTLS}, {"fluentd", logFluentd}, {"fluentd by TLS", logFluentdTLS}, {"journald", logJournald}, {"binary", logBinary},
	} {
		t.Run(part.name, func(t *testing.T) {
			n.t = t
			part.test(t, d, n, run)
		})
		n.t = t
	}
}

// logFiles has the drivers whose files are all there is.
func logFiles(t *testing.T, _ *testenv.DaemonProcess, n nerd, run func(string, ...string) string) {
	file := filepath.Join(testenv.Dir(t), "own.log")
	run("attrs", "--label", "tier=front", "-e", "A=b c", "--log-opt", "labels=tier", "--log-opt", "env=A", "--log-opt", "tag={{.Name}}", "--log-opt", "log-path="+file, toolbox, "echo", "hello")
	if out := n.do("logs", "--details", "attrs"); out != "A=b+c,tag=attrs,tier=front hello\n" {
		t.Errorf("logs --details printed %q", out)
	}
	if data, err := os.ReadFile(file); err != nil || !strings.Contains(string(data), `"attrs":{"A":"b c","tag":"attrs","tier":"front"}`) {
		t.Errorf("the file: %s, %v", data, err)
	}
	if out := n.do("inspect", "-f", "{{json .HostConfig.LogConfig}} {{.LogPath}}", "attrs"); out != `{"Type":"json-file","Config":{"env":"A","labels":"tier","log-path":"`+file+`","max-file":"4","tag":"{{.Name}}"}} `+file+"\n" {
		t.Errorf("inspect printed %s", out)
	}
	for _, driver := range []string{"json-file", "local"} {
		run(driver, "--log-driver", driver, "--log-opt", "max-size=4k", "--log-opt", "max-file=9", "--log-opt", "compress=true", toolbox, "sh", "-c", "for i in $(seq 0 199); do echo line $i; [ $((i % 20)) = 0 ] && sleep 0.05; done; true")
		lines := strings.Split(n.do("logs", driver), "\n")
		if allLines(t, lines, 0); len(lines) != 201 {
			t.Errorf("%s: %d lines", driver, len(lines))
		}
		if out := n.do("logs", "-n", "150", driver); !strings.HasPrefix(out, "line 50\n") || !strings.HasSuffix(out, "line 199\n") {
			t.Errorf("%s: the last 150 lines: %q", driver, out)
		}
		stamped := strings.Split(n.do("logs", "-t", driver), "\n")
		since, _, _ := strings.Cut(stamped[100], " ")
		if out := strings.Split(n.do("logs", "--since", since, "-t", driver), "\n"); len(out) < 101 || out[len(out)-2] != stamped[199] || out[0] < since {
			t.Errorf("%s: since %s: %q", driver, since, out[0])
		}
		if out := n.do("logs", "--until", since, driver); !strings.HasPrefix(out, "line 0\n") || !strings.Contains(out, "line 100\n") {
			t.Errorf("%s: until %s: %q", driver, since, out)
		}
	}
	if all, err := filepath.Glob(filepath.Dir(strings.TrimSpace(n.do("inspect", "-f", "{{.LogPath}}", "json-file"))) + "/*.gz"); err != nil || len(all) < 2 {
		t.Errorf("compressed files: %v, %v", all, err)
	}
	if out := n.do("inspect", "-f", "{{.HostConfig.LogConfig.Type}} {{.LogPath}}", "local"); out != "local \n" {
		t.Errorf("inspect of local printed %q", out)
	}
	run("silent", "--log-driver", "none", toolbox, "echo", "hello")
	refused(t, n.try(nil, "logs", "silent"), "configured logging driver does not support reading")
	for line, want := range map[string]string{
		"--log-driver gelf":                               "no log driver named 'gelf' is registered",
		"--log-opt max-files=1":                           "unknown log opt 'max-files' for json-file log driver",
		"--log-driver syslog --log-opt syslog-format=xml": "syslog-format=xml",
		"--log-driver journald --log-opt tag={{.Wrong}}":  "tag",
	} {
		if o := n.try(nil, append(append([]string{"run", "--rm"}, strings.Fields(line)...), toolbox, "true")...); o.Code != 125 || !strings.Contains(o.Stderr, want) {
			t.Errorf("%s: exit code %d, %s", line, o.Code, o.Stderr)
		}
	}
}

// rsyslog is a real rsyslogd that writes what comes over TCP and a socket into a file.
type rsyslog struct {
	t          *testing.T
	dir, port  string
	cmd        *exec.Cmd
	file, unix string
}

// newRsyslog starts one. head configures its modules; %s in it is its directory.
func newRsyslog(t *testing.T, head string) *rsyslog {
	t.Helper()
	if _, err := exec.LookPath("rsyslogd"); err != nil {
		t.Skip("no rsyslogd: ", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	check(t, errors.Join(err, l.Close()))
	dir := testenv.Dir(t)
	r := &rsyslog{t: t, dir: dir, port: port, file: filepath.Join(dir, "all"), unix: filepath.Join(dir, "log")}
	text := strings.ReplaceAll(head, "%s", dir) + fmt.Sprintf(`
module(load="imuxsock" SysSock.Use="off")
input(type="imtcp" port=%q address="127.0.0.1") input(type="imuxsock" Socket=%q UseSpecialParser="off" ParseHostname="on")
template(name="t" type="string" string="%%syslogfacility-text%%.%%syslogseverity-text%% %%app-name%% %%syslogtag%%%%msg%%\n")
action(type="omfile" file=%q template="t")
`, port, r.unix, r.file)
	check(t, os.WriteFile(filepath.Join(dir, "conf"), []byte(text), 0o644))
	ca := testenv.NewAuthority(t, filepath.Join(dir, "ca.pem"))
	for _, name := range []string{"server", "client"} {
		ca.Issue(t, name, filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key"), time.Now().Add(time.Hour))
	}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *rsyslog) start() {
	r.t.Helper()
	r.cmd = exec.Command("rsyslogd", "-n", "-f", filepath.Join(r.dir, "conf"), "-i", filepath.Join(r.dir, "pid"))
	check(r.t, r.cmd.Start())
	testenv.Eventually(r.t, 20*time.Second, "rsyslogd listens", func() bool { return !silent("127.0.0.1:" + r.port) })
}

func (r *rsyslog) stop() {
	_ = r.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	_ = r.cmd.Wait()
}

// lines are what came, from the line's own text on.
func (r *rsyslog) lines() []string {
	data, err := os.ReadFile(r.file)
	if err != nil {
		return nil
	}
	var all []string
	for l := range strings.Lines(string(data)) {
		if _, text, ok := strings.Cut(strings.TrimSpace(l), ": "); ok {
			l = text
		}
		all = append(all, strings.TrimSpace(l))
	}
	return all
}

func (r *rsyslog) until(last string) {
	r.t.Helper()
	testenv.Eventually(r.t, 30*time.Second, last+" has come", func() bool {
		data, err := os.ReadFile(r.file)
		return err == nil && strings.Contains(string(data), last)
	})
}

// logSyslog has a real syslog daemon, while minid is killed, stopped, and the target itself is away.
func logSyslog(t *testing.T, d *testenv.DaemonProcess, n nerd, run func(string, ...string) string) {
	r := newRsyslog(t, `module(load="imtcp")`)
	tcp := []string{"--log-driver", "syslog", "--log-opt", "syslog-address=tcp://127.0.0.1:" + r.port, "--log-opt", "tag={{.Name}}"}
	run("sys", append(append([]string{"-d"}, tcp...), "--log-opt", "syslog-facility=local3", toolbox, "sh", "-c", counting)...)
	r.until("line 60")
	d.Restart()
	r.until("line 100")
	d.Stop()
	d.Start()
	if code := n.do("wait", "sys"); code != "0\n" {
		t.Errorf("exit code %s", code)
	}
	r.until("last")
	allLines(t, r.lines(), 1)
	data, err := os.ReadFile(r.file)
	if err != nil || !strings.Contains(string(data), "local3.info sys sys[") || !strings.Contains(string(data), "local3.err sys sys[") {
		t.Errorf("%.300s, %v", data, err)
	}
	if out := n.do("logs", "-n1", "sys"); out != "line 199\n" && out != "" {
		t.Errorf("logs printed %q", out)
	}
	t.Log("a target that is away: the container notices nothing, and what it wrote comes later")
	run("away", append(append([]string{"-d"}, tcp...), toolbox, "sh", "-c", "echo begun; sleep 1; echo while away; touch /done; sleep 600")...)
	r.until("begun")
	r.stop()
	testenv.Eventually(t, 20*time.Second, "inspect tells of the trouble", func() bool {
		return strings.Contains(n.do("inspect", "-f", "{{json .LogShipping}}", "away"), "connection refused")
	})
	n.do("exec", "away", "test", "-e", "/done")
	if out := n.do("logs", "away"); out != "begun\nwhile away\n" {
		t.Errorf("logs printed %q", out)
	}
	refused(t, n.try(nil, append(append([]string{"run", "--rm", "--network=none"}, tcp...), toolbox, "true")...), "initialize logging driver: log driver syslog: dial tcp 127.0.0.1:"+r.port+": connect: connection refused")
	r.start()
	r.until("while away")
	testenv.Eventually(t, 20*time.Second, "inspect tells of no trouble", func() bool { return n.do("inspect", "-f", "{{json .LogShipping}}", "away") == "null\n" })
	n.do("rm", "-f", "away")
	t.Log("one that removes itself is shipped to the end, also by a socket and as RFC 5424")
	run("short", "--rm", "--log-driver", "syslog", "--log-opt", "syslog-address=unixgram://"+r.unix, "--log-opt", "syslog-format=rfc5424micro", "--log-opt", "tag=fivefour", toolbox, "echo", "very last")
	r.until("]very last")
}

// logSyslogTLS has a syslog daemon that wants a certificate, and shows its own.
func logSyslogTLS(t *testing.T, _ *testenv.DaemonProcess, n nerd, run func(string, ...string) string) {
	if _, err := os.Stat("/usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_gtls.so"); err != nil {
		t.Skip("needs rsyslog's TLS (rsyslog-gnutls): ", err)
	}
	r := newRsyslog(t, `global(DefaultNetstreamDriver="gtls" DefaultNetstreamDriverCAFile="%s/ca.pem" DefaultNetstreamDriverCertFile="%s/server.pem" DefaultNetstreamDriverKeyFile="%s/server.key")
module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.Authmode="x509/certvalid")`)
	options := func(more ...string) []string {
		all := []string{"--log-driver", "syslog", "--log-opt", "syslog-address=tcp+tls://127.0.0.1:" + r.port, "--log-opt", "tag=safe"}
		for _, o := range more {
			name, file, _ := strings.Cut(o, "=")
			all = append(all, "--log-opt", "syslog-tls-"+name+"="+filepath.Join(r.dir, file))
		}
		return all
	}
	good := options("ca-cert=ca.pem", "cert=client.pem", "key=client.key")
	run("safe", append(append([]string{"--rm"}, good...), toolbox, "sh", "-c", "for n in 1 2 3; do echo secret $n; done")...)
	r.until("secret 3")
	run("framed", append(append([]string{"--rm", "--log-opt", "syslog-format=rfc5424"}, good...), toolbox, "echo", "counted octets")...)
	r.until("counted octets")
	refused(t, n.try(nil, append(append([]string{"run", "--rm", "--network=none"}, options("cert=client.pem", "key=client.key")...), toolbox, "true")...), "initialize logging driver", "certificate")
	refused(t, n.try(nil, append(append([]string{"run", "--rm", "--network=none"}, options("ca-cert=ca.pem", "cert=client.pem")...), toolbox, "true")...), "syslog-tls-key: one is missing")
}

const journalSocket = "/run/systemd/journal/socket"

// noJournal skips a test where there is one.
func noJournal(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(journalSocket); err == nil {
		t.Skip("a journal runs here, whose entries are not the test's")
	}
}

// journal listens in the journal's place, and gathers what comes.
func journal(t *testing.T) *sink {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(journalSocket), 0o755))
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: journalSocket, Net: "unixgram"})
	check(t, err)
	t.Cleanup(func() {
		l.Close()
		os.Remove(journalSocket)
		os.Remove(filepath.Dir(journalSocket))
	})
	got := &sink{}
	go func() {
		b := make([]byte, 1<<17)
		for {
			n, err := l.Read(b)
			if err != nil {
				return
			}
			got.add(string(bytes.Clone(b[:n])))
		}
	}()
	return got
}

// logJournald has a container log into the journal.
func logJournald(t *testing.T, _ *testenv.DaemonProcess, n nerd, run func(string, ...string) string) {
	noJournal(t)
	refused(t, n.try(nil, "run", "--rm", "--network=none", "--log-driver", "journald", toolbox, "true"), "journald is not enabled on this host")
	got := journal(t)
	run("journal", "--log-driver", "journald", "--log-opt", "labels=my.tier", "--label", "my.tier=front", toolbox, "sh", "-c", "echo hello; echo trouble >&2")
	id := strings.TrimSpace(n.do("inspect", "-f", "{{.Id}}", "journal"))
	testenv.Eventually(t, 20*time.Second, "both lines have come", func() bool { return len(got.all()) == 2 })
	for _, want := range []string{
		"MESSAGE=hello\nPRIORITY=6\n", "MESSAGE=trouble\nPRIORITY=3\n", "CONTAINER_ID=" + id[:12] + "\n", "CONTAINER_ID_FULL=" + id + "\n", "CONTAINER_NAME=journal\n",
		"CONTAINER_TAG=" + id[:12] + "\n", "SYSLOG_IDENTIFIER=" + id[:12] + "\n", "MY_TIER=front\n", "IMAGE_NAME=",
	} {
		if !got.has(want) {
			t.Errorf("no %q in %q", want, got.all())
		}
	}
	if o := n.try(nil, "logs", "journal"); o.Stdout != "hello\n" || o.Stderr != "trouble\n" {
		t.Errorf("logs printed %q, %q", o.Stdout, o.Stderr)
	}
}

// logBinary has a program of the user's, while the daemon is killed and the supervisor replaced, killed and followed.
func logBinary(t *testing.T, d *testenv.DaemonProcess, n nerd, run func(string, ...string) string) {
	dir := testenv.Dir(t)
	program := filepath.Join(dir, "logger")
	check(t, os.WriteFile(program, []byte(`#!/bin/sh
[ "$1" = dir ] || exit 1
echo "$CONTAINER_NAMESPACE $CONTAINER_ID" >> "$2/begun"
exec 5>&-
/bin/cat <&3 >> "$2/out" &
/bin/cat <&4 >> "$2/err"
wait
echo ended >> "$2/ended"
`), 0o755))
	read := func(name string) string {
		data, _ := os.ReadFile(filepath.Join(dir, name))
		return string(data)
	}
	until := func(name, text string) {
		t.Helper()
		testenv.Eventually(t, 30*time.Second, name+" has "+text, func() bool { return strings.Contains(read(name), text) })
	}
	run("binary", "-d", "--log-driver", "binary://"+program+"?dir="+dir, toolbox, "sh", "-c", counting)
	id := strings.TrimSpace(n.do("inspect", "-f", "{{.Id}}", "binary"))
	until("out", "line 60\n")
	d.Kill9()
	until("out", "line 80\n")
	d.Start()
	if out, err := exec.Command(testenv.Binary(t, "minid"), "--config", d.Config, "upgrade-supervisor").CombinedOutput(); err != nil {
		t.Errorf("upgrade-supervisor: %v: %s", err, out)
	}
	until("err", "last\n")
	until("ended", "ended\n")
	allLines(t, strings.Split(read("out"), "\n"), 0)
	if got := read("begun"); got != "default "+id+"\n" {
		t.Errorf("begun: %q", got)
	}
	if out := n.do("logs", "-n2", "binary"); !strings.Contains(out, "line 199\n") {
		t.Errorf("logs printed %q", out)
	}
	t.Log("a supervisor that is killed is followed by one with another logger; one that cannot begin is told")
	run("again", "-d", "--log-driver", "binary://"+program+"?dir="+dir, toolbox, "sh", "-c", "trap 'echo after; exit' TERM; echo before; while :; do sleep 0.1; done")
	until("out", "before\n")
	for _, pid := range d.Supervisors() {
		check(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	testenv.Eventually(t, 20*time.Second, "another logger has begun", func() bool { return strings.Count(read("begun"), "\n") == 3 })
	n.do("stop", "again")
	until("out", "after\n")
	o := n.try(nil, "run", "--rm", "--network=none", "--log-driver", "binary://"+program+"-not-there", toolbox, "true")
	if o.Code != 125 && o.Code != 127 || !strings.Contains(o.Stderr, "logger") || !strings.Contains(o.Stderr, "no such file or directory") {
		t.Errorf("exit code %d, %s", o.Code, o.Stderr)
	}
}

package scenario_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// peers are minicrictl and upstream's crictl beside each other, on one runtime. Its network namespace is the test's
// goroutine's: the parts of a test are no subtests.
type peers struct {
	c            *testenv.CRIServer
	endpoint     string
	ours, theirs string
	dir          string
}

func newPeers(t *testing.T, runtime string) *peers {
	t.Helper()
	p := &peers{theirs: testenv.Crictl(t), ours: testenv.Binary(t, "minicrictl")}
	p.c, p.dir = testenv.StartCRI(t, testenv.CRIOptions{Runtime: runtime}), testenv.Dir(t)
	p.endpoint = "unix://" + p.c.Socket
	return p
}

func (p *peers) run(t *testing.T, program string, args ...string) crictlOutput {
	t.Helper()
	return runCrictl(t, program, "", append([]string{"--runtime-endpoint", p.endpoint}, args...)...)
}

// do runs minicrictl, which has to do well, and returns the first word that it printed.
func (p *peers) do(t *testing.T, args ...string) string {
	t.Helper()
	o := p.run(t, p.ours, args...)
	if o.Code != 0 {
		t.Fatalf("minicrictl %s: code %d\n%s%s", strings.Join(args, " "), o.Code, o.Stdout, o.Stderr)
	}
	return strings.TrimSpace(o.Stdout)
}

// file writes a configuration.
func (p *peers) file(t *testing.T, name string, value any) string {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

type object = map[string]any

// podFile configures a pod.
func (p *peers) podFile(t *testing.T, name string) string {
	return p.file(t, name+".json", object{
		"metadata": object{"name": name, "namespace": "space", "uid": name}, "log_directory": filepath.Join(p.dir, "logs", name),
		"labels": object{"app": name}, "annotations": object{"note": "<a>"}, "linux": object{"cgroup_parent": p.c.Parent},
		"port_mappings": []object{{"container_port": 80}},
	})
}

func (p *peers) containerFile(t *testing.T, name, script string, more object) string {
	config := object{
		"metadata": object{"name": name}, "image": object{"image": p.c.Registry.Ref("busybox")}, "command": []string{"/bin/sh", "-c", script}, "log_path": name + "/0.log",
		"labels": object{"io.kubernetes.pod.name": "named", "io.kubernetes.pod.namespace": "spaced", "tier": "test"}, "linux": object{},
	}
	for k, v := range more {
		config[k] = v
	}
	return p.file(t, name+".json", config)
}

// start makes a container in a pod and starts it.
func (p *peers) start(t *testing.T, pod, podFile, name, script string, more object) string {
	t.Helper()
	id := p.do(t, "create", pod, p.containerFile(t, name, script, more), podFile)
	p.do(t, "start", id)
	return id
}

var (
	identifiers = regexp.MustCompile(`\b[0-9a-f]{64}\b|\b[0-9a-f]{13}\b`)
	ages        = regexp.MustCompile(`(Less than a second|About a minute|\d+ \w+) ago`)
	columns     = regexp.MustCompile(` {2,}`)
	moments     = regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*|TimeStamp\[\d+\]: \d+`)
	amounts     = regexp.MustCompile(`\b\d+(\.\d+)?([kM]?B)?\b`)
)

// plain takes away what differs between two runs of the same program.
func plain(text string) string {
	text = strings.ReplaceAll(text, "\x1b[2J\x1b[H", "")
	text = strings.ReplaceAll(text, "SIGNAL_", "") // in the names of signals since Kubernetes 1.37
	text = strings.ReplaceAll(text, "  mount_options: true\n", "")
	for e, word := range map[*regexp.Regexp]string{identifiers: "ID", ages: "AGO", moments: "TIME"} {
		text = e.ReplaceAllString(text, word)
	}
	return strings.TrimSpace(columns.ReplaceAllString(text, "  "))
}

// anyAmount takes the figures away too, and how wide the spaces are.
func anyAmount(text string) string {
	return amounts.ReplaceAllString(strings.Join(strings.Fields(plain(text)), " "), "N")
}

// document reads JSON for a comparison: without times and figures, and without what Kubernetes 1.37 has brought into the
// CRI since crictl 1.36: the names of signals, and a feature.
func document(t *testing.T, text string) any {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	var walk func(any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case object:
			if list, ok := v["containers"].([]any); ok && v["process"] != nil {
				// In a pod's statistics they come in any order.
				slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			}
			delete(v, "mount_options")
			for k, inner := range v {
				v[k] = walk(inner)
				if slices.Contains([]string{"timestamp", "usageCoreNanoSeconds", "usageNanoCores", "workingSetBytes", "availableBytes", "usageBytes", "rssBytes", "pageFaults", "majorPageFaults", "rxBytes", "txBytes", "usedBytes", "inodesUsed"}, k) {
					v[k] = "figure"
				}
			}
		case []any:
			for i := range v {
				v[i] = walk(v[i])
			}
		case string:
			return strings.TrimPrefix(v, "SIGNAL_")
		}
		return v
	}
	return walk(value)
}

// same runs both with the same arguments and compares what they print on the standard output.
func (p *peers) same(t *testing.T, normal func(string) string, args ...string) {
	t.Helper()
	theirs, ours := p.run(t, p.theirs, args...), p.run(t, p.ours, args...)
	what := strings.Join(args, " ")
	if (theirs.Code == 0) != (ours.Code == 0) {
		t.Errorf("%s: codes %d and %d\n%s\n%s", what, theirs.Code, ours.Code, theirs.Stderr, ours.Stderr)
		return
	}
	if theirs.Code != 0 {
		// What criu says has several lines.
		if strings.Count(ours.Stderr, "\n") != 1 && args[0] != "checkpoint" || !strings.HasPrefix(ours.Stderr, "minicrictl: ") {
			t.Errorf("%s: an error is one line: %q", what, ours.Stderr)
		}
		return
	}
	if normal == nil {
		if a, b := document(t, theirs.Stdout), document(t, ours.Stdout); !reflect.DeepEqual(a, b) {
			t.Errorf("%s:\ncrictl     %s\nminicrictl %s", what, theirs.Stdout, ours.Stdout)
		}
		return
	}
	if a, b := normal(theirs.Stdout), normal(ours.Stdout); a != b {
		t.Errorf("%s:\ncrictl:\n%s\nminicrictl:\n%s", what, a, b)
	}
}

// TestCrictlCompared puts every reading command of crictl beside minicrictl's, on containerd.
func TestCrictlCompared(t *testing.T) { newPeers(t, "containerd").compare(t) }

// TestCrictlComparedOnMinid does the same on minid.
func TestCrictlComparedOnMinid(t *testing.T) { newPeers(t, "minid").compare(t) }

func (p *peers) compare(t *testing.T) {
	t.Helper()
	busybox := p.c.Registry.Ref("busybox")
	p.same(t, plain, "pull", busybox)
	p.same(t, plain, "pull", p.c.Registry.Address+"/nosuch:latest")
	podFile := p.podFile(t, "first")
	pod := p.do(t, "runp", podFile)
	running := p.start(t, pod, podFile, "runs", "echo out; echo err >&2; printf part; sleep 600", nil)
	exited := p.start(t, pod, podFile, "ended", "exit 3", nil)
	testenv.Eventually(t, 10*time.Second, "a container ends", func() bool { return p.do(t, "ps", "-aq", "-s", "exited") == exited })
	stopped := p.do(t, "runp", p.podFile(t, "second"))
	p.do(t, "stopp", stopped)

	p.compareJSON(t, pod, stopped, running, exited)
	p.compareText(t, pod, running, exited)
	p.better(t, running)
}

func (p *peers) compareJSON(t *testing.T, pod, stopped, running, exited string) {
	t.Helper()
	// Some runtimes count the files of a container in the background, when they are first asked.
	testenv.Eventually(t, 10*time.Second, "files are counted", func() bool {
		return strings.Contains(p.do(t, "stats", "-o", "json", running), "inodesUsed")
	})
	busybox := p.c.Registry.Ref("busybox")
	for _, args := range []string{
		"ps -a -o json", "pods -o json", "images -o json", "images -o json " + busybox, "inspect " + running, "inspect " + running + " " + exited, "inspect -q " + exited,
		"inspect", "inspect -s exited", "inspectp " + pod, "inspectp -q " + stopped, "inspectp --state notready", "inspectp", "inspecti " + busybox, "inspecti",
		"inspecti -q", "metricdescs", "info", "info -q", "imagefsinfo", "stats -o json", "stats -o json " + running, "statsp -o json " + pod, "runp jsonschema",
	} {
		p.same(t, nil, strings.Fields(args)...)
	}
}

func (p *peers) compareText(t *testing.T, pod, running, exited string) {
	t.Helper()
	busybox := p.c.Registry.Ref("busybox")
	for _, args := range []string{
		"version", "ps", "ps -a", "ps -q", "ps -aq", "ps -v", "ps -a --no-trunc", "ps -l", "ps -n 1", "ps -r", "ps -a --id " + exited[:7], "ps -a --name ^en", "ps -p " + pod,
		"ps -s exited", "ps --image " + busybox, "ps --image nosuch", "ps --label tier=test", "ps --label tier=none", "ps --namespace ^spaced$", "ps -o yaml", "ps -s what", "ps -o what",
		"pods", "pods -q", "pods -v", "pods --no-trunc", "pods --state ready", "pods -s NotReady", "pods -l", "pods -n 1", "pods --name first", "pods --namespace spa", "pods --id " + pod[:9],
		"pods --label app=first", "pods -o yaml", "images", "images -q", "images -v", "images --digests --pinned", "images --no-trunc", "images -f dangling=false", "images -f reference=pau",
		"images -f before=" + busybox, "images -f since=" + p.c.Registry.Ref("pause"), "images -f odd=1", "images -o yaml", "images " + busybox, "image", "img -q",
		"inspect -o table -q " + running, "inspect -o table -q " + exited, "inspect -o yaml -q " + running, "inspect -o go-template --template {{.status.metadata.name}} " + running,
		"inspect -o go-template --template {{.nosuch}} " + running, "inspectp -o table -q " + pod, "inspectp -o yaml -q " + pod, "inspecti -o table -q " + busybox, "imagefsinfo -o yaml",
		"inspect nosuch", "inspectp nosuch", "inspecti nosuch", "info -q -o yaml", "info -o what", "runtime-config", "checkpoint -e /nosuch/x.tar " + running,
		"update-runtime-config -p 10.66.0.0/16", "config --get timeout", "config --list", "config --get nosuch", "start nosuch", "stop", "update --cpu-share 512 " + running,
		"logs " + running, "logs -t " + running, "logs --tail 1 " + running, "logs --tail 0 " + running, "logs --limit-bytes 5 " + running, "logs -s stdout " + running,
		"logs -s stderr " + running, "logs --since 1h " + running, "logs --since 2100-01-02T03:04:05Z " + running, "logs -r " + running, "logs -p " + running, "logs nosuch", "logs -f " + exited,
		"exec -s " + running + " echo hello", "exec " + running + " sh -c exit", "exec nosuch x", "exec --name ^runs$ hostname",
	} {
		normal := plain
		if strings.HasPrefix(args, "imagefsinfo") {
			normal = anyAmount
		}
		p.same(t, normal, strings.Fields(args)...)
	}
	p.same(t, anyAmount, "metricsp")
	p.same(t, anyAmount, "stats")
	p.same(t, anyAmount, "stats", "-a", "--id", running[:13])
	p.same(t, anyAmount, "statsp", pod)
	p.same(t, anyAmount, "imagefsinfo", "-o", "table")
}

// better is where minicrictl differs on purpose.
func (p *peers) better(t *testing.T, running string) {
	t.Helper()
	if o := p.run(t, p.ours, "ps", "-o", "wide"); !strings.Contains(o.Stdout, " 10.") || !strings.Contains(o.Stdout, "80/tcp") || !strings.Contains(o.Stdout, "first") {
		t.Errorf("ps -o wide:\n%s", o.Stdout)
	}
	if o := p.run(t, p.ours, "exec", running, "--", "sh", "-c", "echo a; echo b >&2; exit 9"); o.Code != 9 || o.Stdout != "a\n" || o.Stderr != "b\n" {
		t.Errorf("exec: %+v", o)
	}
	if o := p.run(t, p.ours, "exec", "-s", running, "sh", "-c", "printf a; printf b >&2; exit 9"); o.Code != 9 || o.Stdout != "a" || o.Stderr != "b" {
		t.Errorf("exec -s: %+v", o)
	}
	if o := p.run(t, p.ours, "exec", "-r", "websocket", running, "echo", "socket"); o.Code != 0 || o.Stdout != "socket\n" {
		t.Errorf("exec over a WebSocket: %+v", o)
	}
	if o := p.run(t, p.ours, "debug", running); p.c.Daemon == nil && (o.Code != 1 || !strings.Contains(o.Stderr, "debug needs minid")) {
		t.Errorf("debug: %+v", o)
	}
}

// TestCrictlLifecycle lets both make, change and remove the same things, each its own.
func TestCrictlLifecycle(t *testing.T) {
	p := newPeers(t, "containerd")
	p.do(t, "pull", p.c.Registry.Ref("busybox"))
	texts := map[string][]string{}
	for i, program := range []string{p.theirs, p.ours} {
		step := func(code int, args ...string) string {
			o := p.run(t, program, args...)
			if (o.Code == 0) != (code == 0) {
				t.Errorf("%s: code %d\n%s", strings.Join(args, " "), o.Code, o.Stderr)
			}
			texts[program] = append(texts[program], args[0]+":\n"+plain(o.Stdout))
			return strings.TrimSpace(o.Stdout)
		}
		// A pod of the same name is the same pod: the second client gets its own names.
		podFile := p.podFile(t, fmt.Sprintf("pod%d", i))
		ctrFile := p.containerFile(t, fmt.Sprintf("ctr%d", i), "trap 'exit 0' TERM; while :; do sleep 0.1; done", nil)
		pod := step(0, "runp", podFile)
		id := step(0, "create", pod, ctrFile, podFile)
		step(0, "start", id)
		step(1, "start", id)
		step(0, "update", "--memory", "67108864", id)
		if limit := strings.TrimSpace(p.do(t, "exec", id, "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes")); limit != "67108864" && !strings.Contains(limit, "can't open") {
			t.Errorf("the limit is %q", limit)
		}
		step(1, "rm", id)
		step(0, "stop", "-t", "5", id)
		log := filepath.Join(p.dir, "logs", fmt.Sprintf("pod%d", i), fmt.Sprintf("ctr%d", i), "0.log")
		if err := os.WriteFile(log+".20260101-000000", nil, 0o644); err != nil {
			t.Fatal(err)
		}
		step(0, "rm", id)
		if left, err := filepath.Glob(log + "*"); err != nil || len(left) > 0 {
			t.Errorf("logs are left: %v %v", left, err)
		}
		step(1, "rmp", pod)
		step(0, "stopp", pod)
		step(0, "rmp", pod)
		step(0, "run", ctrFile, podFile)
		step(0, "stop", "-a")
		step(0, "rm", "-a", "-f")
		step(0, "rmp", "-a", "-f")
		step(0, "rm", "-a")
		step(0, "rmi", "--prune")
		step(1, "rmi", "nosuch")
		step(0, "images", "-q")
		step(0, "pull", p.c.Registry.Ref("busybox"))
		step(0, "rmi", p.c.Registry.Ref("busybox"))
		for _, image := range []string{p.c.Registry.Ref("busybox"), testenv.SuiteBusybox} { // for the other one to remove too
			p.do(t, "pull", image)
		}
	}
	for i, theirs := range texts[p.theirs] {
		if ours := texts[p.ours][i]; sorted(ours) != sorted(theirs) {
			t.Errorf("step %d: crictl %q, minicrictl %q", i, theirs, ours)
		}
	}
}

// sorted is for answers of things done at the same time.
func sorted(text string) string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestCrictlStreams holds both clients to the same streams: a terminal, an attachment, a forwarded port.
func TestCrictlStreams(t *testing.T) {
	p := newPeers(t, "containerd")
	p.do(t, "pull", p.c.Registry.Ref("busybox"))
	podFile := p.podFile(t, "streams")
	pod := p.do(t, "runp", podFile)
	server := p.start(t, pod, podFile, "server", "mkdir /www; echo page > /www/index.html; exec httpd -f -p 80 -h /www", nil)
	for i, program := range []string{p.theirs, p.ours} {
		p.terminal(t, program, server)
		id := p.start(t, pod, podFile, fmt.Sprintf("cat%d", i), "while read line; do echo \"<$line>\"; done", object{"stdin": true, "stdin_once": true})
		o := runCrictl(t, program, "a\nb\n", "--runtime-endpoint", p.endpoint, "attach", "-i", id)
		if o.Code != 0 || o.Stdout != "<a>\n<b>\n" {
			t.Errorf("%s attach: %+v", program, o)
		}
		p.forwards(t, program, pod)
	}
	o := runCrictl(t, p.ours, strings.Repeat("0123456789", 200_000), "--runtime-endpoint", p.endpoint, "exec", "-i", server, "wc", "-c")
	if o.Code != 0 || strings.TrimSpace(o.Stdout) != "2000000" {
		t.Errorf("exec -i: %+v", o)
	}
	p.detach(t, p.start(t, pod, podFile, "term", "while read line; do echo \"<$line>\"; done", object{"stdin": true, "tty": true}))
}

func (p *peers) terminal(t *testing.T, program, id string) {
	t.Helper()
	s := showProgram(t, 81, 25, program, "--runtime-endpoint", p.endpoint, "exec", "-it", id, "sh", "-c", "tty; read line; echo \"<$line>\"; stty size; exit 4")
	s.sees("/dev/pts/")
	s.resize(133, 44)
	time.Sleep(300 * time.Millisecond) // for the size to arrive
	s.typed("a word\r")
	s.sees("<a word>\r\n44 133\r\n")
	if code := s.code(); program == p.ours && code != 4 || code == 0 {
		t.Errorf("%s exec -it: code %d", program, code)
	}
}

// detach types the detach keys: the container runs on.
func (p *peers) detach(t *testing.T, id string) {
	t.Helper()
	s := showProgram(t, 80, 25, p.ours, "--runtime-endpoint", p.endpoint, "attach", "-it", id)
	s.typed("x\r")
	s.sees("<x>")
	s.typed("\x10\x11")
	if code := s.code(); code != 0 {
		t.Errorf("code %d", code)
	}
	if state := p.do(t, "ps", "-q", "--id", id); state != id {
		t.Errorf("the container does not run any more: %q", state)
	}
}

func (p *peers) forwards(t *testing.T, program, pod string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close() // its number is what is wanted
	cmd := exec.CommandContext(t.Context(), program, "--runtime-endpoint", p.endpoint, "port-forward", pod, strconv.Itoa(port)+":80")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 10*time.Second, "the page comes", func() bool {
		page, err := testenv.Get(fmt.Sprintf("127.0.0.1:%d", port))
		return err == nil && page == "page\n"
	})
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil && program == p.ours {
		t.Errorf("an interrupt ends it well: %v", err)
	}
}

// TestCrictlLogsFollow rotates a log as the kubelet does while it is followed: no line is lost, none comes twice.
func TestCrictlLogsFollow(t *testing.T) {
	p := newPeers(t, "containerd")
	p.do(t, "pull", p.c.Registry.Ref("busybox"))
	podFile := p.podFile(t, "logs")
	pod := p.do(t, "runp", podFile)
	id := p.start(t, pod, podFile, "writer", "n=0; while [ $n -lt 400 ]; do echo line $n; n=$((n+1)); sleep 0.01; done", nil)
	log := filepath.Join(p.dir, "logs/logs/writer/0.log")
	follower := exec.CommandContext(t.Context(), p.ours, "--runtime-endpoint", p.endpoint, "logs", "-f", id)
	var out strings.Builder
	follower.Stdout = &out
	if err := follower.Start(); err != nil {
		t.Fatal(err)
	}
	for n := range 4 {
		time.Sleep(700 * time.Millisecond)
		if err := os.Rename(log, fmt.Sprintf("%s.2026010%d-000000", log, n)); err != nil {
			t.Fatal(err)
		}
		p.do(t, "logs", "-r", "--tail", "0", id)
	}
	if err := follower.Wait(); err != nil {
		t.Error(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for n, line := range lines {
		if want := fmt.Sprintf("line %d", n); line != want {
			t.Fatalf("line %d is %q", n, line)
		}
	}
	if len(lines) != 400 {
		t.Errorf("%d lines, want 400", len(lines))
	}
	interrupted := exec.CommandContext(t.Context(), p.ours, "--runtime-endpoint", p.endpoint, "events")
	var errs strings.Builder
	interrupted.Stderr = &errs
	if err := interrupted.Start(); err != nil {
		t.Fatal(err)
	}
	_ = interrupted.Process.Signal(syscall.SIGINT) // it may have ended: Debian's containerd has no events
	_ = interrupted.Wait()
	if text := errs.String(); strings.Count(text, "\n") > 1 {
		t.Errorf("events: %q", text)
	}
}

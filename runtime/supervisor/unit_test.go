package supervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/cgroups"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

func TestStartError(t *testing.T) {
	for _, c := range []struct{ from, want string }{
		{
			`unable to start container process: error during container init: exec: "foo": executable file not found in $PATH`,
			`exec "foo": not found in the container's PATH: check the command: not found`,
		},
		{
			`unable to start container process: error during container init: exec: "foo": stat foo: no such file or directory`,
			`exec "foo": no such file in the container: check the command: not found`,
		},
		{
			`unable to start container process: error during container init: exec: "foo": permission denied`,
			`exec "foo": not an executable file for this user: check its mode and mount: permission denied`,
		},
		{
			`unable to start container process: error during container init: chdir to cwd ("/x") set in config.json failed: permission denied`,
			`working directory "/x": permission denied: check it: invalid argument`,
		},
		{
			`unable to start container process: error during container init: error mounting "/a" to rootfs at "/b": mount src=/a: not a directory`,
			`mount /a at /b: not a directory: invalid argument`,
		},
		{
			`unable to start container process: error during container init: error preparing rootfs: remount-propagation dst=/r, flags=MS_PRIVATE: permission denied`,
			"root filesystem /r: the user that the container's root is mapped to cannot reach it: give each directory above it mode o+x: permission denied",
		},
		{
			`unable to start container process: error during container init: error mounting "x" to rootfs at "/b": mount src=x, dst=/b: no such device`,
			`mount x at /b: no such device: is the type of the filesystem known to this kernel?: invalid argument`,
		},
		{
			`unable to start container process: failed to do a thing: device or resource busy`,
			`cannot do a thing: device or resource busy: invalid argument`,
		},
	} {
		if got := startError([]string{"foo"}, "/x", errors.New(c.from)).Error(); got != c.want {
			t.Errorf("%s\nis told as %s\nwant       %s", c.from, got, c.want)
		}
	}
}

func TestExitOf(t *testing.T) {
	for _, c := range []struct {
		status       unix.WaitStatus
		code, signal int
	}{{0, 0, 0}, {7 << 8, 7, 0}, {255 << 8, 255, 0}, {9, 137, 9}, {15, 143, 15}, {11 | 0x80, 139, 11}} {
		if e := exitOf(c.status); e.Code != c.code || e.Signal != c.signal {
			t.Errorf("status %x is %+v", c.status, e)
		}
	}
}

func TestParseOOMKills(t *testing.T) {
	for text, want := range map[string]uint64{
		"oom_kill_disable 0\nunder_oom 0\noom_kill 3\n":               3,
		"low 0\nhigh 0\nmax 5\noom 2\noom_kill 1\noom_group_kill 0\n": 1,
		"":             0,
		"oom_kill x\n": 0,
	} {
		if got := parseOOMKills(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("1 (a) b) S 1 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 77 1 1")
	f.Add("1 ((((")
	f.Fuzz(func(t *testing.T, line string) {
		if st, err := parseStat(line); err == nil && st.state == 0 {
			t.Errorf("%q has no state", line)
		}
	})
}

func TestParseStat(t *testing.T) {
	st, err := parseStat("12 (a) Z x) S 1 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 77 1 1")
	if err != nil || st.state != 'S' || st.startTime != 77 {
		t.Errorf("got %+v, %v", st, err)
	}
	if st, err := readStat(os.Getpid()); err != nil || st.startTime == 0 {
		t.Errorf("this process is %+v, %v", st, err)
	}
}

func TestCgroupsOfSharesNothing(t *testing.T) {
	if dirs := cgroupsOf(os.Getpid()); len(dirs) > 0 {
		t.Errorf("this process would be killed with %v", dirs)
	}
}

func TestRemoveCgroupRefusesItsOwn(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/cgroup.procs", []byte("1\n"+itoa(os.Getpid())+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := removeCgroup(dir); err == nil {
		t.Error("not refused")
	}
}

func TestGate(t *testing.T) {
	g := newGate()
	g.enter()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := g.shut(ctx); !errdefs.IsUnavailable(err) {
		t.Fatalf("shut with one inside: %v", err)
	}
	g.enter() // open again
	g.leave()
	g.leave()
	if err := g.shut(context.Background()); err != nil {
		t.Fatal(err)
	}
	entered := make(chan struct{})
	go func() {
		g.enter()
		close(entered)
	}()
	select {
	case <-entered:
		t.Fatal("entered a shut gate")
	case <-time.After(10 * time.Millisecond):
	}
	g.open()
	<-entered
}

func TestUpdated(t *testing.T) {
	old := &cgroups.Cgroup{Resources: &cgroups.Resources{Memory: 1, CpuShares: 2, BlkioWeight: 3}}
	limit, shares := int64(-1), uint64(1024)
	got, err := updated(old, &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}, CPU: &specs.LinuxCPU{Shares: &shares, Cpus: "0"}})
	if err != nil {
		t.Fatal(err)
	}
	r := got.Resources
	if r.Memory != -1 || r.MemorySwap != -1 || r.CpuShares != 1024 || r.CpusetCpus != "0" || r.BlkioWeight != 3 || !r.SkipDevices {
		t.Errorf("got %+v", r)
	}
	if old.Resources.Memory != 1 || old.Resources.SkipDevices {
		t.Error("the old ones have changed")
	}
}

func TestPick(t *testing.T) {
	f := []*os.File{os.Stdin, os.Stdout, os.Stderr}
	in, out, errOut, err := pick(wire.Attachment{Stdin: true, Stderr: true}, f[:2])
	if err != nil || in != f[0] || out != nil || errOut != f[1] {
		t.Errorf("got %v %v %v %v", in, out, errOut, err)
	}
	if _, _, _, err := pick(wire.Attachment{Stdin: true}, f); !errdefs.IsInvalidArgument(err) {
		t.Errorf("too many: %v", err)
	}
	if _, _, _, err := pick(wire.Attachment{Stdin: true, Stdout: true}, f[:1]); !errdefs.IsInvalidArgument(err) {
		t.Errorf("too few: %v", err)
	}
}

// pollablePipe is a pipe whose ends the runtime's poller waits for.
func pollablePipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r, w = os.NewFile(uintptr(fds[0]), "r"), os.NewFile(uintptr(fds[1]), "w")
	t.Cleanup(func() { r.Close(); w.Close() })
	return r, w
}

func TestOutletHoldKeepsEveryByte(t *testing.T) {
	r, w := pollablePipe(t)
	o := newOutlet(w, nil)
	go o.run(func() { t.Error("it ended") })
	data := bytes.Repeat([]byte("0123456789"), 50_000)
	never := make(chan struct{})
	o.put(data, never)
	first := make([]byte, 100_000)
	if _, err := io.ReadFull(r, first); err != nil {
		t.Fatal(err)
	}
	file, pending, lives := o.hold()
	if !lives {
		t.Fatal("it died")
	}
	if err := file.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	again := newOutlet(file, pending)
	done := make(chan struct{})
	go again.run(func() { close(done) })
	again.end()
	rest, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(append(first, rest...), data) {
		t.Errorf("got %d bytes, %v", len(first)+len(rest), err)
	}
	<-done
}

func TestOutletNoticesItsClientGo(t *testing.T) {
	r, w := pollablePipe(t)
	o := newOutlet(w, nil)
	done := make(chan struct{})
	go o.run(func() { close(done) })
	r.Close()
	<-done // with nothing written
}

func TestOutletWaitsWhenFull(t *testing.T) {
	_, w := pollablePipe(t)
	o := newOutlet(w, nil)
	go o.run(func() {})
	hurry := make(chan struct{})
	o.put(make([]byte, outletLimit), hurry)
	waited := make(chan struct{})
	go func() {
		o.put(make([]byte, outletLimit), hurry)
		close(waited)
	}()
	select {
	case <-waited:
		t.Error("a full outlet takes more")
	case <-time.After(20 * time.Millisecond):
	}
	close(hurry)
	<-waited
	o.cut()
	<-o.done
}

func TestPumpDrains(t *testing.T) {
	r, w := pollablePipe(t)
	var mu sync.Mutex
	var got bytes.Buffer
	pool := &sync.Pool{New: func() any {
		b := make([]byte, readSize)
		return &b
	}}
	p, err := newPump(r, pool, func(b []byte, _ time.Time, _ <-chan struct{}) {
		mu.Lock()
		defer mu.Unlock()
		got.Write(b)
	})
	if err != nil {
		t.Fatal(err)
	}
	go p.run()
	data := strings.Repeat("x", 60_000) // fits the pipe
	if _, err := io.WriteString(w, data); err != nil {
		t.Fatal(err)
	}
	p.drain() // the other end is open still
	mu.Lock()
	if got.Len() != len(data) {
		t.Errorf("drained %d bytes of %d", got.Len(), len(data))
	}
	mu.Unlock()
	w.Close()
	<-p.done
	if !p.ended {
		t.Error("it is held")
	}
}

func TestPumpHolds(t *testing.T) {
	r, _ := pollablePipe(t)
	pool := &sync.Pool{New: func() any {
		b := make([]byte, readSize)
		return &b
	}}
	p, err := newPump(r, pool, func([]byte, time.Time, <-chan struct{}) {})
	if err != nil {
		t.Fatal(err)
	}
	go p.run()
	if !p.hold() {
		t.Error("it ended")
	}
}

func TestPipesNeverBreak(t *testing.T) {
	dir := t.TempDir()
	child, kept, err := makePipes(dir, wire.Stdio{Stdin: true}, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer child.close()
	kept.stdout.Close() // as when the supervisor dies and nobody holds it
	if _, err := child.stdout.WriteString("kept\n"); err != nil {
		t.Fatalf("the container sees %v", err)
	}
	again, err := reopenPipes(dir, wire.Stdio{Stdin: true})
	if err != nil {
		t.Fatal(err)
	}
	defer again.close()
	buf := make([]byte, 10)
	if n, err := again.stdout.Read(buf); err != nil || string(buf[:n]) != "kept\n" {
		t.Errorf("got %q, %v", buf[:n], err)
	}
	kept.stdin.Close()
	kept.stderr.Close()
	child.stdout.Close()
	if n, err := again.stdout.Read(buf); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("after the container's end: %d bytes, %v", n, err)
	}
}

func TestPIDFDStatus(t *testing.T) {
	cmd, err := os.StartProcess("/bin/sh", []string{"sh", "-c", "exit 9"}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(cmd.Pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		t.Skip(err)
	}
	pidfd := os.NewFile(uintptr(fd), "pidfd")
	defer pidfd.Close()
	p := &process{pidfd: pidfd}
	if !p.awaitEnd() {
		t.Fatal("it does not end")
	}
	if _, err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	status, err := pidfdStatus(pidfd)
	if err != nil {
		t.Skipf("this kernel is older than 6.15: %v", err)
	}
	if status.ExitStatus() != 9 {
		t.Errorf("status is %v", status)
	}
}

func TestLastMessage(t *testing.T) {
	log := `{"level":"warning","msg":"w"}
{"level":"error","msg":"first"}
no json
{"level":"error","msg":"last"}
`
	if got := lastMessage([]byte(log)); got != "last" {
		t.Errorf("got %q", got)
	}
}

// TestRuntimeArgs has a runtime's configured arguments before the verb, where its global options belong.
func TestRuntimeArgs(t *testing.T) {
	e := &external{start: wire.Start{Dir: "/b", Runtime: "/bin/runtime", RuntimeArgs: []string{"--debug", "--x=1"}}}
	want := "/bin/runtime --root /b/state --log /b/runtime.log --log-format json --debug --x=1 start id"
	if got := strings.Join(e.command("start", "id").Args, " "); got != want {
		t.Errorf("%s; want %s", got, want)
	}
}

func TestFeatures(t *testing.T) {
	var b bytes.Buffer
	if err := Features(&b, "build"); err != nil {
		t.Fatal(err)
	}
	var f features.Features
	if err := json.Unmarshal(b.Bytes(), &f); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(f.MountOptions, "rro") || !slices.Contains(f.Linux.Namespaces, "user") || !*f.Linux.MountExtensions.IDMap.Enabled {
		t.Errorf("features %s", b.String())
	}
}

// TestSettle waits for the starts that are under way, and for no others.
func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s starts
		all := func(wire.Process) bool { return true }
		s.settle(all) // none: at once
		one, other := wire.Process{ID: "one"}, wire.Process{ID: "other"}
		endOne, endOther := s.begin(one), s.begin(other)
		var settled atomic.Bool
		go func() {
			s.settle(func(p wire.Process) bool { return p == one })
			settled.Store(true)
		}()
		synctest.Wait()
		if settled.Load() {
			t.Fatal("it did not wait")
		}
		defer s.begin(one)() // comes later
		endOne()
		synctest.Wait()
		if !settled.Load() {
			t.Fatal("it waits for others")
		}
		began := time.Now()
		s.settle(all)
		if took := time.Since(began); took != settlePatience {
			t.Errorf("one that hangs was waited for %s", took)
		}
		endOther()
	})
}

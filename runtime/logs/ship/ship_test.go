package ship

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minirt/mini/runtime/logs"
	"github.com/minirt/mini/runtime/logs/driver"
)

// list is a target that keeps what it gets, and refuses while it is closed.
type list struct {
	mu     sync.Mutex
	lines  []string
	refuse error
}

func (l *list) open(context.Context, driver.Ship) (Target, error) { return l, nil }

func (l *list) Send(_ context.Context, e Line) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != nil {
		return l.refuse
	}
	l.lines = append(l.lines, string(e.text()))
	return nil
}

func (l *list) Close() error { return nil }

func (l *list) set(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse = err
}

func (l *list) got() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not so: " + what)
		}
	}
}

type world struct {
	t    *testing.T
	w    *logs.Writer
	to   *list
	o    Options
	n    int
	over chan struct{}
}

func newWorld(t *testing.T, maxFiles int) *world {
	dir := t.TempDir()
	w, err := logs.NewWriter(logs.Options{Driver: logs.DriverJSON, Path: filepath.Join(dir, "log"), MaxSize: 400, MaxFiles: maxFiles, Compress: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	x := &world{t: t, w: w, to: &list{}, over: make(chan struct{})}
	x.o = Options{Format: logs.DriverJSON, Path: filepath.Join(dir, "log"), Cursor: filepath.Join(dir, "shipped"), Done: x.over, Log: slog.New(slog.DiscardHandler), Open: x.to.open}
	x.o.Ship.Options = map[string]string{"fluentd-retry-wait": "1ms"}
	return x
}

func (x *world) write(n int) {
	x.t.Helper()
	for range n {
		if err := x.w.Write("stdout", fmt.Appendf(nil, "%d\n", x.n), time.Now()); err != nil {
			x.t.Fatal(err)
		}
		x.n++
	}
}

// run runs a shipper until stop is called.
func (x *world) run() (s *Shipper, stop func()) {
	s = New(x.o)
	ctx, cancel := context.WithCancel(x.t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return s, func() {
		x.t.Helper()
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			x.t.Error(err)
		}
	}
}

// all wants every line so far, once and in order.
func (x *world) all() {
	x.t.Helper()
	eventually(x.t, fmt.Sprintf("%d lines have come", x.n), func() bool { return len(x.to.got()) >= x.n })
	for i, l := range x.to.got() {
		if l != fmt.Sprint(i) {
			x.t.Fatalf("line %d is %q: %v", i, l, x.to.got())
		}
	}
}

func TestRestartsLoseAndRepeatNothing(t *testing.T) {
	x := newWorld(t, 100)
	for range 5 {
		x.write(7)
		_, stop := x.run()
		x.write(7)
		x.all()
		stop()
		x.write(20) // while nobody ships
	}
	close(x.over)
	s := New(x.o)
	if err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	x.all()
	if s.Status() != (Status{}) {
		t.Errorf("status %+v", s.Status())
	}
}

func TestTroubleIsToldAndPasses(t *testing.T) {
	x := newWorld(t, 100)
	changes := make(chan Status, 10)
	x.o.Changed = func(s Status) { changes <- s }
	x.to.set(errors.New("no room"))
	s, stop := x.run()
	defer stop()
	x.write(10)
	if got := <-changes; got.Error != "no room" || got.Since.IsZero() || s.Status().Error != "no room" {
		t.Errorf("told %+v", got)
	}
	x.write(50)
	x.to.set(nil)
	if got := <-changes; got.Error != "" {
		t.Errorf("told %+v", got)
	}
	x.all()
	if got := s.Status(); got != (Status{}) {
		t.Errorf("status %+v", got)
	}
}

func TestWhatIsRotatedAwayIsAGap(t *testing.T) {
	x := newWorld(t, 2)
	_, stop := x.run()
	x.write(3)
	x.all()
	stop()
	x.write(40)
	s, stop := x.run()
	defer stop()
	eventually(t, "the last line has come", func() bool { return slices.Contains(x.to.got(), "42") })
	if s.Status().Gaps != 1 {
		t.Errorf("status %+v", s.Status())
	}
}

func TestRetriesHaveAnEnd(t *testing.T) {
	x := newWorld(t, 100)
	x.o.Ship.Options["fluentd-max-retries"] = "2"
	x.to.set(errors.New("closed"))
	s, stop := x.run()
	defer stop()
	x.write(3)
	eventually(t, "three lines are given up", func() bool { return s.Status().Dropped == 3 })
	x.to.set(nil)
	x.write(1)
	eventually(t, "the fourth has come", func() bool { return len(x.to.got()) == 1 })
}

func TestNoLogIsNoError(t *testing.T) {
	x := newWorld(t, 2)
	close(x.over)
	x.o.Path += "-none"
	if err := New(x.o).Run(t.Context()); err != nil {
		t.Error(err)
	}
	x.o.Cursor = filepath.Join(t.TempDir(), "gone", "shipped")
	if err := New(x.o).Run(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDamagedCursorIsTheBeginning(t *testing.T) {
	c, err := openCursor(filepath.Join(t.TempDir(), "c"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	at := logs.Cursor{File: 77, Offset: 123}
	if err := c.save(at); err != nil || c.load() != at {
		t.Errorf("%v, %v", c.load(), err)
	}
	if _, err := c.f.WriteAt([]byte{1}, 9); err != nil {
		t.Fatal(err)
	}
	if got := c.load(); got != (logs.Cursor{}) {
		t.Errorf("half of one: %v", got)
	}
}

func TestParts(t *testing.T) {
	s := New(Options{})
	var ids []string
	for i, row := range []struct {
		stream  string
		partial bool
		ordinal int
		last    bool
	}{{"stdout", true, 1, false}, {"stderr", false, 0, false}, {"stdout", true, 2, false}, {"stdout", false, 3, true}, {"stdout", false, 0, false}} {
		p := s.partOf(logs.Entry{Stream: row.stream, Partial: row.partial})
		if (p != nil) != (row.ordinal > 0) || p != nil && (p.Ordinal != row.ordinal || p.Last != row.last) {
			t.Errorf("row %d: %+v", i, p)
		}
		if p != nil {
			ids = append(ids, p.ID)
		}
	}
	if len(slices.Compact(ids)) != 1 || len(ids[0]) != 32 {
		t.Errorf("ids %v", ids)
	}
}

func TestJournalNames(t *testing.T) {
	for key, want := range map[string]string{"a": "A", "com.example/x-1": "COM_EXAMPLE_X_1", "__a": "A", "_": "", "ä1": "1"} {
		if got := journalName(key); got != want {
			t.Errorf("%q: %q, want %q", key, got, want)
		}
	}
}

func TestJournalFields(t *testing.T) {
	got := field(field(nil, "A", []byte("b")), "M", []byte("x\ny"))
	if want := "A=b\nM\n\x03\x00\x00\x00\x00\x00\x00\x00x\ny\n"; string(got) != want {
		t.Errorf("%q", got)
	}
}

func TestSyslogFormats(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 123456789, time.UTC)
	l := Line{Entry: logs.Entry{Stream: "stderr", Data: []byte("hello\n"), Time: at}}
	for format, want := range map[string]string{
		"":                 "<27>Mar  4 05:06:07 tag[PID]: hello\n",
		formatRFC3164:      "<27>Mar  4 05:06:07 host tag[PID]: hello\n",
		formatRFC5424:      "<27>1 2026-03-04T05:06:07Z host tag PID tag - hello\n",
		formatRFC5424Micro: "<27>1 2026-03-04T05:06:07.123456Z host tag PID tag - hello\n",
	} {
		s := &syslog{format: format, facility: 3, tag: "tag", hostname: "host"}
		got := string(s.message(nil, l, at))
		if got = strings.ReplaceAll(strings.ReplaceAll(got, fmt.Sprintf("[%d]", pid()), "[PID]"), fmt.Sprintf(" %d ", pid()), " PID "); got != want {
			t.Errorf("%s: %q, want %q", format, got, want)
		}
	}
}

func TestForwardMessage(t *testing.T) {
	at := time.Unix(0x01020304, 5).UTC()
	f := &fluentd{ship: driver.Ship{Tag: "t"}, record: [][2]string{{"container_id", "c"}}}
	l := Line{Entry: logs.Entry{Stream: "stdout", Data: []byte("hi\n"), Time: at}}
	want := "\x94\xa1t\xd3\x00\x00\x00\x00\x01\x02\x03\x04\x83\xaccontainer_id\xa1c\xa6source\xa6stdout\xa3log\xa2hi\x80"
	if got := string(f.message(nil, l, "")); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	f.fine = true
	want = "\x94\xa1t\xd7\x00\x01\x02\x03\x04\x00\x00\x00\x05\x83\xaccontainer_id\xa1c\xa6source\xa6stdout\xa3log\xa2hi\x81\xa5chunk\xa1x"
	if got := string(f.message(nil, l, "x")); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for _, n := range []int{31, 32, 255, 256, 65535, 65536} {
		if got := packString(nil, strings.Repeat("x", n)); len(got)-n < 1 || len(got)-n > 5 {
			t.Errorf("a string of %d bytes has %d more", n, len(got)-n)
		}
	}
}

// FuzzAck reads what a fluentd may answer.
func FuzzAck(f *testing.F) {
	f.Add([]byte("\x81\xa3ack\xa1x"))
	f.Add([]byte("\x81\xa3ack\xd9\xffx"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := readAck(bufio.NewReader(bytes.NewReader(data)))
		if err == nil && len(got) > maxAck {
			t.Fatal(len(got))
		}
	})
}

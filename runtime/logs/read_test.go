package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// collect reads a log as text: "stream:data" by spaces, parts with an ellipsis.
func collect(t testing.TB, o ReadOptions) string {
	t.Helper()
	var all []string
	err := Read(t.Context(), o, func(e Entry) error {
		s := e.Stream + ":" + string(e.Data)
		if e.Partial {
			s += "…"
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

func TestParse(t *testing.T) {
	at := time.Date(2016, 10, 6, 0, 17, 9, 669794202, time.UTC)
	for _, c := range []struct {
		line string
		want *Entry
	}{
		{"2016-10-06T00:17:09.669794202Z stdout F a b\n", &Entry{Time: at, Stream: "stdout", Data: []byte("a b\n"), Partial: false}},
		{"2016-10-06T00:17:09.669794202Z stderr P a b\n", &Entry{Time: at, Stream: "stderr", Data: []byte("a b"), Partial: true}},
		{"2016-10-06T02:17:09.669794202+02:00 stdout F:more x\n", &Entry{Time: at, Stream: "stdout", Data: []byte("x\n"), Partial: false}},
		{"2016-10-06T00:17:09.669794202Z stdout F \n", &Entry{Time: at, Stream: "stdout", Data: []byte("\n"), Partial: false}},
		{"2016-10-06T00:17:09.669794202Z stdout F\n", &Entry{Time: at, Stream: "stdout", Data: []byte("\n"), Partial: false}},
		{"2016-10-06T00:17:09.669794202Z stdout X a\n", nil},
		{"2016-10-06T00:17:09.669794202Z stdin F a\n", nil},
		{"yesterday stdout F a\n", nil},
		{"\n", nil},
		{`{"log":"a b\n","stream":"stdout","time":"2016-10-06T00:17:09.669794202Z"}` + "\n", &Entry{Time: at, Stream: "stdout", Data: []byte("a b\n"), Partial: false}},
		{`{"log":"a b","stream":"stderr","time":"2016-10-06T00:17:09.669794202Z","attrs":{"x":"y"}}` + "\n", &Entry{Time: at, Stream: "stderr", Data: []byte("a b"), Partial: true}},
		{`{"log":"a b","stream":"stdout"}` + "\n", nil},
		{`{"log":"a b\n","stream":"std`, nil},
		{"null\n", nil},
	} {
		var e Entry
		ok := parseAny([]byte(c.line), &e)
		if ok != (c.want != nil) || ok && (!e.Time.Equal(c.want.Time) || e.Stream != c.want.Stream || !bytes.Equal(e.Data, c.want.Data) || e.Partial != c.want.Partial) {
			t.Errorf("%q: %v, %+v", c.line, ok, e)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("2016-10-06T00:17:09.669794202Z stdout F a b\n"))
	f.Add([]byte("2016-10-06T00:17:09Z stderr P:x\n"))
	f.Add([]byte(`{"log":"a b\n","stream":"stdout","time":"2016-10-06T00:17:09.669794202Z"}` + "\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		var e Entry
		if !parseAny(line, &e) {
			return
		}
		if e.Stream == "" || e.Time.IsZero() && line[0] == '{' {
			t.Fatalf("%q: incomplete entry %+v", line, e)
		}
		if bytes.HasSuffix(line, []byte("\n")) && e.Partial == bytes.HasSuffix(e.Data, []byte("\n")) {
			t.Fatalf("%q: partial %v with data %q", line, e.Partial, e.Data)
		}
	})
}

// FuzzRead reads a whole file of foreign bytes, from both ends.
func FuzzRead(f *testing.F) {
	f.Add([]byte("2016-10-06T00:17:09.669794202Z stdout F a b\nx\n\n2016-10-06T00:17:10Z stderr P a"), int64(1))
	f.Add([]byte(strings.Repeat("2016-10-06T00:17:10Z stderr P a\n", 9)), int64(0))
	f.Fuzz(func(t *testing.T, data []byte, n int64) {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		all := collect(t, ReadOptions{Path: path, Tail: -1})
		last := collect(t, ReadOptions{Path: path, Tail: max(0, n)})
		if !strings.HasSuffix(all, last) {
			t.Fatalf("the tail %q is not one of %q", last, all)
		}
	})
}

func TestTailAndTimes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	w := newWriter(t, Options{Driver: DriverCRI, Path: path, MaxSize: 45 * 3, MaxFiles: 10})
	for i := range 10 {
		w.Write("stdout", fmt.Appendf(nil, "l%d\n", i), noon().Add(time.Duration(i)*time.Minute))
	}
	lines := func(from, to int) string {
		var all []string
		for i := from; i <= to; i++ {
			all = append(all, fmt.Sprintf("stdout:l%d\n", i))
		}
		return strings.Join(all, " ")
	}
	at := func(i int) time.Time { return noon().Add(time.Duration(i) * time.Minute) }
	for _, c := range []struct {
		name string
		o    ReadOptions
		want string
	}{
		{"all", ReadOptions{Tail: -1}, lines(0, 9)},
		{"none", ReadOptions{Tail: 0}, ""},
		{"one", ReadOptions{Tail: 1}, lines(9, 9)},
		{"over files", ReadOptions{Tail: 5}, lines(5, 9)},
		{"just all", ReadOptions{Tail: 10}, lines(0, 9)},
		{"more than all", ReadOptions{Tail: 50}, lines(0, 9)},
		{"since", ReadOptions{Tail: -1, Since: at(4)}, lines(4, 9)},
		{"until", ReadOptions{Tail: -1, Until: at(4)}, lines(0, 4)},
		{"between", ReadOptions{Tail: -1, Since: at(3), Until: at(6)}, lines(3, 6)},
		{"of the last", ReadOptions{Tail: 3, Until: at(8)}, lines(7, 8)},
		{"until, followed", ReadOptions{Tail: -1, Until: at(4), Follow: true}, lines(0, 4)},
	} {
		c.o.Path, c.o.Driver = path, DriverCRI
		if got := collect(t, c.o); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestTailCountsPartsOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	text := "1970-01-01T00:00:01Z stdout F a\n1970-01-01T00:00:01Z stdout P b\n1970-01-01T00:00:01Z stdout F c\n1970-01-01T00:00:01Z stdout P d\n"
	if err := os.WriteFile(path, []byte(text+"damaged\nhalf"), 0o600); err != nil {
		t.Fatal(err)
	}
	for n, want := range []string{"", "stdout:d…", "stdout:b… stdout:c\n stdout:d…", "stdout:a\n stdout:b… stdout:c\n stdout:d…"} {
		if got := collect(t, ReadOptions{Path: path, Tail: int64(n)}); got != want {
			t.Errorf("tail %d: got %q, want %q", n, got, want)
		}
	}
}

func TestTailOfLongFiles(t *testing.T) {
	w := newWriter(t, Options{Driver: DriverJSON})
	for i := range 300 {
		w.Write("stdout", fmt.Appendf(nil, "%d%s\n", i, strings.Repeat("x", i*10)), noon())
	}
	for _, n := range []int{1, 70, 150, 299} {
		got := strings.Split(collect(t, ReadOptions{Path: w.o.Path, Tail: int64(n)}), " ")
		if len(got) != n || !strings.HasPrefix(got[0], fmt.Sprintf("stdout:%dx", 300-n)) {
			t.Errorf("tail %d: %d lines from %.20q", n, len(got), got[0])
		}
	}
}

func TestDamagedLinesAreLeftOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	good := func(s string) string { return "1970-01-01T00:00:01Z stdout F " + s + "\n" }
	text := good("a") + "garbage\n\n\x00\x00\n" + good("b") + strings.Repeat("z", 3*maxEntry) + "\n" + good("c") + "1970-01-01T00:00:01Z stdout F cut"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := collect(t, ReadOptions{Path: path, Tail: -1}); got != "stdout:a\n stdout:b\n stdout:c\n" {
		t.Errorf("read %.100q", got)
	}
}

func TestReadErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	none := func(Entry) error { return nil }
	if err := Read(t.Context(), ReadOptions{Path: path}, none); !errors.Is(err, fs.ErrNotExist) || !os.IsNotExist(err) {
		t.Errorf("no log: %v", err)
	}
	if err := Read(t.Context(), ReadOptions{Path: filepath.Join(path, "x"), Follow: true}, none); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if err := Read(t.Context(), ReadOptions{Path: path, Driver: "syslog"}, none); !errors.Is(err, errDriver) {
		t.Errorf("unknown driver: %v", err)
	}
	w := newWriter(t, Options{Driver: DriverCRI, Path: path})
	w.Write("stdout", []byte("a\nb\n"), noon())
	boom := errors.New("boom")
	n := 0
	if err := Read(t.Context(), ReadOptions{Path: path, Tail: -1}, func(Entry) error { n++; return boom }); err != boom || n != 1 {
		t.Errorf("error of the callback: %v after %d", err, n)
	}
}

// follower reads a log in the background.
type follower struct {
	got  chan string
	done chan struct{}
	err  chan error
}

func follow(ctx context.Context, o ReadOptions) *follower {
	f := &follower{got: make(chan string, 1<<16), done: make(chan struct{}), err: make(chan error, 1)}
	o.Follow, o.Done = true, f.done
	go func() {
		f.err <- Read(ctx, o, func(e Entry) error { f.got <- string(e.Data); return nil })
		close(f.got)
	}()
	return f
}

func (f *follower) want(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-f.got:
		if got != want {
			t.Fatalf("followed %q, want %q", got, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("%q never came", want)
	}
}

func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f := follow(t.Context(), ReadOptions{Path: path, Tail: -1}) // before there is a log
	w := newWriter(t, Options{Driver: DriverCRI, Path: path})
	write := func(s string) { t.Helper(); w.Write("stdout", []byte(s), time.Now()) }
	write("one\n")
	f.want(t, "one\n")
	write("two\nthree\n")
	f.want(t, "two\n")
	f.want(t, "three\n")

	// The kubelet's rotation: rename, go on writing, reopen.
	if err := os.Rename(path, path+".20260304-120000"); err != nil {
		t.Fatal(err)
	}
	write("four\n")
	f.want(t, "four\n")
	if err := w.Reopen(); err != nil {
		t.Fatal(err)
	}
	write("five\n")
	f.want(t, "five\n")

	write("six")
	close(f.done)
	if err := <-f.err; err != nil {
		t.Fatalf("Read: %v", err)
	}
	if s, ok := <-f.got; ok {
		t.Errorf("followed %q too", s)
	}
}

func TestFollowBeginsAtTheTail(t *testing.T) {
	w := newWriter(t, Options{Driver: DriverCRI})
	w.Write("stdout", []byte("one\ntwo\n"), noon())
	f := follow(t.Context(), ReadOptions{Path: w.o.Path, Tail: 1})
	f.want(t, "two\n")
	w.Write("stdout", []byte("three\n"), noon())
	f.want(t, "three\n")
	close(f.done)
	<-f.err
}

func TestFollowEndsWithItsContext(t *testing.T) {
	w := newWriter(t, Options{Driver: DriverCRI})
	w.Write("stdout", []byte("one\n"), noon())
	ctx, cancel := context.WithCancel(t.Context())
	f := follow(ctx, ReadOptions{Path: w.o.Path, Tail: -1})
	f.want(t, "one\n")
	cancel()
	if err := <-f.err; !errors.Is(err, context.Canceled) {
		t.Errorf("Read: %v", err)
	}
}

func TestFollowWithoutInotify(t *testing.T) {
	w := newWriter(t, Options{Driver: DriverCRI})
	w.Write("stdout", []byte("one\n"), noon())
	got := make(chan string, 10)
	r := &reader{ReadOptions: ReadOptions{Path: w.o.Path, Tail: -1}, parse: parseCRI, each: func(e Entry) error { got <- string(e.Data); return nil }}
	defer r.close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := r.first(ctx, &watcher{}); err != nil {
		t.Fatal(err)
	}
	finished := make(chan error, 1)
	done := make(chan struct{})
	r.Done = done
	go func() { finished <- r.chase(ctx, &watcher{}) }()
	<-got
	w.Write("stdout", []byte("two\n"), noon())
	if s := <-got; s != "two\n" {
		t.Errorf("followed %q", s)
	}
	close(done)
	if err := <-finished; err != nil {
		t.Error(err)
	}
}

// TestFollowAcrossRotations has a writer rotate 500 times while a follower reads: each line once, in order. The writer
// never gets further ahead than the files that are kept.
func TestFollowAcrossRotations(t *testing.T) {
	for _, driver := range []string{DriverCRI, DriverJSON} {
		path := filepath.Join(t.TempDir(), "log")
		const rotations, perFile, keep = 500, 10, 30
		w := newWriter(t, Options{Driver: driver, Path: path, MaxSize: 1000, MaxFiles: keep})
		read := make(chan int, 1<<16)
		done := make(chan struct{})
		finished := make(chan error, 1)
		go func() {
			want := 0
			finished <- Read(t.Context(), ReadOptions{Driver: driver, Path: path, Follow: true, Tail: -1, Done: done}, func(e Entry) error {
				if got := string(e.Data); got != line(want) {
					return fmt.Errorf("line %d is %q", want, got)
				}
				want++
				read <- want
				return nil
			})
			close(read)
		}()
		seen, rotated := 0, 0
		var inode os.FileInfo
		for i := 0; rotated < rotations; i++ {
			if err := w.Write("stdout", []byte(line(i)), time.Now()); err != nil {
				t.Fatal(err)
			}
			if fi, _ := w.file.Stat(); inode == nil || !os.SameFile(fi, inode) {
				inode = fi
				rotated++
			}
			for ok := true; ok && i-seen > (keep-5)*perFile/2; {
				if seen, ok = <-read; !ok {
					t.Fatal(<-finished)
				}
			}
			if rotated == rotations {
				w.Close()
				close(done)
				for n := range read {
					seen = n
				}
				if err := <-finished; err != nil || seen != i+1 {
					t.Fatalf("%s: read %d lines of %d: %v", driver, seen, i+1, err)
				}
			}
		}
	}
}

func line(i int) string { return fmt.Sprintf("%08d %s\n", i, strings.Repeat("x", 40)) }

// TestFollowALateWriter has a writer go on for a moment in the file that was renamed, beside its successor.
func TestFollowALateWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "0.log")
	open := func() *os.File {
		t.Helper()
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	write := func(f *os.File, text string) {
		t.Helper()
		if _, err := fmt.Fprintf(f, "2026-01-02T03:04:05Z stdout F %s\n", text); err != nil {
			t.Fatal(err)
		}
	}
	old := open()
	write(old, "one")
	read, done, finished := make(chan string, 10), make(chan struct{}), make(chan error, 1)
	go func() {
		o := ReadOptions{Driver: DriverCRI, Path: path, Follow: true, Tail: -1, Done: done, Late: time.Second}
		finished <- Read(t.Context(), o, func(e Entry) error {
			read <- strings.TrimSpace(string(e.Data))
			return nil
		})
	}()
	if got := <-read; got != "one" {
		t.Fatalf("the first line is %q", got)
	}
	if err := os.Rename(path, path+".20260102-030405"); err != nil {
		t.Fatal(err)
	}
	write(open(), "three")
	time.Sleep(100 * time.Millisecond) // the follower knows of the new file
	write(old, "two")
	time.AfterFunc(2*time.Second, func() { close(done) })
	if err := <-finished; err != nil {
		t.Error(err)
	}
	close(read)
	var got []string
	for text := range read {
		got = append(got, text)
	}
	if !slices.Equal(got, []string{"two", "three"}) {
		t.Errorf("then came %q", got)
	}
}

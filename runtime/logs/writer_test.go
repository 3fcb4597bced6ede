package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

func noon() time.Time { return time.Date(2026, 3, 4, 12, 0, 0, 123456000, time.UTC) }

func newWriter(t testing.TB, o Options) *Writer {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(t.TempDir(), "dir", "log")
	}
	w, err := NewWriter(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func TestWriter(t *testing.T) {
	const stamp = "2026-03-04T12:00:00.123456000Z"
	long := strings.Repeat("x", MaxLine)
	for _, c := range []struct {
		name   string
		chunks []string
		cri    string
		json   string
	}{
		{"one line", []string{"a\n"}, "stdout F a\n", `"a\n"`},
		{"several lines", []string{"a\n\nb\n"}, "stdout F a\nstdout F \nstdout F b\n", `"a\n" "\n" "b\n"`},
		{"split over reads", []string{"a", "b", "c\nd", "\n"}, "stdout F abc\nstdout F d\n", `"abc\n" "d\n"`},
		{"no newline at the end", []string{"a\nb"}, "stdout F a\nstdout F b\n", `"a\n" "b"`},
		{"just fits", []string{long + "\n"}, "stdout F " + long + "\n", `"` + long + `\n"`},
		{"just fits, newline later", []string{long, "\n"}, "stdout F " + long + "\n", `"` + long + `\n"`},
		{"too long", []string{long + "y\n"}, "stdout P " + long + "\nstdout F y\n", `"` + long + `" "y\n"`},
		{"too long over reads", []string{"a", long + long, "y\n"}, "stdout P a" + long[1:] + "\nstdout P " + long + "\nstdout F xy\n",
			`"a` + long[1:] + `" "` + long + `" "xy\n"`},
	} {
		for _, driver := range []string{DriverCRI, DriverJSON} {
			w := newWriter(t, Options{Driver: driver})
			for _, p := range c.chunks {
				if err := w.Stream("stdout").Write([]byte(p), noon()); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			want := ""
			if driver == DriverCRI {
				for l := range strings.Lines(c.cri) {
					want += stamp + " " + l
				}
			} else {
				for _, l := range strings.Fields(c.json) {
					want += `{"log":` + l + `,"stream":"stdout","time":"2026-03-04T12:00:00.123456Z"}` + "\n"
				}
			}
			if got := readFile(t, w.o.Path); got != want {
				t.Errorf("%s, %s: wrote %.200q, want %.200q", c.name, driver, got, want)
			}
		}
	}
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestStreamsAreHeldApart(t *testing.T) {
	w := newWriter(t, Options{Driver: DriverJSON})
	w.Write("stdout", []byte("out"), noon())
	w.Write("stderr", []byte("err"), noon())
	if got := readFile(t, w.o.Path); got != "" {
		t.Fatalf("lines without an end were written: %q", got)
	}
	w.Write("stdout", []byte("1\n"), noon())
	w.Write("stderr", []byte("2\n"), noon())
	got := collect(t, ReadOptions{Path: w.o.Path, Tail: -1})
	if got != "stdout:out1\n stderr:err2\n" {
		t.Errorf("read %q", got)
	}
}

func TestFlushWritesParts(t *testing.T) {
	w := newWriter(t, Options{Driver: DriverCRI})
	w.Write("stdout", []byte("begin"), noon())
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if got := collect(t, ReadOptions{Path: w.o.Path, Tail: -1}); got != "stdout:begin…" {
		t.Errorf("after Flush: %q", got)
	}
	w.Close()
	if got := collect(t, ReadOptions{Path: w.o.Path, Tail: -1}); got != "stdout:begin… stdout:\n" {
		t.Errorf("after Close: %q", got)
	}
	if err := w.Write("stdout", []byte("late\n"), noon()); err != nil {
		t.Errorf("Write after Close: %v", err)
	}
}

func TestGoesOnAfterHalfALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("2026-03-04T12:00:00.1Z stdout F one\n2026-03-04T12:00:0"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWriter(t, Options{Driver: DriverCRI, Path: path})
	w.Write("stdout", []byte("two\n"), noon())
	if got := collect(t, ReadOptions{Path: path, Tail: -1}); got != "stdout:one\n stdout:two\n" {
		t.Errorf("read %q", got)
	}
}

func TestNoneAndUnknownDrivers(t *testing.T) {
	w, err := NewWriter(Options{Driver: DriverNone})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Write("stdout", []byte("x\n"), noon()), w.Flush(), w.Reopen(), w.Close()); err != nil {
		t.Error(err)
	}
	if _, err := NewWriter(Options{Driver: "syslog"}); !errors.Is(err, errDriver) {
		t.Errorf("driver syslog: %v", err)
	}
}

func TestRotationKeepsMaxFiles(t *testing.T) {
	for _, files := range []int{0, 1, 2, 3} {
		w := newWriter(t, Options{Driver: DriverCRI, MaxSize: 60, MaxFiles: files})
		for i := range 10 {
			if err := w.Write("stdout", fmt.Appendf(nil, "line %d\n", i), noon()); err != nil {
				t.Fatal(err)
			}
		}
		all, err := filepath.Glob(w.o.Path + "*")
		if err != nil {
			t.Fatal(err)
		}
		if len(all) != max(files, 1) {
			t.Errorf("MaxFiles %d: files %v", files, all)
		}
		for n := range max(files, 1) {
			if got := readFile(t, rotated(w.o.Path, n)); !strings.Contains(got, fmt.Sprintf("line %d\n", 9-n)) {
				t.Errorf("MaxFiles %d, file %d: %q", files, n, got)
			}
		}
	}
}

// TestRotationClosesGaps begins with what a rotation leaves that was cut short.
func TestRotationClosesGaps(t *testing.T) {
	for name, cut := range map[string]func(path string) error{
		"after the renames": func(path string) error { return os.Rename(path+".1", path+".2") },
		"after the link":    func(path string) error { return errors.Join(os.Rename(path+".1", path+".2"), os.Link(path, path+".1")) },
	} {
		path := filepath.Join(t.TempDir(), "log")
		o := Options{Driver: DriverCRI, Path: path, MaxSize: 60, MaxFiles: 4}
		w := newWriter(t, o)
		w.Write("stdout", []byte("one\n"), noon())
		w.Write("stdout", []byte("two, long enough\n"), noon())
		w.Close()
		if err := cut(path); err != nil {
			t.Fatal(err)
		}
		w = newWriter(t, o)
		for _, l := range []string{"three, long enough\n", "four, long enough\n"} {
			if err := w.Write("stdout", []byte(l), noon()); err != nil {
				t.Fatal(err)
			}
		}
		want := "stdout:one\n stdout:two, long enough\n stdout:three, long enough\n stdout:four, long enough\n"
		if got := collect(t, ReadOptions{Path: path, Tail: -1}); got != want {
			t.Errorf("%s: read %q", name, got)
		}
	}
}

func TestReopen(t *testing.T) {
	w := newWriter(t, Options{Driver: DriverCRI})
	w.Write("stdout", []byte("one\n"), noon())
	if err := os.Rename(w.o.Path, w.o.Path+".20260304"); err != nil {
		t.Fatal(err)
	}
	w.Write("stdout", []byte("two\n"), noon())
	if err := w.Reopen(); err != nil {
		t.Fatal(err)
	}
	w.Write("stdout", []byte("three\n"), noon())
	if got := readFile(t, w.o.Path+".20260304"); strings.Count(got, "\n") != 2 {
		t.Errorf("old file: %q", got)
	}
	if got := readFile(t, w.o.Path); !strings.HasSuffix(got, "F three\n") {
		t.Errorf("new file: %q", got)
	}
}

// TestFullDisk fills a small file system, and needs root for it.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	w := newWriter(t, Options{Driver: DriverJSON, Path: filepath.Join(dir, "log")})
	chunk := []byte(strings.Repeat("some text\n", 300))
	var err error
	written := 0
	for err == nil && written < 100 {
		err = w.Write("stdout", chunk, noon())
		written++
	}
	if !errors.Is(err, unix.ENOSPC) || w.Lost() == 0 {
		t.Fatalf("a full disk: %v, %d bytes lost", err, w.Lost())
	}
	if err := w.Write("stdout", chunk, noon()); err == nil {
		t.Error("a full disk was written")
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=256k"); err != nil {
		t.Fatal(err)
	}
	if err := w.Write("stdout", []byte("last\n"), noon()); err != nil {
		t.Errorf("with space again: %v", err)
	}
	lines := strings.SplitAfter(readFile(t, w.o.Path), "\n")
	for i, l := range lines[:len(lines)-1] {
		if !json.Valid([]byte(l)) {
			t.Errorf("line %d is damaged: %q", i, l)
		}
	}
	if !strings.Contains(lines[len(lines)-2], "last") {
		t.Errorf("last line %q", lines[len(lines)-2])
	}
}

func TestRotationFailsAndTheLogGoesOn(t *testing.T) {
	w := newWriter(t, Options{Driver: DriverCRI, MaxSize: 60, MaxFiles: 2})
	if err := os.MkdirAll(filepath.Join(w.o.Path+".1", "in the way"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := w.Write("stdout", fmt.Appendf(nil, "line %d\n", i), noon()); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Count(readFile(t, w.o.Path), "\n"); got != 3 {
		t.Errorf("%d lines, want 3", got)
	}
	if _, err := os.Stat(w.o.Path + ".next"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the new file was left behind: %v", err)
	}
}

func TestWriterDoesNotAllocatePerLine(t *testing.T) {
	w := newWriter(t, Options{Driver: DriverCRI})
	chunk := []byte(strings.Repeat("a line of some length\n", 100))
	s := w.Stream("stdout")
	if n := testing.AllocsPerRun(100, func() { s.Write(chunk, noon()) }); n > 10 {
		t.Errorf("%v allocations for a chunk of 100 lines", n)
	}
}

// FuzzWriter splits text into reads and expects all of it back.
func FuzzWriter(f *testing.F) {
	f.Add([]byte("a\nbc\n\n"), uint64(1))
	f.Add([]byte("\x00\xff\"\\\u2028ä€😀"), uint64(2))
	f.Add(bytes.Repeat([]byte("ä€"), MaxLine/2), uint64(3))
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		for _, driver := range []string{DriverCRI, DriverJSON} {
			w := newWriter(t, Options{Driver: driver})
			r := rand.New(rand.NewPCG(seed, 0))
			for rest := text; len(rest) > 0; {
				n := 1 + r.IntN(len(rest))
				w.Write("stdout", rest[:n], noon())
				rest = rest[n:]
			}
			w.Close()
			var got []byte
			err := Read(t.Context(), ReadOptions{Driver: driver, Path: w.o.Path, Tail: -1}, func(e Entry) error {
				if len(e.Data) > MaxLine+1 && utf8.Valid(text) {
					t.Errorf("entry of %d bytes", len(e.Data))
				}
				got = append(got, e.Data...)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			want := text
			if driver == DriverJSON {
				want = []byte(strings.ToValidUTF8(string(text), "\ufffd"))
				got = []byte(strings.ToValidUTF8(string(got), "\ufffd"))
				if !utf8.Valid(text) { // how many U+FFFD stand for a run of bad bytes is not promised
					want, got = bytes.ReplaceAll(want, []byte("\ufffd"), nil), bytes.ReplaceAll(got, []byte("\ufffd"), nil)
				}
			} else if len(want) > 0 && want[len(want)-1] != '\n' {
				want = append(bytes.Clone(want), '\n')
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("%s: %.100q came back as %.100q", driver, want, got)
			}
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	for _, driver := range []string{DriverCRI, DriverJSON} {
		b.Run(driver, func(b *testing.B) {
			w := newWriter(b, Options{Driver: driver, MaxSize: 64 << 20, MaxFiles: 2})
			s := w.Stream("stdout")
			line := []byte("a line as programs write them, of eighty or so characters, with no end of detail\n")
			b.ReportAllocs()
			for b.Loop() {
				s.Write(line, noon())
			}
		})
	}
}

// TestLineLength: a length of its own, with one that no reader would take cut down.
func TestLineLength(t *testing.T) {
	w := newWriter(t, Options{Driver: DriverCRI, MaxLine: 4})
	if err := errors.Join(w.Stream("stdout").Write([]byte("abcdefghij\n"), noon()), w.Close()); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := Read(t.Context(), ReadOptions{Driver: DriverCRI, Path: w.o.Path, Tail: -1}, func(e Entry) error {
		got = append(got, string(e.Data))
		return nil
	})
	if want := []string{"abcd", "efgh", "ij\n"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if w := newWriter(t, Options{Driver: DriverCRI, MaxLine: 1 << 30}); w.o.MaxLine != MostLine {
		t.Errorf("lines of %d bytes", w.o.MaxLine)
	}
}

package logs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// numbered writes lines of numbers, each with a moment of its own.
func numbered(t *testing.T, w *Writer, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := w.Write("stdout", fmt.Appendf(nil, "%d\n", i), noon().Add(time.Duration(i))); err != nil {
			t.Fatal(err)
		}
	}
}

func numbers(from, to int) string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprintf("stdout:%d\n", i))
	}
	return strings.Join(all, " ")
}

func TestCompressedFilesAreRead(t *testing.T) {
	w := newWriter(t, Options{Driver: DriverJSON, MaxSize: 300, MaxFiles: 4, Compress: true, Attrs: map[string]string{"k": `v"`}})
	numbered(t, w, 0, 12) // three lines a file
	w.squeezing.Wait()
	for name, want := range map[string]bool{".1": false, ".1.gz": true, ".2.gz": true, ".3.gz": true, ".4.gz": false, ".1.gz.half": false} {
		if _, err := os.Stat(w.o.Path + name); (err == nil) != want {
			t.Errorf("file %s: %v", name, err)
		}
	}
	if got := collect(t, ReadOptions{Path: w.o.Path, Tail: -1}); got != numbers(0, 12) {
		t.Errorf("all: %q", got)
	}
	if got := collect(t, ReadOptions{Path: w.o.Path, Tail: 5}); got != numbers(7, 12) {
		t.Errorf("the last five: %q", got)
	}
	if got := collect(t, ReadOptions{Path: w.o.Path, Tail: -1, Since: noon().Add(4), Until: noon().Add(7)}); got != numbers(4, 8) {
		t.Errorf("those between: %q", got)
	}
	err := Read(t.Context(), ReadOptions{Path: w.o.Path, Tail: 1}, func(e Entry) error {
		if e.Attrs["k"] != `v"` {
			t.Errorf("attributes %v", e.Attrs)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestCompressionCutShort begins with what a writer leaves that was killed after the compression, before the removal.
func TestCompressionCutShort(t *testing.T) {
	w := newWriter(t, Options{Driver: DriverJSON, MaxSize: 300, MaxFiles: 3})
	numbered(t, w, 0, 6)
	plain := readFile(t, w.o.Path+".1")
	if err := compress(w.o.Path + ".1"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.o.Path+".1", []byte(plain), 0o640); err != nil {
		t.Fatal(err)
	}
	if got := collect(t, ReadOptions{Path: w.o.Path, Tail: -1}); got != numbers(0, 6) {
		t.Errorf("read %q", got)
	}
	w.o.Compress = true
	numbered(t, w, 6, 13)
	if got := collect(t, ReadOptions{Path: w.o.Path, Tail: -1}); got != numbers(4, 13) {
		t.Errorf("after two rotations: %q", got)
	}
}

// TestFollowThroughCompression has a follower at the beginning of a file that is rotated and compressed behind its back.
func TestFollowThroughCompression(t *testing.T) {
	w := newWriter(t, Options{Driver: DriverJSON, MaxSize: 300, MaxFiles: 5, Compress: true})
	numbered(t, w, 0, 2)
	done := make(chan struct{})
	var got []string
	err := Read(t.Context(), ReadOptions{Path: w.o.Path, Follow: true, Done: done, From: &Cursor{}}, func(e Entry) error {
		if got = append(got, e.Stream+":"+string(e.Data)); len(got) == 1 {
			numbered(t, w, 2, 12)
			w.squeezing.Wait()
			close(done)
		}
		return nil
	})
	if all := strings.Join(got, " "); err != nil || all != numbers(0, 12) {
		t.Errorf("followed %q, %v", all, err)
	}
}

func TestCursorOutlivesRotation(t *testing.T) {
	for _, compressed := range []bool{false, true} {
		w := newWriter(t, Options{Driver: DriverJSON, MaxSize: 300, MaxFiles: 3, Compress: compressed})
		numbered(t, w, 0, 5)
		var at Cursor
		err := Read(t.Context(), ReadOptions{Path: w.o.Path, From: &Cursor{}}, func(e Entry) error {
			if at = e.End; string(e.Data) == "3\n" {
				return errOver
			}
			return nil
		})
		if err != nil || at.File == 0 {
			t.Fatalf("cursor %v, %v", at, err)
		}
		numbered(t, w, 5, 8)
		w.squeezing.Wait()
		gaps := 0
		count := func() { gaps++ }
		if got := collect(t, ReadOptions{Path: w.o.Path, From: &at, Gap: count}); got != numbers(4, 8) || gaps != 0 {
			t.Errorf("compressed %v: after a rotation %q, %d gaps", compressed, got, gaps)
		}
		numbered(t, w, 8, 15)
		if got := collect(t, ReadOptions{Path: w.o.Path, From: &at, Gap: count}); got != numbers(4, 15) || gaps != 1 {
			t.Errorf("compressed %v: after the file is gone %q, %d gaps", compressed, got, gaps)
		}
	}
}

// TestMarksDiffer has files that begin with the same long line.
func TestMarksDiffer(t *testing.T) {
	dir := t.TempDir()
	marks := map[uint64]bool{}
	for i := range 2 {
		path := filepath.Join(dir, fmt.Sprint(i))
		w := newWriter(t, Options{Driver: DriverJSON, Path: path})
		if err := w.Write("stdout", []byte(strings.Repeat("\x01", MaxLine)+"\n"), noon().Add(time.Duration(i))); err != nil {
			t.Fatal(err)
		}
		s, err := openSource(path)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		m, err := s.mark()
		if err != nil || m == 0 {
			t.Fatal(m, err)
		}
		marks[m] = true
	}
	if len(marks) != 2 {
		t.Error("two files have one mark")
	}
}

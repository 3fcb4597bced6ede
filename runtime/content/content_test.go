package content_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/runtime/content"
	"github.com/minirt/mini/runtime/content/contenttest"
	"github.com/minirt/mini/runtime/store"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// tableOf opens the table of labels beside the content.
func tableOf(t testing.TB, path string) *store.Table[content.Record] {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{Path: path, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return store.NewTable[content.Record](db, "content", 1, nil)
}

func openIn(t testing.TB, dir string) *content.Store {
	t.Helper()
	s, err := content.Open(dir, tableOf(t, filepath.Join(t.TempDir(), "db")), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContract(t *testing.T) {
	contenttest.Run(t, func(t *testing.T, dir string) contenttest.Store { return openIn(t, dir) })
}

// TestKilled kills a child at the arrows of a commit, and at a write. What is there afterwards has to be whole, and
// the blob can be had by resuming.
func TestKilled(t *testing.T) {
	data := strings.Repeat("0123456789", 100_000)
	expected := digest.FromString(data)
	ingest := content.Ingest{Ref: "r", Expected: expected, Total: int64(len(data))}
	if dir := os.Getenv("CONTENT_CHILD"); dir != "" {
		s := openIn(t, dir)
		w, err := s.Writer(t.Context(), ingest)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(data[:len(data)/2])); err != nil {
			t.Fatal(err)
		}
		if err := failpoint.Hit("test-half"); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(data[len(data)/2:])); err != nil {
			t.Fatal(err)
		}
		err = w.Commit(t.Context(), ingest.Total, expected)
		t.Fatalf("Commit came back: %v", err)
	}
	for _, c := range []struct {
		point  string
		whole  bool
		offset int64
	}{
		{"test-half", false, int64(len(data) / 2)},
		{"content-commit-before-rename", false, int64(len(data))},
		{"content-commit-after-rename", true, 0},
	} {
		dir := filepath.Join(t.TempDir(), c.point)
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir(), "CONTENT_CHILD="+dir, failpoint.Env+"="+c.point+"=kill")
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("%s: the child was not killed: %s", c.point, out)
		}
		s := openIn(t, dir)
		allWhole(t, s)
		if s.Has(expected) != c.whole {
			t.Errorf("%s: blob is there: %v", c.point, !c.whole)
		}
		w, err := s.Writer(t.Context(), ingest)
		if c.whole {
			if !errdefs.IsAlreadyExists(err) {
				t.Errorf("%s: Writer: %v", c.point, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if w.Offset() != c.offset {
			t.Errorf("%s: resumed at %d, want %d", c.point, w.Offset(), c.offset)
		}
		if _, err := w.Write([]byte(data[w.Offset():])); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Commit(t.Context(), ingest.Total, expected), w.Close(), s.Sync(t.Context())); err != nil {
			t.Errorf("%s: %v", c.point, err)
		}
		allWhole(t, s)
	}
}

func allWhole(t *testing.T, s *content.Store) {
	t.Helper()
	if err := s.List(t.Context(), func(i content.Info) error { return s.Verify(t.Context(), i.Digest) }); err != nil {
		t.Error(err)
	}
}

// TestPowerCut damages blobs and lets the dirty file be of another boot.
func TestPowerCut(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "content")
	dirty := filepath.Join(dir, "dirty")
	s := openIn(t, dir)
	if exists(dirty) {
		t.Fatal("a new store is dirty")
	}
	good, bad := contenttest.Put(t, s, "good"), contenttest.Put(t, s, "bad")
	if !exists(dirty) {
		t.Fatal("blobs were committed and nothing says that they are not synced")
	}
	contenttest.Damage(t, s.Path(bad))
	s.Close()

	s = openIn(t, dir)
	if !s.Has(bad) || !exists(dirty) {
		t.Error("in the same boot, blobs were verified for nothing")
	}
	s.Close()

	if err := os.WriteFile(dirty, []byte("another boot"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = openIn(t, dir)
	if s.Has(bad) || !s.Has(good) || exists(dirty) {
		t.Errorf("after a power cut: bad %v, good %v, dirty %v", s.Has(bad), s.Has(good), exists(dirty))
	}
	contenttest.Put(t, s, "more")
	if err := s.Sync(t.Context()); err != nil || exists(dirty) {
		t.Errorf("Sync: %v, dirty %v", err, exists(dirty))
	}
	s.Close()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// TestCommitsBesideSync has blobs committed while others sync: the store may only be clean when all are covered.
func TestCommitsBesideSync(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "content")
	s := openIn(t, dir)
	defer s.Close()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 20 {
				contenttest.Put(t, s, fmt.Sprint(i, " ", j))
				if err := s.Sync(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	contenttest.Put(t, s, "last")
	if !exists(filepath.Join(dir, "dirty")) {
		t.Error("a commit after a Sync left the store clean")
	}
	allWhole(t, s)
}

func TestUnusableIngestsAreRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "content")
	s := openIn(t, dir)
	w, err := s.Writer(t.Context(), content.Ingest{Ref: "r"})
	if err != nil {
		t.Fatal(err)
	}
	once, err := s.Writer(t.Context(), content.Ingest{Ref: "once", Once: true})
	if err != nil {
		t.Fatal(err)
	}
	once.Close()
	w.Close()
	s.Close()
	record := filepath.Join(filepath.Dir(w.Path()), "ingest.json")
	contenttest.Damage(t, record)
	s = openIn(t, dir)
	defer s.Close()
	if exists(filepath.Dir(w.Path())) {
		t.Error("an ingest without a record stays")
	}
	if exists(filepath.Dir(once.Path())) {
		t.Error("an ingest that nobody resumes stays")
	}
}

// TestFullDisk fills a small file system, and needs root for it.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	s := openIn(t, filepath.Join(dir, "content"))
	defer s.Close()
	data := strings.Repeat("x", 2<<20)
	i := content.Ingest{Ref: "r", Expected: digest.FromString(data), Total: int64(len(data))}
	w, err := s.Writer(t.Context(), i)
	if err != nil {
		t.Fatal(err)
	}
	n, err := w.Write([]byte(data))
	if !errdefs.IsResourceExhausted(err) || !errors.Is(err, unix.ENOSPC) || int64(n) != w.Offset() {
		t.Fatalf("Write to a full disk: %d, %v, offset %d", n, err, w.Offset())
	}
	w.Close()
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=4m"); err != nil {
		t.Fatal(err)
	}
	w, err = s.Writer(t.Context(), i)
	if err != nil {
		t.Fatal(err)
	}
	if w.Offset() != int64(n) {
		t.Errorf("resumed at %d, want %d", w.Offset(), n)
	}
	if _, err := w.Write([]byte(data[n:])); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Commit(t.Context(), i.Total, i.Expected), w.Close()); err != nil {
		t.Error(err)
	}
	allWhole(t, s)
}

func BenchmarkWrite(b *testing.B) {
	s := openIn(b, filepath.Join(b.TempDir(), "content"))
	defer s.Close()
	w, err := s.Writer(b.Context(), content.Ingest{Ref: "r"})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	chunk := make([]byte, 256<<10)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if w.Offset() > 256<<20 {
			if err := w.Truncate(0); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := w.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
}

// TestBehind: what another store has is read, and neither listed nor deleted.
func TestBehind(t *testing.T) {
	write := func(s *content.Store, text string) (digest.Digest, error) {
		d := digest.FromString(text)
		w, err := s.Writer(t.Context(), content.Ingest{Ref: text, Expected: d, Total: int64(len(text))})
		if err != nil {
			return d, err
		}
		defer w.Close()
		if _, err := w.Write([]byte(text)); err != nil {
			return d, err
		}
		return d, w.Commit(t.Context(), int64(len(text)), d)
	}
	dir := t.TempDir()
	other, err := write(openIn(t, dir), "theirs")
	if err != nil {
		t.Fatal(err)
	}
	s := openIn(t, t.TempDir())
	s.Behind(filepath.Join(dir, "nothing"), dir)
	own, err := write(s, "own")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := write(s, "theirs"); !errdefs.IsAlreadyExists(err) {
		t.Errorf("what is there is written again: %v", err)
	}
	for _, d := range []digest.Digest{own, other} {
		if i, err := s.Info(t.Context(), d); err != nil || !s.Has(d) || s.Verify(t.Context(), d) != nil || i.Size == 0 {
			t.Errorf("blob %s: %v, %v", d, i, err)
		}
	}
	listed := 0
	if err := s.List(t.Context(), func(i content.Info) error { listed++; return nil }); err != nil || listed != 1 {
		t.Errorf("%d blobs are listed, %v", listed, err)
	}
	listed = 0
	if err := s.ListAll(t.Context(), func(i content.Info) error { listed++; return nil }); err != nil || listed != 2 {
		t.Errorf("%d blobs are listed with those behind, %v", listed, err)
	}
	if err := s.Delete(t.Context(), other); !errdefs.IsNotFound(err) || !s.Has(other) {
		t.Errorf("delete of another's blob: %v", err)
	}
}

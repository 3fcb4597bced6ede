// Package contenttest is the contract of a content store as tests, which every implementation runs.
package contenttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/runtime/content"
	"github.com/opencontainers/go-digest"
)

// Store is what is tested.
type Store interface {
	Info(ctx context.Context, d digest.Digest) (content.Info, error)
	Has(d digest.Digest) bool
	Open(ctx context.Context, d digest.Digest) (content.Reader, error)
	Path(d digest.Digest) string
	Writer(ctx context.Context, i content.Ingest) (*content.Writer, error)
	Sync(ctx context.Context) error
	Ingests(ctx context.Context) ([]content.IngestInfo, error)
	Abort(ctx context.Context, ref string) error
	Delete(ctx context.Context, d digest.Digest) error
	List(ctx context.Context, visit func(content.Info) error) error
	SetLabels(ctx context.Context, d digest.Digest, labels map[string]string, replace bool) (content.Info, error)
	Verify(ctx context.Context, d digest.Digest) error
	Close() error
}

// Run tests a store. open opens the one in a directory, whose parent exists; it is called again for the same directory
// after Close.
func Run(t *testing.T, open func(t *testing.T, dir string) Store) {
	for name, test := range map[string]func(*testing.T, Store){
		"Blob": testBlob, "Resume": testResume, "OneWriter": testOneWriter, "Mismatch": testMismatch, "Again": testAgain,
		"Labels": testLabels, "List": testList, "Ingests": testIngests, "Truncate": testTruncate, "Arguments": testArguments,
		"SHA512": testSHA512, "ReadAll": testReadAll, "Verify": testVerify,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir()+"/content")
			test(t, s)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("Reopen", func(t *testing.T) { testReopen(t, open) })
}

// Put stores data as a blob.
func Put(t testing.TB, s Store, data string) digest.Digest {
	t.Helper()
	w := writer(t, s, content.Ingest{Ref: "put " + data})
	write(t, w, data)
	if err := w.Commit(t.Context(), int64(len(data)), ""); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return digest.FromString(data)
}

func writer(t testing.TB, s Store, i content.Ingest) *content.Writer {
	t.Helper()
	w, err := s.Writer(t.Context(), i)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func write(t testing.TB, w *content.Writer, data string) {
	t.Helper()
	if n, err := w.Write([]byte(data)); err != nil || n != len(data) {
		t.Fatalf("Write: %d, %v", n, err)
	}
}

func testBlob(t *testing.T, s Store) {
	for _, data := range []string{"hello", "", strings.Repeat("x", 1<<20)} {
		d := Put(t, s, data)
		if !s.Has(d) {
			t.Fatalf("Has(%s) is false", d)
		}
		if i, err := s.Info(t.Context(), d); err != nil || i.Digest != d || i.Size != int64(len(data)) || i.CreatedAt.IsZero() {
			t.Errorf("Info: %+v, %v", i, err)
		}
		r, err := s.Open(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Sync(t.Context()); err != nil {
			t.Error(err)
		}
		if err := s.Delete(t.Context(), d); err != nil {
			t.Error(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != data || r.Size() != int64(len(data)) {
			t.Errorf("a blob that is deleted while it is read: %d bytes, %v", len(got), err)
		}
		r.Close()
		_, info := s.Info(t.Context(), d)
		_, opened := s.Open(t.Context(), d)
		for op, err := range map[string]error{"Info": info, "Open": opened, "Delete": s.Delete(t.Context(), d), "Verify": s.Verify(t.Context(), d)} {
			if !errdefs.IsNotFound(err) {
				t.Errorf("%s of a deleted blob: %v", op, err)
			}
		}
	}
}

func testResume(t *testing.T, s Store) {
	const data = "the first half, the second half"
	i := content.Ingest{Ref: "r", Expected: digest.FromString(data), Total: int64(len(data))}
	w := writer(t, s, i)
	write(t, w, data[:15])
	w.Close()
	w = writer(t, s, i)
	if w.Offset() != 15 || w.Digest() != digest.FromString(data[:15]) {
		t.Fatalf("resumed at %d with %s", w.Offset(), w.Digest())
	}
	if err := w.Commit(t.Context(), i.Total, i.Expected); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("Commit of a half: %v", err)
	}
	if n, err := io.Copy(w, strings.NewReader(data[15:])); err != nil || n != int64(len(data)-15) {
		t.Fatalf("Copy: %d, %v", n, err)
	}
	if err := w.Commit(t.Context(), i.Total, i.Expected); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := s.Verify(t.Context(), i.Expected); err != nil {
		t.Error(err)
	}

	other := writer(t, s, content.Ingest{Ref: "o", Total: 10})
	write(t, other, "abc")
	other.Close()
	if w := writer(t, s, content.Ingest{Ref: "o", Total: 11}); w.Offset() != 0 {
		t.Errorf("an ingest of another size goes on at %d", w.Offset())
	}
}

func testOneWriter(t *testing.T, s Store) {
	first := writer(t, s, content.Ingest{Ref: "r"})
	write(t, first, "data")
	if _, err := s.Writer(t.Context(), content.Ingest{Ref: "r"}); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "being written") {
		t.Errorf("second Writer: %v", err)
	}
	if err := s.Abort(t.Context(), "r"); !errdefs.IsUnavailable(err) {
		t.Errorf("Abort of an ingest that is written: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Writer(ctx, content.Ingest{Ref: "r", Wait: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting Writer: %v", err)
	}
	d := digest.FromString("data")
	waited := make(chan error)
	go func() {
		_, err := s.Writer(context.Background(), content.Ingest{Ref: "r", Expected: d, Wait: true})
		waited <- err
	}()
	if err := first.Commit(t.Context(), 4, d); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; !errdefs.IsAlreadyExists(err) {
		t.Errorf("Writer after the other's Commit: %v", err)
	}
	if _, err := first.Write([]byte("x")); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("Write after Commit: %v", err)
	}
}

func testMismatch(t *testing.T, s Store) {
	for _, c := range []struct {
		data     string
		size     int64
		expected digest.Digest
	}{
		{"wrong", 5, digest.FromString("right")},
		{"too long", 5, digest.FromString("too long")},
	} {
		w := writer(t, s, content.Ingest{Ref: "r", Expected: c.expected})
		write(t, w, c.data)
		if err := w.Commit(t.Context(), c.size, c.expected); !errdefs.IsDataLoss(err) {
			t.Errorf("Commit of %q: %v", c.data, err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if s.Has(c.expected) {
			t.Errorf("%q is a blob", c.data)
		}
		if l, err := s.Ingests(t.Context()); err != nil || len(l) != 0 {
			t.Errorf("the ingest of %q stays: %v, %v", c.data, l, err)
		}
	}
}

func testAgain(t *testing.T, s Store) {
	d := Put(t, s, "data")
	if _, err := s.Writer(t.Context(), content.Ingest{Ref: "r", Expected: d}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("Writer for a blob that is there: %v", err)
	}
	w := writer(t, s, content.Ingest{Ref: "r"})
	write(t, w, "data")
	if err := w.Commit(t.Context(), 0, ""); !errdefs.IsAlreadyExists(err) {
		t.Errorf("Commit of a blob that is there: %v", err)
	}
	w.Close()
	if l, err := s.Ingests(t.Context()); err != nil || len(l) != 0 {
		t.Errorf("ingests %v, %v", l, err)
	}
	if err := s.Verify(t.Context(), d); err != nil {
		t.Error(err)
	}
}

func testLabels(t *testing.T, s Store) {
	d := Put(t, s, "data")
	for _, c := range []struct {
		set     map[string]string
		replace bool
		want    map[string]string
	}{
		{map[string]string{"a": "1", "b": "2"}, false, map[string]string{"a": "1", "b": "2"}},
		{map[string]string{"a": "", "c": "3"}, false, map[string]string{"b": "2", "c": "3"}},
		{map[string]string{"d": "4"}, true, map[string]string{"d": "4"}},
	} {
		i, err := s.SetLabels(t.Context(), d, c.set, c.replace)
		if err != nil || !maps.Equal(i.Labels, c.want) {
			t.Errorf("SetLabels(%v, %v): %v, %v", c.set, c.replace, i.Labels, err)
		}
		if i, err := s.Info(t.Context(), d); err != nil || !maps.Equal(i.Labels, c.want) || i.UpdatedAt.Before(i.CreatedAt) {
			t.Errorf("Info: %+v, %v", i, err)
		}
	}
	if err := s.Delete(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetLabels(t.Context(), d, nil, false); !errdefs.IsNotFound(err) {
		t.Errorf("SetLabels of a deleted blob: %v", err)
	}
	Put(t, s, "data")
	if i, err := s.Info(t.Context(), d); err != nil || len(i.Labels) != 0 {
		t.Errorf("a new blob inherits labels: %v, %v", i.Labels, err)
	}
}

func testList(t *testing.T, s Store) {
	want := map[digest.Digest]bool{}
	for i := range 5 {
		want[Put(t, s, fmt.Sprint(i))] = true
	}
	last := digest.Digest("")
	if err := s.List(t.Context(), func(i content.Info) error {
		if !want[i.Digest] || i.Digest < last {
			t.Errorf("%s after %s", i.Digest, last)
		}
		last = i.Digest
		delete(want, i.Digest)
		return nil
	}); err != nil || len(want) > 0 {
		t.Errorf("List: %v, without %v", err, want)
	}
	stop := errors.New("stop")
	if err := s.List(t.Context(), func(content.Info) error { return stop }); err != stop {
		t.Errorf("List: %v", err)
	}
}

func testIngests(t *testing.T, s Store) {
	w := writer(t, s, content.Ingest{Ref: "b/../x", Total: 100, Expected: digest.FromString("x")})
	write(t, w, "abc")
	writer(t, s, content.Ingest{Ref: "a"}).Close()
	l, err := s.Ingests(t.Context())
	if err != nil || len(l) != 2 || l[0].Ref != "a" {
		t.Fatalf("Ingests: %+v, %v", l, err)
	}
	if i := l[1]; i.Ref != "b/../x" || i.Offset != 3 || i.Total != 100 || i.Expected != digest.FromString("x") || i.StartedAt.IsZero() || i.UpdatedAt.IsZero() {
		t.Errorf("ingest %+v", i)
	}
	w.Close()
	if err := s.Abort(t.Context(), "b/../x"); err != nil {
		t.Error(err)
	}
	if err := s.Abort(t.Context(), "b/../x"); !errdefs.IsNotFound(err) {
		t.Errorf("second Abort: %v", err)
	}
	if l, err := s.Ingests(t.Context()); err != nil || len(l) != 1 {
		t.Errorf("Ingests: %+v, %v", l, err)
	}
}

func testTruncate(t *testing.T, s Store) {
	w := writer(t, s, content.Ingest{Ref: "r"})
	write(t, w, "abcdef")
	if err := w.Truncate(3); err != nil || w.Offset() != 3 || w.Digest() != digest.FromString("abc") {
		t.Fatalf("Truncate: %d, %s, %v", w.Offset(), w.Digest(), err)
	}
	for _, n := range []int64{-1, 4} {
		if err := w.Truncate(n); !errdefs.IsOutOfRange(err) {
			t.Errorf("Truncate(%d): %v", n, err)
		}
	}
	write(t, w, "x")
	if err := w.Commit(t.Context(), 4, digest.FromString("abcx")); err != nil {
		t.Error(err)
	}
}

func testArguments(t *testing.T, s Store) {
	hex := strings.Repeat("a", 64)
	for _, d := range []digest.Digest{"", "sha256:../../etc", "md5:" + digest.Digest(hex[:32]), digest.Digest("sha384:" + strings.Repeat("a", 96)), digest.Digest("sha256:" + strings.ToUpper(hex))} {
		_, info := s.Info(t.Context(), d)
		_, opened := s.Open(t.Context(), d)
		for op, err := range map[string]error{"Info": info, "Open": opened, "Delete": s.Delete(t.Context(), d)} {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s(%q): %v", op, d, err)
			}
		}
		if s.Path(d) != "" || s.Has(d) {
			t.Errorf("%q has a path", d)
		}
	}
	for _, i := range []content.Ingest{{}, {Ref: "r", Expected: "x"}, {Ref: "r", Total: -1}} {
		if _, err := s.Writer(t.Context(), i); !errdefs.IsInvalidArgument(err) {
			t.Errorf("Writer(%+v): %v", i, err)
		}
	}
}

func testSHA512(t *testing.T, s Store) {
	d := digest.SHA512.FromString("data")
	for _, expected := range []digest.Digest{d, ""} { // known from the start, or only at the end
		w := writer(t, s, content.Ingest{Ref: "r", Expected: expected})
		write(t, w, "data")
		if expected != "" && w.Digest() != d {
			t.Errorf("digest %s", w.Digest())
		}
		if err := w.Commit(t.Context(), 4, d); err != nil {
			t.Fatal(err)
		}
		w.Close()
		if err := s.Verify(t.Context(), d); err != nil {
			t.Error(err)
		}
		if err := s.Delete(t.Context(), d); err != nil {
			t.Error(err)
		}
	}
}

func testReadAll(t *testing.T, s Store) {
	d := Put(t, s, "data")
	if b, err := content.ReadAll(t.Context(), s, d, 4); err != nil || string(b) != "data" {
		t.Errorf("ReadAll: %q, %v", b, err)
	}
	if _, err := content.ReadAll(t.Context(), s, d, 3); !errdefs.IsResourceExhausted(err) {
		t.Errorf("ReadAll of too much: %v", err)
	}
}

func testVerify(t *testing.T, s Store) {
	d := Put(t, s, "data")
	if err := s.Verify(t.Context(), d); err != nil {
		t.Error(err)
	}
	Damage(t, s.Path(d))
	if err := s.Verify(t.Context(), d); !errdefs.IsDataLoss(err) {
		t.Errorf("Verify of a damaged blob: %v", err)
	}
}

// Damage empties a file in place, as a power cut may.
func Damage(t testing.TB, path string) {
	t.Helper()
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
}

func testReopen(t *testing.T, open func(t *testing.T, dir string) Store) {
	dir := t.TempDir() + "/content"
	s := open(t, dir)
	d := Put(t, s, "data")
	w := writer(t, s, content.Ingest{Ref: "r"})
	write(t, w, "half")
	w.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	defer s.Close()
	if b, err := content.ReadAll(t.Context(), s, d, 100); err != nil || !bytes.Equal(b, []byte("data")) {
		t.Errorf("ReadAll: %q, %v", b, err)
	}
	if w := writer(t, s, content.Ingest{Ref: "r"}); w.Offset() != 4 || w.Digest() != digest.FromString("half") {
		t.Errorf("resumed at %d with %s", w.Offset(), w.Digest())
	}
}

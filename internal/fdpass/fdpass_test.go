package fdpass

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func openFDs(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func pair(t *testing.T) (*Conn, *Conn) {
	t.Helper()
	a, b, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestPacketsKeepTheirBoundariesAndFiles(t *testing.T) {
	a, b := pair(t)
	before := openFDs(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := a.Send([]byte("one"), []*os.File{w, r}, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if err := a.Send([]byte("second"), nil, time.Time{}); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 64)
		n, files, err := b.Recv(buf)
		if err != nil || string(buf[:n]) != "one" || len(files) != 2 {
			t.Fatalf("got %q, %d files, %v", buf[:n], len(files), err)
		}
		for _, f := range files {
			if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("a received descriptor is not close-on-exec (%v)", err)
			}
		}
		if _, err := files[0].WriteString("x"); err != nil {
			t.Fatal(err)
		}
		CloseAll(files)
		n, files, err = b.Recv(buf)
		if err != nil || string(buf[:n]) != "second" || len(files) != 0 {
			t.Fatalf("got %q, %d files, %v", buf[:n], len(files), err)
		}
	}
	r.Close()
	w.Close()
	if now := openFDs(t); now != before {
		t.Errorf("%d descriptors are open, %d were", now, before)
	}
}

func TestTooLargeAPacketLosesNoDescriptor(t *testing.T) {
	a, b := pair(t)
	before := openFDs(t)
	if err := a.Send(bytes.Repeat([]byte("x"), 100), []*os.File{os.Stderr}, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Recv(make([]byte, 10)); !errors.Is(err, errdefs.ErrDataLoss) {
		t.Fatalf("got %v", err)
	}
	if now := openFDs(t); now != before {
		t.Errorf("%d descriptors are open, %d were", now, before)
	}
}

func TestTooManyFiles(t *testing.T) {
	a, _ := pair(t)
	files := make([]*os.File, MaxFiles+1)
	for i := range files {
		files[i] = os.Stderr
	}
	if err := a.Send(nil, files, time.Time{}); !errdefs.IsInvalidArgument(err) {
		t.Fatalf("got %v", err)
	}
}

func TestSendGivesUpAtItsDeadline(t *testing.T) {
	a, _ := pair(t)
	var err error
	for range 10_000 {
		if err = a.Send(make([]byte, 60_000), nil, time.Now().Add(20*time.Millisecond)); err != nil {
			break
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
}

func TestEndOfConnection(t *testing.T) {
	a, b := pair(t)
	a.Close()
	if _, _, err := b.Recv(make([]byte, 10)); !errors.Is(err, io.EOF) {
		t.Fatalf("got %v", err)
	}
}

func TestListenDialLongPath(t *testing.T) {
	for _, depth := range []int{0, 150} {
		dir := filepath.Join(t.TempDir(), strings.Repeat("d", depth))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "sock")
		for range 2 { // the second replaces what the first left
			l, err := Listen(path, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			c, err := Dial(context.Background(), path)
			if err != nil {
				t.Fatal(err)
			}
			s, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			peer, err := s.Peer()
			if err != nil || peer.PID != os.Getpid() || peer.UID != os.Getuid() {
				t.Errorf("peer is %+v, %v", peer, err)
			}
			s.Close()
			c.Close()
			l.Close()
		}
		if _, err := Dial(context.Background(), filepath.Join(filepath.Dir(path), "none", "sock")); !errdefs.IsUnavailable(err) {
			t.Errorf("dial in a directory that is not there: %v", err)
		}
		if _, err := Dial(context.Background(), path); !errdefs.IsUnavailable(err) {
			t.Errorf("got %v", err)
		}
	}
}

// TestDialNobody has paths of which nothing is there, not even the directory: whoever dials may then start a server.
func TestDialNobody(t *testing.T) {
	for _, depth := range []int{1, 150} {
		path := filepath.Join(t.TempDir(), strings.Repeat("d", depth), "sock")
		if _, err := Dial(context.Background(), path); !errdefs.IsUnavailable(err) {
			t.Errorf("%d bytes: error %v, want unavailable", len(path), err)
		}
	}
}

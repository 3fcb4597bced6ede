package supervisor

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/minirt/mini/internal/fdpass"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

func TestIdle(t *testing.T) {
	serve := func(t *testing.T, before func(*Supervisor)) (*Supervisor, chan error) {
		s, err := New(Options{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		s.idleAfter = 50 * time.Millisecond
		before(s)
		s.watchIdle()
		ended := make(chan error, 1)
		go func() { ended <- s.serve() }()
		return s, ended
	}
	awaitEnd := func(t *testing.T, ended chan error) {
		t.Helper()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatal("the supervisor goes on")
		}
	}
	stays := func(t *testing.T, ended chan error) {
		t.Helper()
		select {
		case <-ended:
			t.Fatal("the supervisor has ended")
		case <-time.After(300 * time.Millisecond):
		}
	}

	t.Run("nobody comes", func(t *testing.T) {
		_, ended := serve(t, func(*Supervisor) {})
		awaitEnd(t, ended)
	})
	t.Run("a container", func(t *testing.T) {
		c := &container{key: wire.Process{Namespace: "a", ID: "b"}}
		s, ended := serve(t, func(s *Supervisor) {
			if err := s.reserve(c); err != nil {
				t.Fatal(err)
			}
		})
		stays(t, ended)
		s.release(c)
		awaitEnd(t, ended)
	})
	t.Run("a connection", func(t *testing.T) {
		var dir string
		var conn *fdpass.Conn
		s, ended := serve(t, func(s *Supervisor) {
			dir = s.Dir
			s.idleAfter = time.Hour
		})
		conn, err := fdpass.Dial(context.Background(), filepath.Join(dir, "sock"))
		if err != nil {
			t.Fatal(err)
		}
		for connected := false; !connected; time.Sleep(time.Millisecond) {
			s.mu.Lock()
			connected = len(s.conns) > 0
			s.mu.Unlock()
		}
		s.mu.Lock()
		s.idleAfter = 50 * time.Millisecond
		s.mu.Unlock()
		stays(t, ended)
		conn.Close()
		awaitEnd(t, ended)
	})
}

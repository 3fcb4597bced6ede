package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/fdpass"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

func openFDs(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// connect starts a server that answers every request with serve.
func connect(t *testing.T, event func(string, json.RawMessage), serve func(*fdpass.Conn, wire.Message, []*os.File)) *Caller {
	t.Helper()
	a, b, err := fdpass.Pair()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer b.Close()
		buf := make([]byte, wire.MaxMessage)
		for {
			m, files, err := Receive(b, buf)
			if err != nil {
				return
			}
			serve(b, m, files)
		}
	}()
	c := NewCaller(a, event)
	t.Cleanup(func() { c.Close(); <-c.Done() })
	return c
}

func noEvents(string, json.RawMessage) {}

func TestAnswersComeInAnyOrder(t *testing.T) {
	var held []wire.Message
	var mu sync.Mutex
	c := connect(t, noEvents, func(conn *fdpass.Conn, m wire.Message, files []*os.File) {
		mu.Lock()
		defer mu.Unlock()
		held = append(held, m)
		if len(held) < 20 {
			return
		}
		for i := len(held) - 1; i >= 0; i-- {
			if err := Send(conn, wire.Message{ID: held[i].ID, Body: held[i].Body}, nil, nil); err != nil {
				t.Error(err)
			}
		}
	})
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			var out wire.Process
			in := wire.Process{ID: fmt.Sprint(i)}
			if _, err := c.Call(context.Background(), "echo", in, nil, &out); err != nil || out != in {
				t.Errorf("%d: got %v, %v", i, out, err)
			}
		})
	}
	wg.Wait()
}

func TestErrorsKeepTheirClass(t *testing.T) {
	for _, class := range classes() {
		err := Decode(Encode(fmt.Errorf("thing x: %w", class)))
		if !errors.Is(err, class) || err.Error() != "thing x: "+class.Error() {
			t.Errorf("%v became %v", class, err)
		}
	}
	if err := Decode(Encode(errors.New("odd"))); !errdefs.IsInternal(err) || err.Error() != "odd" {
		t.Errorf("got %v", err)
	}
	if Decode(Encode(nil)) != nil {
		t.Error("nil became an error")
	}
}

func TestCancelledCallLeaksNothing(t *testing.T) {
	release := make(chan struct{})
	answered := make(chan struct{})
	c := connect(t, noEvents, func(conn *fdpass.Conn, m wire.Message, files []*os.File) {
		fdpass.CloseAll(files)
		if m.Method != "late" {
			Send(conn, wire.Message{ID: m.ID}, nil, nil)
			return
		}
		go func() {
			<-release
			Send(conn, wire.Message{ID: m.ID}, nil, []*os.File{os.Stderr})
			close(answered)
		}()
	})
	before := openFDs(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Call(ctx, "late", nil, []*os.File{os.Stdin}, nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	close(release)
	<-answered
	// The answer to this call is read after the late one.
	if _, err := c.Call(context.Background(), "now", nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	if now := openFDs(t); now > before {
		t.Errorf("%d descriptors are open, %d were", now, before)
	}
}

func TestEndOfConnectionEndsCalls(t *testing.T) {
	c := connect(t, noEvents, func(conn *fdpass.Conn, m wire.Message, files []*os.File) { conn.Close() })
	if _, err := c.Call(context.Background(), "x", nil, nil, nil); !errdefs.IsUnavailable(err) {
		t.Fatalf("got %v", err)
	}
	<-c.Done()
	if _, err := c.Call(context.Background(), "x", nil, nil, nil); !errdefs.IsUnavailable(err) {
		t.Fatalf("got %v", err)
	}
}

func TestEvents(t *testing.T) {
	got := make(chan string, 1)
	c := connect(t, func(method string, body json.RawMessage) { got <- method + string(body) },
		func(conn *fdpass.Conn, m wire.Message, files []*os.File) {
			Send(conn, wire.Message{Method: "exit"}, wire.Exit{Code: 3}, nil)
			Send(conn, wire.Message{ID: m.ID}, nil, nil)
		})
	if _, err := c.Call(context.Background(), "x", nil, nil, nil); err != nil {
		t.Fatal(err)
	}
	if e := <-got; e != `exit{"pid":0,"code":3,"time":"0001-01-01T00:00:00Z"}` {
		t.Errorf("got %s", e)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"id":1,"method":"start","body":{"id":"x"},"fds":2}`), 2)
	f.Add([]byte(`{"fds":-1}`), 0)
	f.Fuzz(func(t *testing.T, packet []byte, files int) {
		if m, err := parse(packet, files); err == nil && m.FDs != files {
			t.Errorf("%q: accepted with %d files", packet, files)
		}
	})
}

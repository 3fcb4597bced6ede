package cri

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// closing is what a process does that leaves nobody behind.
func closing(o engine.ExecOptions) {
	o.Streams.Stdout.Close()
	o.Streams.Stderr.Close()
}

func execWorld(t *testing.T, run func(o engine.ExecOptions, killed <-chan struct{}) wire.Exit) (*world, string) {
	t.Helper()
	w := newWorld(t)
	w.engine.exec = run
	return w, w.container(t, w.pod(t, "web"), "c", true)
}

func TestExecSync(t *testing.T) {
	w, id := execWorld(t, func(o engine.ExecOptions, _ <-chan struct{}) wire.Exit {
		defer closing(o)
		o.Streams.Stdout.WriteString(strings.Join(o.Process.Args, " "))
		o.Streams.Stderr.WriteString("bad")
		return wire.Exit{Code: 3}
	})
	r, err := w.ExecSync(t.Context(), &v1.ExecSyncRequest{ContainerId: id, Cmd: []string{"echo", "a"}, Timeout: 10})
	if err != nil || string(r.Stdout) != "echo a" || string(r.Stderr) != "bad" || r.ExitCode != 3 {
		t.Errorf("%v, %v", r, err)
	}
	for _, bad := range []*v1.ExecSyncRequest{{ContainerId: id}, {ContainerId: id, Cmd: []string{""}}, {ContainerId: id, Cmd: []string{"a\x00"}}, {ContainerId: id, Cmd: []string{"a"}, Timeout: -1}} {
		_, err := w.ExecSync(t.Context(), bad)
		wants(t, err, codes.InvalidArgument, "")
	}
}

func TestExecSyncTimeout(t *testing.T) {
	w, id := execWorld(t, func(o engine.ExecOptions, killed <-chan struct{}) wire.Exit {
		<-killed // and its streams stay open: somebody else holds them
		return wire.Exit{Code: 137}
	})
	began := time.Now()
	_, err := w.ExecSync(t.Context(), &v1.ExecSyncRequest{ContainerId: id, Cmd: []string{"sleep", "9"}, Timeout: 1})
	wants(t, err, codes.DeadlineExceeded, "longer than 1s")
	if w.engine.killed != int(unix.SIGKILL) {
		t.Errorf("signal %d was sent", w.engine.killed)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
}

// TestExecSyncAbandoned: a command does not outlive the client that waits for it.
func TestExecSyncAbandoned(t *testing.T) {
	ended := make(chan struct{})
	w, id := execWorld(t, func(o engine.ExecOptions, killed <-chan struct{}) wire.Exit {
		defer close(ended)
		defer closing(o)
		<-killed
		return wire.Exit{Code: 137}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := w.ExecSync(ctx, &v1.ExecSyncRequest{ContainerId: id, Cmd: []string{"sleep", "9"}}); err == nil {
		t.Error("no error")
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the command goes on")
	}
}

func TestExecSyncMuchOutput(t *testing.T) {
	w, id := execWorld(t, func(o engine.ExecOptions, _ <-chan struct{}) wire.Exit {
		defer closing(o)
		o.Streams.Stdout.Write(bytes.Repeat([]byte{'x'}, maxOutput+1000))
		o.Streams.Stderr.WriteString("whole")
		return wire.Exit{}
	})
	r, err := w.ExecSync(t.Context(), &v1.ExecSyncRequest{ContainerId: id, Cmd: []string{"yes"}})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(string(r.Stdout), truncated) || len(r.Stdout) != maxOutput-len("whole") || string(r.Stderr) != "whole" {
		t.Errorf("stdout has %d bytes and ends %q, stderr is %.20q", len(r.Stdout), r.Stdout[len(r.Stdout)-20:], r.Stderr)
	}
	if n := proto.Size(r); n > 16<<20 {
		t.Errorf("the answer has %d bytes", n)
	}
}

func TestFit(t *testing.T) {
	for _, tc := range [][4]int{ // lengths before and after
		{maxOutput, 0, maxOutput, 0}, {5, 6, 5, 6}, {10, maxOutput, 10, maxOutput - 10}, {maxOutput, maxOutput, maxOutput / 2, maxOutput / 2},
		{maxOutput/2 + 1, maxOutput / 2, maxOutput / 2, maxOutput / 2},
	} {
		a, b := output{data: make([]byte, tc[0])}, output{data: make([]byte, tc[1])}
		fit(&a, &b)
		if x, y := len(a.take()), len(b.take()); x != tc[2] || y != tc[3] {
			t.Errorf("%v: %d and %d", tc, x, y)
		}
		if a.cut != (tc[2] < tc[0]) || b.cut != (tc[3] < tc[1]) {
			t.Errorf("%v: cut %v and %v", tc, a.cut, b.cut)
		}
	}
}

// TestExecSyncLeftBehind: what was written before the end is there, though somebody holds the streams and goes on writing.
func TestExecSyncLeftBehind(t *testing.T) {
	w, id := execWorld(t, func(o engine.ExecOptions, _ <-chan struct{}) wire.Exit {
		o.Streams.Stdout.WriteString("last words")
		go chatter(o.Streams.Stderr)
		return wire.Exit{}
	})
	began := time.Now()
	r, err := w.ExecSync(t.Context(), &v1.ExecSyncRequest{ContainerId: id, Cmd: []string{"sh"}})
	if err != nil || string(r.Stdout) != "last words" {
		t.Errorf("%q, %v", r.GetStdout(), err)
	}
	if took := time.Since(began); took > drainTime+3*time.Second {
		t.Errorf("it took %s", took)
	}
}

// chatter writes until nobody reads.
func chatter(f *os.File) {
	for {
		if _, err := f.WriteString("x"); err != nil {
			f.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

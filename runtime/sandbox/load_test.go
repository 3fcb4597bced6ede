package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

func openFDs(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestParallelStartsLeakNothing(t *testing.T) {
	w := newWorld(t, ScopeNode)
	round := func(n int) {
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				id := fmt.Sprint("p", i)
				s := w.bundle(container{id: id, args: []string{"sh", "-c", "echo out; echo err >&2; exit 5"}, stdio: wire.Stdio{Log: w.log(id), Terminal: i%5 == 0}})
				if _, err := w.boxes.Start(context.Background(), id, s, nil); err != nil {
					t.Errorf("start %s: %v", id, err)
					return
				}
				if exit := w.awaitExit(key(id)); exit.Code != 5 {
					t.Errorf("exit of %s is %+v", id, exit)
				}
				if got := w.logged(id); !strings.Contains(got["stdout"], "out") {
					t.Errorf("log of %s is %q", id, got)
				}
				if _, err := w.boxes.Delete(context.Background(), key(id)); err != nil {
					t.Errorf("delete %s: %v", id, err)
				}
			})
		}
		wg.Wait()
		w.mu.Lock()
		clear(w.exits)
		w.mu.Unlock()
	}
	round(5)
	// What comes to life with the first starts stays; no more may.
	pid := w.supervisorPID()
	theirs, mine, routines := openFDs(t, pid), openFDs(t, os.Getpid()), runtime.NumGoroutine()
	round(50)
	round(5)
	var after [3]int
	w.untilNot(func() bool {
		after = [3]int{openFDs(t, pid), openFDs(t, os.Getpid()), runtime.NumGoroutine()}
		return after[0] > theirs || after[1] > mine || after[2] > routines
	})
	t.Logf("supervisor's descriptors %d → %d, ours %d → %d, goroutines %d → %d", theirs, after[0], mine, after[1], routines, after[2])
}

// TestSlowClient: a client that does not read holds up neither the exit nor the log.
func TestSlowClient(t *testing.T) {
	w := newWorld(t, ScopeNode)
	r, slow, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fast := newCapture(t)
	s := w.bundle(container{id: "c", args: []string{"sh", "-c", "dd if=/dev/zero bs=1k count=900 2>/dev/null; echo; echo end"}, stdio: wire.Stdio{Log: w.log("c")}})
	s.Attach = &wire.Attachment{Stdout: true}
	if _, err := w.boxes.Start(context.Background(), "c", s, []*os.File{slow}); err != nil {
		t.Fatal(err)
	}
	slow.Close()
	if err := w.boxes.Attach(context.Background(), key("c"), wire.Attachment{Stdout: true}, []*os.File{fast.give()}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	w.awaitExit(key("c"))
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the exit took %s", took)
	}
	if got := w.logged("c")["stdout"]; !strings.HasSuffix(got, "end\n") || len(got) != 900*1024+5 {
		t.Errorf("log holds %d bytes", len(got))
	}
	// The slow one gets everything in the end.
	var got int
	buf := make([]byte, 1<<16)
	for {
		n, err := r.Read(buf)
		got += n
		if err != nil {
			break
		}
	}
	if got != 900*1024+5 {
		t.Errorf("the slow client got %d bytes", got)
	}
}

func TestScopePod(t *testing.T) {
	w := newWorld(t, ScopePod)
	for _, id := range []string{"a", "b"} {
		w.start(container{id: id, args: []string{"sleep", "1000"}})
	}
	info := w.boxes.Info()
	if len(info) != 2 || info[0].PID == info[1].PID {
		t.Errorf("supervisors are %+v", info)
	}
	if err := w.boxes.Signal(context.Background(), wire.Signal{Process: key("a"), Signal: 9}); err != nil {
		t.Fatal(err)
	}
	w.awaitExit(key("a"))
	w.delete("a")
	// Its supervisor went with the last of its containers.
	if info := w.boxes.Info(); len(info) != 1 || info[0].Group != "b" {
		t.Errorf("supervisors are %+v", info)
	}
	if _, err := os.Stat(w.dir + "/supervisor/a"); err == nil {
		t.Error("the directory of the supervisor is left")
	}
}

// TestCloseBesideAConnection closes while the connection to a supervisor is being made: nobody waits for its end.
func TestCloseBesideAConnection(t *testing.T) {
	w := newWorld(t, ScopeNode)
	w.start(container{id: "c", args: []string{"sleep", "1000"}}) // it keeps the supervisor
	for round := range 40 {
		if err := w.boxes.Close(); err != nil {
			t.Fatal(err)
		}
		w.open(ScopeNode)
		w.boxes.Warm("c")
		time.Sleep(time.Duration(round) * 50 * time.Microsecond)
		closed := make(chan error, 1)
		go func() { closed <- w.boxes.Close() }()
		select {
		case err := <-closed:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(15 * time.Second):
			t.Fatalf("round %d: it does not close", round)
		}
		w.open(ScopeNode)
	}
	w.recover(Known{Process: key("c"), Dir: filepath.Join(w.dir, "bundle/c"), State: "running"})
}

package sandbox

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

func TestExitCodes(t *testing.T) {
	w := newWorld(t, ScopeNode)
	for _, c := range []struct {
		id, script   string
		code, signal int
	}{
		{"zero", "exit 0", 0, 0},
		{"seven", "exit 7", 7, 0},
		{"high", "exit 255", 255, 0},
	} {
		r := w.start(container{id: c.id, args: []string{"sh", "-c", c.script}})
		if r.PID == 0 || r.StartTime == 0 || len(r.CgroupPaths) == 0 {
			t.Errorf("%s: result is %+v", c.id, r)
		}
		exit := w.awaitExit(key(c.id))
		if exit.Code != c.code || exit.Signal != c.signal || exit.PID != r.PID || exit.Time.IsZero() || exit.Reason != "" {
			t.Errorf("%s: exit is %+v", c.id, exit)
		}
		var onDisk wire.Exit
		data, err := os.ReadFile(filepath.Join(w.dir, "bundle", c.id, "exit.json"))
		if err != nil || json.Unmarshal(data, &onDisk) != nil || onDisk.Code != c.code {
			t.Errorf("%s: exit.json is %s, %v", c.id, data, err)
		}
		if got := w.delete(c.id); got.Code != c.code {
			t.Errorf("%s: delete tells %+v", c.id, got)
		}
	}
}

func TestSignals(t *testing.T) {
	w := newWorld(t, ScopeNode)
	ctx := context.Background()
	w.start(container{id: "killed", args: []string{"sleep", "1000"}})
	if _, err := w.boxes.Delete(ctx, key("killed")); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a running container is deleted: %v", err)
	}
	if err := w.boxes.Signal(ctx, wire.Signal{Process: key("killed"), Signal: int(unix.SIGKILL)}); err != nil {
		t.Fatal(err)
	}
	// A delete that follows at once waits for the end.
	if exit := w.delete("killed"); exit.Code != 137 {
		t.Errorf("delete tells %+v", exit)
	}
	if exit := w.awaitExit(key("killed")); exit.Code != 137 || exit.Signal != 9 || exit.OOM {
		t.Errorf("exit is %+v", exit)
	}
	if err := w.boxes.Signal(ctx, wire.Signal{Process: key("killed"), Signal: 1}); !errdefs.IsNotFound(err) {
		t.Errorf("signal to a dead container: %v", err)
	}
	out := newCapture(t)
	w.start(container{id: "trap", args: []string{"sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done"}}, nil, out.give())
	out.until("up\n")
	if err := w.boxes.Signal(ctx, wire.Signal{Process: key("trap"), Signal: int(unix.SIGTERM), All: true}); err != nil {
		t.Fatal(err)
	}
	if exit := w.awaitExit(key("trap")); exit.Code != 3 {
		t.Errorf("exit is %+v", exit)
	}
	if err := w.boxes.Signal(ctx, wire.Signal{Process: key("nobody"), Signal: 9}); !errdefs.IsNotFound(err) {
		t.Errorf("signal to nobody: %v", err)
	}
}

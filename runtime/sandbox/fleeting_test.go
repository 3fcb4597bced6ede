package sandbox

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

// fleeting runs a process that leaves nothing.
func (w *world) fleeting(id, exec string, args ...string) (out, errs *capture, err error) {
	w.t.Helper()
	data, err := json.Marshal(w.spec(id, args...).Process)
	if err != nil {
		w.t.Fatal(err)
	}
	out, errs = newCapture(w.t), newCapture(w.t)
	x := wire.Exec{Process: execKey(id, exec), Spec: data, Attach: &wire.Attachment{Stdout: true, Stderr: true}}
	_, err = w.boxes.Exec(context.Background(), x, []*os.File{out.give(), errs.give()})
	out.give().Close()
	errs.give().Close()
	return out, errs, err
}

func TestFleetingExec(t *testing.T) {
	w := newWorld(t, ScopeNode)
	w.start(container{id: "c", args: []string{"sleep", "1000"}})
	if !w.boxes.Fleeting(wire.Process{Namespace: "test", ID: "c"}) {
		t.Fatal("the supervisor does not know of it")
	}
	out, errs, err := w.fleeting("c", "one", "sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x; echo err >&2; exit 9")
	if err != nil {
		t.Fatal(err)
	}
	if exit := w.awaitExit(execKey("c", "one")); exit.Code != 9 {
		t.Errorf("exit is %+v", exit)
	}
	// More than a pipe holds: its writer waits for us, as it would not with a non-blocking one.
	if o, e := out.all(), errs.all(); len(o) != 300000 || e != "err\n" {
		t.Errorf("got %d bytes and %q", len(o), e)
	}
	if files, err := filepath.Glob(filepath.Join(w.dir, "bundle", "c", "exec", "*")); err != nil || len(files) > 0 {
		t.Errorf("it has left %q, %v", files, err)
	}
	w.until("both sides have forgotten it", func() bool {
		_, err := w.boxes.Delete(context.Background(), execKey("c", "one"))
		return errdefs.IsNotFound(err)
	})
	if _, _, err := w.fleeting("c", "two", "no-such"); !errdefs.IsNotFound(err) {
		t.Errorf("a program that is not there: %v", err)
	}
}

// TestFleetingExecOutlivesItsSupervisor: the next one has nothing to read about it, and the daemon tells it.
func TestFleetingExecOutlivesItsSupervisor(t *testing.T) {
	w := newWorld(t, ScopeNode)
	w.start(container{id: "c", args: []string{"sleep", "1000"}})
	out, _, err := w.fleeting("c", "one", "sh", "-c", "while [ ! -e /tmp/go ]; do sleep 0.02; done; echo done; exit 7")
	if err != nil {
		t.Fatal(err)
	}
	w.killSupervisor()
	w.until("another one has taken it over", func() bool { return w.boxes.Fleeting(wire.Process{Namespace: "test", ID: "c"}) })
	if _, err := w.exec("c", "two", wire.Stdio{}, nil, "sh", "-c", "> /tmp/go"); err != nil {
		t.Fatal(err)
	}
	if exit := w.awaitExit(execKey("c", "one")); exit.Code != 7 {
		t.Errorf("exit is %+v", exit)
	}
	if o := out.all(); o != "done\n" {
		t.Errorf("got %q", o)
	}
	w.awaitExit(execKey("c", "two"))
}

package engine

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/logs"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

func TestLogs(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		c := w.create(w.options("c"))
		var lines []string
		read := func(o LogOptions) error {
			lines = nil
			return w.Logs(context.Background(), ns, "c", o, func(e logs.Entry) error {
				lines = append(lines, string(e.Data))
				return nil
			})
		}
		w.ok(read(LogOptions{Tail: -1, Follow: true})) // nothing was written, and nothing runs
		w.start("c")
		out, err := logs.NewWriter(logs.Options{Driver: c.Log.Driver, Path: c.Log.Path})
		w.ok(err)
		w.ok(out.Write("stdout", []byte("one\ntwo\n"), time.Now()))
		w.ok(out.Close())
		w.ok(read(LogOptions{Tail: 1}))
		if len(lines) != 1 || lines[0] != "two\n" {
			t.Errorf("lines %q", lines)
		}
		w.sandboxes.exit(t, "c", "", 0)
		w.settled()
		w.ok(read(LogOptions{Tail: -1, Follow: true})) // it has ended
		if len(lines) != 2 {
			t.Errorf("lines %q", lines)
		}
		_, err = w.Delete(t.Context(), ns, "c", DeleteOptions{})
		w.ok(err)
		if _, err := os.Stat(c.Log.Path); !os.IsNotExist(err) {
			t.Errorf("the log: %v", err)
		}
		o := w.options("c")
		o.Log = wire.Log{Driver: "none"}
		w.create(o)
		w.is(read(LogOptions{}), errdefs.ErrFailedPrecondition)
	})
}

func TestReadProcess(t *testing.T) {
	info, err := readProcess(os.Getpid())
	if err != nil || info.PPID != os.Getppid() || info.Command == "" || info.RSS == 0 || info.User == "" {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := readProcess(1 << 30); err == nil {
		t.Error("a process that is not")
	}
}

package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

func TestUpgrade(t *testing.T) {
	w := newWorld(t, ScopeNode)
	ctx := context.Background()
	r, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	tty := newCapture(t)
	w.start(container{id: "tty", args: []string{"sh"}, stdio: wire.Stdio{Terminal: true, Stdin: true, Log: w.log("tty")}}, r, tty.give())
	r.Close()
	numbers := newCapture(t)
	w.start(container{
		id: "count", args: []string{"sh", "-c", "trap 'exit 6' TERM; i=0; while :; do i=$((i+1)); echo $i; done"},
		stdio: wire.Stdio{Log: w.log("count")},
	}, nil, numbers.give())
	w.start(container{id: "gone", args: []string{"sh", "-c", "exit 7"}})
	w.awaitExit(key("gone"))
	if _, err := w.exec("count", "x", wire.Stdio{}, nil, "sleep", "1000"); err != nil {
		t.Fatal(err)
	}
	pid := w.supervisorPID()
	for round := 1; round <= 3; round++ {
		fmt.Fprintf(in, "echo round%d\n", round)
		tty.until(fmt.Sprintf("\r\nround%d\r\n", round))
		w.untilLogged("count", 1000)
		began := time.Now()
		if err := w.boxes.Upgrade(ctx); err != nil {
			t.Fatalf("%v\n%s", err, w.supervisorLog())
		}
		t.Logf("an upgrade takes %s", time.Since(began))
		info := w.boxes.Info()
		if len(info) != 1 || info[0].PID != pid || info[0].Generation != round || !info[0].Connected {
			t.Fatalf("after the upgrade: %+v", info)
		}
	}
	fmt.Fprintln(in, "exit 3")
	if exit := w.awaitExit(key("tty")); exit.Code != 3 {
		t.Errorf("exit of the terminal is %+v", exit)
	}
	if _, err := w.exec("count", "y", wire.Stdio{}, nil, "sh", "-c", "exit 2"); err != nil {
		t.Fatal(err)
	}
	if exit := w.awaitExit(execKey("count", "y")); exit.Code != 2 {
		t.Errorf("exit is %+v", exit)
	}
	if err := w.boxes.Signal(ctx, wire.Signal{Process: key("count"), Signal: 15}); err != nil {
		t.Fatal(err)
	}
	if exit := w.awaitExit(key("count")); exit.Code != 6 || exit.Reason != "" {
		t.Errorf("exit is %+v", exit)
	}
	if exit := w.delete("gone"); exit.Code != 7 {
		t.Errorf("exit before the upgrade is %+v", exit)
	}
	// No byte is lost, and none comes twice: for the client, and in the log.
	client := numbers.all()
	if n := inOrder(t, client); n < 3000 {
		t.Errorf("the client got %d lines", n)
	}
	if log := w.logged("count")["stdout"]; log != client {
		t.Errorf("the log has %d bytes, the client %d", len(log), len(client))
	}
	in.Close()
}

func TestUpgradeRefused(t *testing.T) {
	w := newWorld(t, ScopeNode)
	ctx := context.Background()
	out := newCapture(t)
	w.start(container{
		id: "count", args: []string{"sh", "-c", "trap 'exit 6' TERM; i=0; while :; do i=$((i+1)); echo $i; done"},
		stdio: wire.Stdio{Log: w.log("count")},
	}, nil, out.give())
	w.untilLogged("count", 1000)
	bad := filepath.Join(w.dir, "bad")
	if err := os.WriteFile(bad, []byte("#!/bin/sh\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.boxes.Binary = bad
	if err := w.boxes.Upgrade(ctx); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("upgrade: %v", err)
	}
	w.boxes.Binary = common.binary
	w.untilLogged("count", 1000)
	if info := w.boxes.Info(); info[0].Generation != 0 {
		t.Errorf("info is %+v", info)
	}
	if err := w.boxes.Signal(ctx, wire.Signal{Process: key("count"), Signal: 15}); err != nil {
		t.Fatal(err)
	}
	w.awaitExit(key("count"))
	client := out.all()
	inOrder(t, client)
	if log := w.logged("count")["stdout"]; log != client {
		t.Errorf("the log has %d bytes, the client %d", len(log), len(client))
	}
	if strings.Contains(w.supervisorLog(), "panic") {
		t.Error(w.supervisorLog())
	}
}

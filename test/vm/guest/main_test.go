package guest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

const (
	toolbox = "mini/toolbox:latest"
	actor   = "type=bind,src=/sbin/init,dst=/act,options=bind:ro" // what test/vm/init does inside of containers
)

func TestMain(m *testing.M) {
	if os.Getenv("MINI_VM") == "" {
		fmt.Println("these tests run in the virtual machine of test/vm")
		return
	}
	os.Exit(m.Run())
}

// start starts a daemon. They have one root, one after the other, so that the image is unpacked once: all is slow here.
func start(t *testing.T) *testenv.DaemonProcess {
	t.Helper()
	return testenv.Daemon(t, testenv.DaemonOptions{Root: "/var/lib/mini"})
}

// record is what the tests look at of a container's.
type record struct {
	State string `json:"state"`
	PID   int    `json:"pid"`
	Exit  struct {
		Code   int    `json:"code"`
		OOM    bool   `json:"oom"`
		Reason string `json:"reason"`
	} `json:"exit"`
}

func inspect(t *testing.T, d *testenv.DaemonProcess, id string) record {
	t.Helper()
	var r record
	out := d.Minictr("containers", "info", id)
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return r
}

func waitExit(t *testing.T, d *testenv.DaemonProcess, id string) record {
	t.Helper()
	var r record
	testenv.Eventually(t, 30*time.Second, id+" has exited", func() bool {
		r = inspect(t, d, id)
		return r.State == "exited"
	})
	return r
}

// group is the directory of a running container's cgroup.
func group(t *testing.T, d *testenv.DaemonProcess, id string) string {
	t.Helper()
	pid := inspect(t, d, id).PID
	if pid == 0 {
		t.Fatalf("%s: no process in the record: %s", id, d.Minictr("containers", "info", id))
	}
	path, ok := strings.CutPrefix(read(t, fmt.Sprintf("/proc/%d/cgroup", pid)), "0::/")
	if !ok || path == "" {
		t.Fatalf("%s: in the cgroup %q", id, path)
	}
	return filepath.Join("/sys/fs/cgroup", path)
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// holds compares files of a cgroup with what they should say.
func holds(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	for file, value := range want {
		if got := read(t, filepath.Join(dir, file)); got != value {
			t.Errorf("%s is %q, want %q", file, got, value)
		}
	}
}

// refused runs minictr, which must fail and mention each of the words.
func refused(t *testing.T, d *testenv.DaemonProcess, words []string, args ...string) {
	t.Helper()
	o := d.Try(args...)
	if o.Code == 0 {
		t.Errorf("minictr %s: it went well: %s", strings.Join(args, " "), o.Stdout)
	}
	for _, w := range words {
		if !strings.Contains(o.Stderr, w) {
			t.Errorf("minictr %s: no %q in %q", strings.Join(args, " "), w, o.Stderr)
		}
	}
}

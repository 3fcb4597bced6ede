package scenario_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/minirt/mini/internal/testenv"
)

// namespaceOf is the identity of a namespace of a process on this host.
// namespaceOf is the namespace of a process, or of this thread: another one of this program may be in a test's network.
func namespaceOf(t *testing.T, pid any, kind string) string {
	t.Helper()
	link, err := os.Readlink(fmt.Sprintf("/proc/%v/ns/%s", pid, kind))
	if err != nil {
		t.Fatal(err)
	}
	return link
}

// TestNamespacesOfContainers looks which namespaces a container shares: none, the host's, another container's, one of a path.
func TestNamespacesOfContainers(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	d.Minictr("run", "-d", toolbox, "first", "sh", "-c", "echo shared >/dev/shm/f; hostname; sleep 600")
	first := inspect(t, d, "first").PID
	kinds := []string{"pid", "ipc", "uts", "net", "mnt"}
	for _, kind := range kinds {
		if namespaceOf(t, first, kind) == namespaceOf(t, "thread-self", kind) {
			t.Errorf("by default a container shares the host's %s namespace", kind)
		}
	}
	word := map[string]string{"net": "network", "mnt": "mount"}
	for _, kind := range kinds[:4] {
		name := word[kind]
		if name == "" {
			name = kind
		}
		for how, want := range map[string]string{
			"host":            namespaceOf(t, "thread-self", kind),
			"container:first": namespaceOf(t, first, kind),
			fmt.Sprintf("/proc/%d/ns/%s", first, kind): namespaceOf(t, first, kind),
		} {
			d.Minictr("run", "-d", "--with-ns", name+":"+how, toolbox, "other", "sleep", "600")
			pid := inspect(t, d, "other").PID
			if got := namespaceOf(t, pid, kind); got != want {
				t.Errorf("--with-ns %s:%s: %s, want %s", name, how, got, want)
			}
			for _, others := range kinds {
				if shared := namespaceOf(t, pid, others) == namespaceOf(t, first, others); others != kind && shared {
					t.Errorf("--with-ns %s:%s shares %s too", name, how, others)
				}
			}
			d.Minictr("containers", "rm", "--force", "other")
		}
	}
	if c := inspect(t, d, "first"); c.State != "running" {
		t.Fatalf("after others that joined it were removed, it is %s: %+v", c.State, c.Exit)
	}
	for _, c := range []runCase{
		{"shared memory", []string{"--with-ns", "ipc:container:first"}, "cat /dev/shm/f", "shared"},
		{"its own memory", nil, "cat /dev/shm/f 2>/dev/null || echo none", "none"},
		{"name", []string{"--with-ns", "uts:container:first"}, "hostname", "first"},
		{"its processes", []string{"--with-ns", "pid:container:first"}, "cat /proc/1/comm", "sh"},
		{"loopback", nil, "ip addr show lo | grep -c 127.0.0.1", "1"},
		{"time", []string{"--with-ns", "time:private"}, "readlink /proc/self/ns/time", "part:time:["},
		{"cgroup", []string{"--with-ns", "cgroup:private"}, "cat /proc/self/cgroup | grep -v ':/$' | wc -l", "0"},
	} {
		c.check(t, d, toolbox)
	}
	if out := d.Minictr("run", "--rm", "--net-host", toolbox, "host", "readlink", "/proc/self/ns/net"); strings.TrimSpace(out) != namespaceOf(t, "thread-self", "net") {
		t.Errorf("--net-host: %s", out)
	}
	d.Minictr("tasks", "kill", "-s", "KILL", "first")
	waitExit(t, d, "first")
	refused(t, d.Try("run", "--rm", "--with-ns", "network:container:first", toolbox, "late", "true"), "first", "start it")
	refused(t, d.Try("run", "--rm", "--with-ns", "network:container:nobody", toolbox, "late", "true"), "nobody")
	refused(t, d.Try("run", "--rm", "--with-ns", "network:/no/such/path", toolbox, "late", "true"), "/no/such/path")
	refused(t, d.Try("run", "--rm", "--with-ns", "colour:host", toolbox, "late", "true"), "colour")
	if all := containers(t, d); len(all) != 1 {
		t.Errorf("containers left: %v", all)
	}
}

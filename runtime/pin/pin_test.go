package pin_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/runtime/pin"
)

func pinned(t *testing.T, o pin.Options) string {
	t.Helper()
	testenv.Root(t)
	o.Dir = filepath.Join(testenv.Dir(t), "ns")
	t.Cleanup(func() {
		if err := pin.Remove(o.Dir); err != nil {
			t.Error(err)
		}
	})
	if err := pin.Make(o); err != nil {
		t.Fatal(err)
	}
	return o.Dir
}

// inside runs a command in the pinned namespaces.
func inside(t *testing.T, dir string, kinds []string, args ...string) string {
	t.Helper()
	var enter []string
	for _, kind := range kinds {
		enter = append(enter, "--"+kind+"="+pin.Path(dir, kind))
	}
	out, err := exec.Command("nsenter", append(enter, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestMake(t *testing.T) {
	dir := pinned(t, pin.Options{
		Kinds: []string{pin.IPC, pin.UTS}, Hostname: "pod-1", Sysctls: map[string]string{"kernel.shm_rmid_forced": "1", "fs.mqueue.queues_max": "77"},
	})
	kinds := []string{pin.IPC, pin.UTS}
	if got := inside(t, dir, kinds, "hostname"); got != "pod-1" {
		t.Errorf("host name %q", got)
	}
	if got := inside(t, dir, kinds, "cat", "/proc/sys/kernel/shm_rmid_forced", "/proc/sys/fs/mqueue/queues_max"); got != "1\n77" {
		t.Errorf("sysctls %q", got)
	}
	if host, err := os.Hostname(); err != nil || host == "pod-1" {
		t.Errorf("the host is called %q %v", host, err)
	}
	for kind, want := range map[string]bool{pin.IPC: true, pin.UTS: true, pin.Network: false, pin.User: false} {
		if pin.Pinned(dir, kind) != want {
			t.Errorf("%s is pinned: %v", kind, !want)
		}
	}
	if err := pin.Remove(filepath.Join(dir, "not there")); err != nil {
		t.Error(err)
	}
	for range 2 {
		if !pin.Any(dir) {
			t.Error("none is pinned")
		}
		if err := mount.Unmount(pin.Path(dir, pin.UTS)); err != nil { // one is enough
			t.Error(err)
		}
	}
	for range 2 {
		if err := pin.Remove(dir); err != nil {
			t.Error(err)
		}
	}
	if pin.Pinned(dir, pin.IPC) || pin.Any(dir) {
		t.Error("still pinned after its removal")
	}
}

func TestMakeOwned(t *testing.T) {
	maps := []mount.IDMap{{ContainerID: 0, HostID: 100000, Size: 65536}}
	dir := pinned(t, pin.Options{
		Kinds: []string{pin.Network, pin.IPC, pin.UTS}, UIDMap: maps, GIDMap: maps, Hostname: "mapped",
		Sysctls: map[string]string{"net.ipv4.ip_unprivileged_port_start": "0"},
	})
	kinds := []string{pin.User, pin.Network, pin.UTS}
	if got := strings.Fields(inside(t, dir, kinds, "cat", "/proc/self/uid_map")); strings.Join(got, " ") != "0 100000 65536" {
		t.Errorf("uid map %q", got)
	}
	if got := inside(t, dir, kinds, "hostname"); got != "mapped" {
		t.Errorf("host name %q", got)
	}
	// Root of the user namespace may change what belongs to its network: it owns it.
	if got := inside(t, dir, kinds, "sh", "-c", "echo 5 >/proc/sys/net/ipv4/ip_default_ttl && cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/net/ipv4/ip_unprivileged_port_start"); got != "5\n0" {
		t.Errorf("sysctls %q", got)
	}
}

func TestBadSysctl(t *testing.T) {
	testenv.Root(t)
	dir := filepath.Join(testenv.Dir(t), "ns")
	for name, value := range map[string]string{"kernel.msgmax": "many", "net.none.such": "1"} {
		err := pin.Make(pin.Options{Dir: dir, Kinds: []string{pin.IPC}, Sysctls: map[string]string{name: value}})
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v", name, value, err)
		}
		if err := pin.Remove(dir); err != nil {
			t.Error(err)
		}
	}
}

func TestSysctlPath(t *testing.T) {
	for name, want := range map[string]string{
		"net.ipv4.ip_forward":               "net/ipv4/ip_forward",
		"net/ipv4/ip_forward":               "net/ipv4/ip_forward",
		"net.ipv4.conf.eth0/1.forwarding":   "net/ipv4/conf/eth0.1/forwarding",
		"net/ipv4/conf/eth0.1/forwarding":   "net/ipv4/conf/eth0.1/forwarding",
		"fs.mqueue.msg_max":                 "fs/mqueue/msg_max",
		"":                                  "",
		".":                                 "",
		"net.//.kernel.panic":               "",
		"net/../kernel/panic":               "",
		"net/./ipv4":                        "",
		"net..ipv4":                         "",
		"/proc/sys/net/ipv4/ip_forward":     "",
		"net/ipv4/":                         "",
		"net.ipv4.ip_forward\nkernel.panic": "",
	} {
		got, err := pin.SysctlPath(name)
		if got != want || (want == "") != errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
}

// FuzzSysctlPath leads nowhere but below /proc/sys.
func FuzzSysctlPath(f *testing.F) {
	for _, name := range []string{"net.ipv4.ip_forward", "net.//.kernel.panic", "a/../../b", "..", "net/ipv4/conf/eth0.1/forwarding"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		path, err := pin.SysctlPath(name)
		if err != nil {
			return
		}
		if joined := filepath.Join("/proc/sys", path); joined != "/proc/sys/"+path || strings.Contains("/"+path+"/", "/../") {
			t.Errorf("%q: %q", name, path)
		}
	})
}

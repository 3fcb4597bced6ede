package netns_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/runtime/network/netns"
	"golang.org/x/sys/unix"
)

func pinned(t testing.TB) string {
	t.Helper()
	testenv.Root(t)
	testenv.Leftovers(t, "/netns-test")
	path := filepath.Join(t.TempDir(), "netns-test")
	if err := netns.Make(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Delete(path); err != nil {
			t.Error(err)
		}
	})
	return path
}

func TestMakeAndDelete(t *testing.T) {
	path := pinned(t)
	home, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	err = netns.DoAt(path, func() error {
		inside, err := os.Readlink("/proc/thread-self/ns/net")
		if inside == home {
			t.Error("not another namespace")
		}
		lo, e := net.InterfaceByName("lo")
		if e != nil || lo.Flags&net.FlagUp == 0 {
			t.Errorf("loopback: %v, %v", lo, e)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := netns.Make(path); !errdefs.IsAlreadyExists(err) {
		t.Errorf("made twice: %v", err)
	}
	for range 2 {
		if err := netns.Delete(path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := netns.Open(path); !errdefs.IsNotFound(err) {
		t.Errorf("opened what is deleted: %v", err)
	}
}

// After a reboot the file can still be there, and nothing mounted on it.
func TestAFileIsNoNamespace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stale")
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if _, err := netns.Open(path); !errdefs.IsNotFound(err) {
		t.Fatalf("opened: %v", err)
	}
	if err := netns.Delete(path); err != nil {
		t.Fatal(err)
	}
}

func TestAdopt(t *testing.T) {
	testenv.Root(t)
	var made *os.File
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	// As another would have made it: loopback down.
	err = netns.Do(ns, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		made, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer made.Close()
	path := filepath.Join(t.TempDir(), "adopted")
	if err := netns.Pin(made, path); err != nil {
		t.Fatal(err)
	}
	defer netns.Delete(path)
	if err := netns.Adopt(path); err != nil {
		t.Fatal(err)
	}
	talk(t, path)
}

func TestDialAndListen(t *testing.T) { talk(t, pinned(t)) }

// talk needs the loopback interface up.
func talk(t *testing.T, path string) {
	t.Helper()
	l, err := netns.Listen(t.Context(), path, netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()
	var wg sync.WaitGroup
	wg.Go(func() {
		if c, err := l.Accept(); err == nil {
			c.Close()
		}
	})
	conn, err := netns.DialLoopback(t.Context(), path, port)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	wg.Wait()
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("it listens outside")
	}
}

func TestDoGivesTheThreadBack(t *testing.T) {
	path := pinned(t)
	home, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	for range 100 {
		if err := netns.DoAt(path, func() error { return boom }); !errors.Is(err, boom) {
			t.Fatal(err)
		}
		if here, err := os.Readlink("/proc/thread-self/ns/net"); err != nil || here != home {
			t.Fatalf("a thread stayed in %s, %v", here, err)
		}
	}
}

func BenchmarkMakeDelete(b *testing.B) {
	testenv.Root(b)
	path := filepath.Join(b.TempDir(), "netns-bench")
	for b.Loop() {
		if err := netns.Make(path); err != nil {
			b.Fatal(err)
		}
		if err := netns.Delete(path); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDo(b *testing.B) {
	path := pinned(b)
	for b.Loop() {
		if err := netns.DoAt(path, func() error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

package rtnl

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/runtime/network/netns"
	"golang.org/x/sys/unix"
)

// alone moves the test's thread into a network namespace that ends with the thread, and opens a socket there.
func alone(t *testing.T) *Conn {
	t.Helper()
	testenv.Root(t)
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	c, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestABatchGoesOnAfterAnError(t *testing.T) {
	c := alone(t)
	lo, err := c.Index("lo")
	if err != nil {
		t.Fatal(err)
	}
	err = c.Do(DeleteLink("none"), SetUp(lo), NewAddress(lo, netip.MustParsePrefix("10.1.2.3/24")), DeleteLink("neither"))
	if !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "delete link none") || !strings.Contains(err.Error(), "delete link neither") {
		t.Errorf("error %v", err)
	}
	link, err := net.InterfaceByName("lo")
	if err != nil || link.Flags&net.FlagUp == 0 {
		t.Errorf("%+v, %v", link, err)
	}
	addrs, err := link.Addrs()
	if err != nil || !strings.Contains(strings.Join(texts(addrs), " "), "10.1.2.3/24") {
		t.Errorf("%v, %v", addrs, err)
	}
	if _, err := c.Index("none"); !errors.Is(err, unix.ENODEV) {
		t.Errorf("index of none: %v", err)
	}
}

func texts(addrs []net.Addr) []string {
	var all []string
	for _, a := range addrs {
		all = append(all, a.String())
	}
	return all
}

// TestTheKernelsWords: an error says what the kernel says.
func TestTheKernelsWords(t *testing.T) {
	c := alone(t)
	lo, err := c.Index("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Do(NewDefaultRoute(lo, netip.MustParseAddr("10.9.9.9"))); err == nil || !strings.Contains(err.Error(), "(") {
		t.Errorf("error %v", err)
	}
}

func TestOpenIn(t *testing.T) {
	c := alone(t)
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	veth := Veth{Host: "host0", MTU: 1400, Peer: "eth0", MAC: net.HardwareAddr{0x0a, 0x58, 1, 2, 3, 4}, NS: ns}
	// No bridge of number 0 is there, and none is asked for.
	if err := c.Do(NewVeth(veth)); err != nil {
		t.Fatal(err)
	}
	inside, err := OpenIn(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	if _, err := inside.Index("eth0"); err != nil {
		t.Error(err)
	}
	if _, err := inside.Index("host0"); !errors.Is(err, unix.ENODEV) {
		t.Errorf("the host's end is inside: %v", err)
	}
	if err := c.Do(NewVeth(veth)); !errors.Is(err, unix.EEXIST) {
		t.Errorf("made twice: %v", err)
	}
}

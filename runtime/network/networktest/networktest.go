// Package networktest gives tests of networks a host of their own: the test's program is started again in network and
// mount namespaces that end with it, so that nothing it makes can be left behind or disturb the machine. In there it makes
// pods, neighbours on a wire, and servers and clients in both.
package networktest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/runtime/network/netns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const inside = "MINI_NETWORKTEST_INSIDE"

// Main runs the tests of a package in namespaces of their own. Without root it runs them where they are; so it does when
// fuzzing, whose processes talk by descriptors that are theirs alone.
func Main(m *testing.M) int {
	fuzzing := slices.ContainsFunc(os.Args, func(arg string) bool { return strings.HasPrefix(arg, "-test.fuzz=") })
	if os.Getuid() != 0 || fuzzing {
		return m.Run()
	}
	if os.Getenv(inside) == "" {
		return again()
	}
	if err := settle(); err != nil {
		fmt.Fprintln(os.Stderr, "networktest:", err)
		return 1
	}
	return m.Run()
}

func again() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, "networktest:", err)
		return 1
	}
	return 0
}

// settle makes the namespaces usable: no mount goes out of them, /sys shows this network, and the state of CNI plugins
// is kept out of the machine's directories.
func settle() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	for _, dir := range []string{"/var/lib/cni", "/run"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("hide %s: %w", dir, err)
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// Namespace pins a new namespace until the test ends.
func Namespace(t testing.TB) string {
	t.Helper()
	testenv.Root(t)
	path := filepath.Join(testenv.Dir(t), "ns")
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

// LAN is a neighbour of the host on a wire of its own, until the test ends.
type LAN struct {
	Path         string // its namespace
	Host4, Host6 netip.Addr
	Peer4, Peer6 netip.Addr
}

// NewLAN makes a neighbour, by which the host's default routes go. The neighbour has no way to the pods.
func NewLAN(t testing.TB, mtu int) LAN {
	t.Helper()
	l := LAN{
		Path:  Namespace(t),
		Host4: netip.MustParseAddr("192.0.2.1"), Peer4: netip.MustParseAddr("192.0.2.2"),
		Host6: netip.MustParseAddr("2001:db8::1"), Peer6: netip.MustParseAddr("2001:db8::2"),
	}
	ns, err := netns.Open(l.Path)
	must(t, err)
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = "uplink", mtu
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "wire", PeerMTU: uint32(mtu), PeerNamespace: netlink.NsFd(int(ns.Fd()))}))
	t.Cleanup(func() {
		if link, err := netlink.LinkByName("uplink"); err == nil {
			must(t, netlink.LinkDel(link))
		}
	})
	must(t, setUp("uplink", l.Host4, l.Host6))
	must(t, netns.Do(ns, func() error { return setUp("wire", l.Peer4, l.Peer6) }))
	for _, to := range []netip.Addr{l.Peer4, l.Peer6} {
		link, err := netlink.LinkByName("uplink")
		must(t, err)
		must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: to.AsSlice()}))
	}
	return l
}

func setUp(name string, addrs ...netip.Addr) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		bits := 24
		if a.Is6() {
			bits = 64
		}
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}}
		if a.Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Serve answers on TCP and UDP, in the namespace at the path (empty: the host), with the name and the address that the
// client seems to have, until the test ends.
func Serve(t testing.TB, path, name string, at netip.AddrPort) {
	t.Helper()
	var tcp net.Listener
	var udp net.PacketConn
	in(t, path, func() (err error) {
		if tcp, err = net.Listen("tcp", at.String()); err != nil {
			return err
		}
		udp, err = net.ListenPacket("udp", at.String())
		return err
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s %s", name, peerOf(c.RemoteAddr()))
			c.Close()
		}
	})
	wg.Go(func() {
		buffer := make([]byte, 64)
		for {
			_, from, err := udp.ReadFrom(buffer)
			if err != nil {
				return
			}
			fmt.Fprintf(writerTo{udp, from}, "%s %s", name, peerOf(from))
		}
	})
	t.Cleanup(func() {
		tcp.Close()
		udp.Close()
		wg.Wait()
	})
}

type writerTo struct {
	conn net.PacketConn
	to   net.Addr
}

func (w writerTo) Write(data []byte) (int, error) { return w.conn.WriteTo(data, w.to) }

func peerOf(a net.Addr) string {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	return ap.Addr().Unmap().String()
}

// Ask asks a server of Serve from the namespace at the path (empty: the host); who answered, and whom it saw.
func Ask(t testing.TB, path, network string, to netip.AddrPort) (name string, seen netip.Addr, err error) {
	t.Helper()
	var conn net.Conn
	if err := try(path, func() (err error) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		conn, err = (&net.Dialer{}).DialContext(ctx, network, to.String())
		return err
	}); err != nil {
		return "", netip.Addr{}, err
	}
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(2*time.Second)))
	buffer := make([]byte, 128)
	n := 0
	if network == "udp" {
		if _, err := conn.Write([]byte("?")); err != nil {
			return "", netip.Addr{}, err
		}
		n, err = conn.Read(buffer)
	} else {
		n, err = io.ReadFull(conn, buffer)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = nil
		}
	}
	if err != nil {
		return "", netip.Addr{}, err
	}
	name, peer, _ := strings.Cut(string(buffer[:n]), " ")
	seen, err = netip.ParseAddr(peer)
	return name, seen, err
}

func in(t testing.TB, path string, do func() error) {
	t.Helper()
	must(t, try(path, do))
}

func try(path string, do func() error) error {
	if path == "" {
		return do()
	}
	return netns.DoAt(path, do)
}

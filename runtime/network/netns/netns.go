// Package netns makes network namespaces, pins them at paths, and does things inside them. A namespace lives as long as a
// process, a descriptor or a mount refers to it; one that only a descriptor refers to thus ends with the daemon, however
// that ends. What is in a namespace is the business of others, except for the loopback interface, which is brought up.
package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/internal/osthread"
	"golang.org/x/sys/unix"
)

// current is the namespace of the calling thread; /proc/self would be that of the program's first one.
const current = "/proc/thread-self/ns/net"

// New makes a namespace, with the loopback interface up, that lives as long as the descriptor is open or it is pinned.
func New() (*os.File, error) {
	var ns *os.File
	var err error
	osthread.Run(func() bool {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return true
		}
		if ns, err = os.Open(current); err == nil {
			err = loopbackUp()
		}
		return false
	})
	if err != nil {
		if ns != nil {
			ns.Close()
		}
		return nil, fmt.Errorf("new network namespace: %w", err)
	}
	return ns, nil
}

// Pin keeps the namespace alive at the path, until Delete. The directory is made; the path must be free.
func Pin(ns *os.File, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return fmt.Errorf("pin a network namespace: %w", err)
	}
	target, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("pin a network namespace at %s: the path is taken: delete that namespace first: %w", path, errdefs.ErrAlreadyExists)
	}
	if err != nil {
		return fmt.Errorf("pin a network namespace: %w", err)
	}
	target.Close()
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", ns.Fd()), path, "", unix.MS_BIND, ""); err != nil {
		return errors.Join(fmt.Errorf("pin a network namespace at %s: %w", path, err), os.Remove(path))
	}
	return nil
}

// Make makes a namespace at the path.
func Make(path string) error {
	ns, err := New()
	if err != nil {
		return err
	}
	defer ns.Close()
	return Pin(ns, path)
}

// Adopt brings the loopback interface up in a namespace that somebody else has made and pinned. It is for those that
// belong to another user namespace, which must be made by a process in there.
func Adopt(path string) error {
	if err := DoAt(path, loopbackUp); err != nil {
		return fmt.Errorf("network namespace %s: %w", path, err)
	}
	return nil
}

// Delete ends the pinning at the path, and so the namespace, unless others use it. It may be repeated.
func Delete(path string) error {
	if err := mount.Unmount(path); err != nil {
		return fmt.Errorf("network namespace %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("network namespace %s: %w", path, err)
	}
	return nil
}

// Open opens the namespace pinned at the path. ErrNotFound: there is none, or only the file that one was pinned at.
func Open(path string) (*os.File, error) {
	ns, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("network namespace %s: %w", path, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	var stat unix.Statfs_t
	if err := unix.Fstatfs(int(ns.Fd()), &stat); err != nil {
		return nil, errors.Join(fmt.Errorf("network namespace %s: %w", path, err), ns.Close())
	}
	if stat.Type != unix.NSFS_MAGIC {
		ns.Close()
		return nil, fmt.Errorf("network namespace %s: nothing is mounted there, the machine was restarted or it was unmounted: %w", path, errdefs.ErrNotFound)
	}
	return ns, nil
}

// Do calls do on a thread inside the namespace. Goroutines that do starts are outside.
func Do(ns *os.File, do func() error) error {
	var err error
	osthread.Run(func() bool {
		var home *os.File
		if home, err = os.Open(current); err != nil {
			return true
		}
		defer home.Close()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("enter the network namespace: %w", err)
			return true
		}
		err = do()
		return unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil
	})
	return err
}

// DoAt calls do on a thread inside the namespace pinned at the path.
func DoAt(path string, do func() error) error {
	ns, err := Open(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	return Do(ns, do)
}

// Dial connects to an address inside the namespace. It takes no names: a resolver would look for them outside.
func Dial(ctx context.Context, path, network string, to netip.AddrPort) (net.Conn, error) {
	var conn net.Conn
	err := DoAt(path, func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, to.String())
		return err
	})
	return conn, err
}

// DialLoopback connects to a TCP port of whatever listens on the namespace's loopback interface, by IPv4, else by IPv6.
func DialLoopback(ctx context.Context, path string, port uint16) (net.Conn, error) {
	conn, err4 := Dial(ctx, path, "tcp", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port))
	if err4 == nil {
		return conn, nil
	}
	conn, err6 := Dial(ctx, path, "tcp", netip.AddrPortFrom(netip.IPv6Loopback(), port))
	if err6 == nil {
		return conn, nil
	}
	if errors.Is(err4, errdefs.ErrNotFound) {
		return nil, err4
	}
	return nil, fmt.Errorf("nothing answers on port %s of the pod: %w", strconv.Itoa(int(port)), errors.Join(err4, err6))
}

// Listen listens on a TCP address inside the namespace.
func Listen(ctx context.Context, path string, at netip.AddrPort) (net.Listener, error) {
	var listener net.Listener
	err := DoAt(path, func() (err error) {
		listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", at.String())
		return err
	})
	return listener, err
}

// loopbackUp works on the namespace of the calling thread. Its addresses come by themselves (netdevice(7), SIOCSIFFLAGS).
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("bring the loopback interface up: %w", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring the loopback interface up: %w", err)
	}
	lo.SetUint16(lo.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring the loopback interface up: %w", err)
	}
	return nil
}

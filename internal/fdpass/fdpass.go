// Package fdpass sends packets with file descriptors over Unix SOCK_SEQPACKET sockets.
//
// One Send is one Recv on the other side: the kernel keeps the boundaries and attaches the descriptors to their packet
// (SCM_RIGHTS, unix(7)). Every received descriptor is close-on-exec, and belongs to the caller, also when the packet
// turns out to be of no use. What the bytes mean is none of this package's business.
package fdpass

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// MaxFiles is the largest number of descriptors in a packet: SCM_MAX_FD of the kernel.
const MaxFiles = 253

// network is Go's name for SOCK_SEQPACKET.
const network = "unixpacket"

// Conn is one end of a connection. Send and Recv may be called at the same time; Recv by one goroutine only.
type Conn struct {
	conn *net.UnixConn
	send sync.Mutex
	oob  []byte
}

func newConn(c *net.UnixConn) *Conn {
	return &Conn{conn: c, oob: make([]byte, unix.CmsgSpace(MaxFiles*4))}
}

// Dial connects to the socket at path, which may be longer than a socket address can hold (108 bytes).
func Dial(ctx context.Context, path string) (*Conn, error) {
	short, done, err := shorten(path)
	if errors.Is(err, os.ErrNotExist) { // a directory that is not there has no listener
		return nil, fmt.Errorf("socket %s: nobody answers: %w: %w", path, err, errdefs.ErrUnavailable)
	}
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	defer done()
	c, err := (&net.Dialer{}).DialContext(ctx, network, short)
	if err != nil {
		return nil, fmt.Errorf("socket %s: nobody answers: %w: %w", path, err, errdefs.ErrUnavailable)
	}
	return newConn(c.(*net.UnixConn)), nil
}

// FromFile makes a connection of a connected SOCK_SEQPACKET socket; the file is closed.
func FromFile(f *os.File) (*Conn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("descriptor is a %s, not a unix socket: %w", c.LocalAddr().Network(), errdefs.ErrInvalidArgument)
	}
	return newConn(u), nil
}

// Pair makes two connected ends.
func Pair() (*Conn, *Conn, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	a, err := FromFile(os.NewFile(uintptr(fds[0]), "pair"))
	if err != nil {
		unix.Close(fds[1])
		return nil, nil, err
	}
	b, err := FromFile(os.NewFile(uintptr(fds[1]), "pair"))
	if err != nil {
		a.Close()
		return nil, nil, err
	}
	return a, b, nil
}

// Send sends one packet, and waits until the other side has room for it, at most until the deadline (zero: for ever).
// The files stay open and the caller's.
func (c *Conn) Send(data []byte, files []*os.File, deadline time.Time) error {
	if len(files) > MaxFiles {
		return fmt.Errorf("packet with %d descriptors: at most %d fit: %w", len(files), MaxFiles, errdefs.ErrInvalidArgument)
	}
	return withFDs(files, nil, func(fds []int) error {
		var oob []byte
		if len(fds) > 0 {
			oob = unix.UnixRights(fds...)
		}
		c.send.Lock()
		defer c.send.Unlock()
		if err := c.conn.SetWriteDeadline(deadline); err != nil {
			return err
		}
		_, _, err := c.conn.WriteMsgUnix(data, oob, nil)
		return err
	})
}

// withFDs calls use with the descriptors of files, which cannot be closed meanwhile. (File.Fd would make them blocking.)
func withFDs(files []*os.File, fds []int, use func([]int) error) error {
	if len(files) == 0 {
		return use(fds)
	}
	raw, err := files[0].SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = withFDs(files[1:], append(fds, int(fd)), use) })
	return errors.Join(err, inner)
}

// Recv receives one packet into buf. A packet that does not fit is an error (ErrDataLoss), its descriptors are closed.
// At the end of the connection it returns io.EOF.
func (c *Conn) Recv(buf []byte) (int, []*os.File, error) {
	n, oobn, flags, _, err := c.conn.ReadMsgUnix(buf, c.oob)
	if err != nil {
		return 0, nil, err
	}
	files, err := received(c.oob[:oobn])
	if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = fmt.Errorf("packet is larger than %d bytes or %d descriptors: %w", len(buf), MaxFiles, errdefs.ErrDataLoss)
	}
	if err != nil {
		CloseAll(files)
		return 0, nil, err
	}
	return n, files, nil
}

// received makes files of the descriptors in a control message. Go's ReadMsgUnix asks for MSG_CMSG_CLOEXEC.
func received(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, os.NewSyscallError("recvmsg", err)
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // other control messages carry no descriptor
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

// Peer is the process at the other end, as it was when it connected (SO_PEERCRED).
type Peer struct{ PID, UID, GID int }

// Peer tells who is at the other end.
func (c *Conn) Peer() (Peer, error) {
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var cred *unix.Ucred
	var inner error
	err = raw.Control(func(fd uintptr) { cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, os.NewSyscallError("getsockopt", inner)); err != nil {
		return Peer{}, err
	}
	return Peer{PID: int(cred.Pid), UID: int(cred.Uid), GID: int(cred.Gid)}, nil
}

// SetReadDeadline bounds the Recv that waits, and those to come.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// File returns a duplicate of the socket.
func (c *Conn) File() (*os.File, error) { return c.conn.File() }

// Close ends the connection; a waiting Recv returns net.ErrClosed.
func (c *Conn) Close() error { return c.conn.Close() }

// Listener accepts connections.
type Listener struct{ l *net.UnixListener }

// Listen makes a socket at path with the given permissions, in place of one that is there.
func Listen(path string, perm os.FileMode) (*Listener, error) {
	short, done, err := shorten(path)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	defer done()
	if err := os.Remove(short); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix(network, &net.UnixAddr{Net: network, Name: short})
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(short, perm); err != nil {
		l.Close()
		return nil, err
	}
	return &Listener{l}, nil
}

// ListenerFromFile makes a listener of a listening socket; the file is closed.
func ListenerFromFile(f *os.File) (*Listener, error) {
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("descriptor is not a listening unix socket: %w", errdefs.ErrInvalidArgument)
	}
	u.SetUnlinkOnClose(false)
	return &Listener{u}, nil
}

// Accept waits for a connection.
func (l *Listener) Accept() (*Conn, error) {
	c, err := l.l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	return newConn(c), nil
}

// SetDeadline bounds Accept.
func (l *Listener) SetDeadline(t time.Time) error { return l.l.SetDeadline(t) }

// File returns a duplicate of the socket.
func (l *Listener) File() (*os.File, error) { return l.l.File() }

// Close stops listening; the socket's file stays.
func (l *Listener) Close() error { return l.l.Close() }

// CloseAll closes files; nil ones are passed over.
func CloseAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

// shorten gives a name for path that fits a socket address (sun_path, 108 bytes), through a descriptor of its directory.
func shorten(path string) (string, func(), error) {
	if len(path) < len(syscall.RawSockaddrUnix{}.Path) {
		return path, func() {}, nil
	}
	fd, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, os.NewSyscallError("open", err)
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", fd, filepath.Base(path)), func() { unix.Close(fd) }, nil
}

// Duplicate duplicates a descriptor without making it blocking, as File.Fd would.
func Duplicate(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var inner error
	err = raw.Control(func(old uintptr) { fd, inner = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 3) })
	if err := errors.Join(err, inner); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

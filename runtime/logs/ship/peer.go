package ship

import (
	"errors"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// closedByPeer says whether the other side of a stream has closed it, without reading anything. A write would be taken by
// the kernel all the same, and be lost.
func closedByPeer(conn net.Conn) error {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return nil // TLS: an error comes with a later write
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var end error
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case n == 0 && err == nil:
			end = io.EOF
		case err != nil && !errors.Is(err, unix.EAGAIN):
			end = err
		}
	})
	return errors.Join(err, end)
}

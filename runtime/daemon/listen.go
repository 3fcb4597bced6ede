package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"github.com/coreos/go-systemd/v22/activation"
)

// socketGroup may use the socket, where a group of this name exists.
const socketGroup = "minid"

// listen opens the daemon's socket, or takes the one that systemd has opened for it (see sd_listen_fds(3)). Whoever can
// connect is root in effect: the mode is 0660.
func listen(address string) (net.Listener, error) {
	inherited, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("take the sockets that systemd passed: %w", err)
	}
	for _, l := range inherited {
		if _, ok := l.(*net.UnixListener); ok {
			return l, nil
		}
	}
	l, err := listenUnix(address, 0o660)
	if err != nil {
		return nil, err
	}
	if g, err := user.LookupGroup(socketGroup); err == nil {
		gid, err := strconv.Atoi(g.Gid)
		if err == nil {
			err = os.Chown(address, -1, gid)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("give %s to the group %s: %w", address, socketGroup, err), l.Close())
		}
	}
	return l, nil
}

// listenUnix binds a socket in the place of one that a dead daemon has left. The caller's lock says that it is dead;
// a socket outside of the locked directories is tried before it is taken away.
func listenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return nil, fmt.Errorf("make the directory of the socket: %w", err)
	}
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s is there, and not a socket: remove it, or choose another address", path)
	case err == nil:
		if conn, err := net.Dial("unix", path); err == nil {
			conn.Close()
			return nil, fmt.Errorf("somebody already listens at %s: choose another address, or stop the other", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// listenLocal opens a listener for metrics: at a Unix socket's path, or a loopback address.
func listenLocal(address string) (net.Listener, error) {
	if filepath.IsAbs(address) {
		return listenUnix(address, 0o600)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", address, err)
	}
	return l, nil
}

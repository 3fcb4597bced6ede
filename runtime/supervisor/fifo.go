package supervisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

// childIO is what a process gets as its standard streams: three files, or the socket over which libcontainer's init
// sends the terminal's master. Nil streams are /dev/null.
type childIO struct {
	stdin, stdout, stderr *os.File
	console               *os.File
}

func (c *childIO) close() {
	for _, f := range []*os.File{c.stdin, c.stdout, c.stderr, c.console} {
		if f != nil {
			f.Close()
		}
	}
}

// keptIO is the supervisor's side: named as in wire.StartResult.FDs.
type keptIO struct {
	stdin, stdout, stderr, pty *os.File
}

func (k *keptIO) close() {
	for _, f := range []*os.File{k.stdin, k.stdout, k.stderr, k.pty} {
		if f != nil {
			f.Close()
		}
	}
}

// makePipes makes the named pipes of a process and opens both sides. The container's ends of stdout and stderr are open
// for reading and writing: a pipe with no reader left kills its writer (SIGPIPE), and here one always is, the container
// itself. The supervisor's end sees the end of the stream all the same, because it only reads.
func makePipes(dir string, stdio wire.Stdio, uid, gid int) (child childIO, kept keptIO, err error) {
	defer func() {
		if err != nil {
			child.close()
			kept.close()
			child, kept = childIO{}, keptIO{}
		}
	}()
	if stdio.Stdin {
		if child.stdin, kept.stdin, err = stdinPipe(filepath.Join(dir, "stdin"), uid, gid); err != nil {
			return
		}
	}
	if child.stdout, kept.stdout, err = outputPipe(filepath.Join(dir, "stdout"), uid, gid); err != nil {
		return
	}
	child.stderr, kept.stderr, err = outputPipe(filepath.Join(dir, "stderr"), uid, gid)
	return
}

func mkfifo(path string, uid, gid int) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return &os.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	if uid == 0 && gid == 0 {
		return nil
	}
	return os.Chown(path, uid, gid)
}

func outputPipe(path string, uid, gid int) (writer, reader *os.File, err error) {
	if err := mkfifo(path, uid, gid); err != nil {
		return nil, nil, err
	}
	reader, err = openPollable(path, unix.O_RDONLY)
	if err != nil {
		return nil, nil, err
	}
	writer, err = openBlocking(path, unix.O_RDWR)
	if err != nil {
		reader.Close()
		return nil, nil, err
	}
	return writer, reader, nil
}

func stdinPipe(path string, uid, gid int) (reader, writer *os.File, err error) {
	if err := mkfifo(path, uid, gid); err != nil {
		return nil, nil, err
	}
	// A reader that does not wait for a writer, made blocking afterwards: the container's reads shall wait.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	reader = os.NewFile(uintptr(fd), path)
	writer, err = openPollable(path, unix.O_WRONLY)
	if err != nil {
		reader.Close()
		return nil, nil, err
	}
	return reader, writer, nil
}

// openPollable opens a file that goroutines wait for without a thread.
func openPollable(path string, flags int) (*os.File, error) {
	fd, err := unix.Open(path, flags|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// openBlocking opens a file for a container; os.OpenFile would make a pipe non-blocking for it too.
func openBlocking(path string, flags int) (*os.File, error) {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// reopenPipes opens the supervisor's ends of pipes that another supervisor made: their bytes are still in them as long
// as the container has its ends.
func reopenPipes(dir string, stdio wire.Stdio) (keptIO, error) {
	var kept keptIO
	var errs [3]error
	if stdio.Terminal {
		return kept, nil // a terminal has no name: its master is gone, unless the daemon held it
	}
	if stdio.Stdin {
		// ENXIO: the container has closed its end.
		if kept.stdin, errs[0] = openPollable(filepath.Join(dir, "stdin"), unix.O_WRONLY); errors.Is(errs[0], unix.ENXIO) {
			errs[0] = nil
		}
	}
	kept.stdout, errs[1] = openPollable(filepath.Join(dir, "stdout"), unix.O_RDONLY)
	kept.stderr, errs[2] = openPollable(filepath.Join(dir, "stderr"), unix.O_RDONLY)
	return kept, errors.Join(errs[:]...)
}

// consolePair makes the socket over which the terminal's master comes.
func consolePair() (parent, child *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "console"), os.NewFile(uintptr(fds[1]), "console"), nil
}

// receiveMaster takes the terminal's master that libcontainer's init has sent.
func receiveMaster(socket *os.File) (*os.File, error) {
	buf, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, oobn, _, _, err := unix.Recvmsg(int(socket.Fd()), buf, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("terminal of the container: nothing came over its socket: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("terminal of the container: no descriptor came over its socket: %w", errors.Join(err))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("terminal of the container: %d descriptors came over its socket: %w", len(fds), errors.Join(err))
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fds[0]), "pty"), nil
}

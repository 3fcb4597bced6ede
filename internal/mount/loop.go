package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// looped makes the filesystem in the file that is the source, by a loop device that ends with its last mount. A file that
// is mounted already is so by the same device: two devices of one file would not know of each other's writes.
func looped(p parsed) (int, error) {
	device, shared, err := attachLoop(p.Source)
	if err != nil {
		return -1, fmt.Errorf("loop device of %s: %w", p.Source, err)
	}
	defer device.Close() // the filesystem holds it
	on := p
	on.Source = device.Name()
	if shared {
		// The filesystem is there. The kernel refuses it (EBUSY) when it is asked for in another mode; the mount has its own.
		on.superblock, on.data = nil, nil
	}
	fd, err := filesystem(on, on.data, nil)
	if shared && errors.Is(err, unix.EBUSY) {
		on.superblock = []string{"ro"}
		fd, err = filesystem(on, on.data, nil)
	}
	if err != nil || len(p.uid) == 0 {
		return fd, err
	}
	if err := setattr(fd, parsed{Mount: p.Mount, loop: true, uid: p.uid, gid: p.gid}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// loopTries is how often another free device is looked for when somebody was faster.
const loopTries = 64

// Loop opens the loop device of a file, making one if there is none. It is freed when nobody has it open any more.
// Errors: ErrNotFound, ErrNotImplemented without loop devices, ErrUnavailable when others are faster again and again.
func Loop(path string) (*os.File, error) {
	device, _, err := attachLoop(path)
	return device, err
}

// attachLoop opens the loop device of a file, or makes one (LOOP_CONFIGURE, Linux 5.8) that is freed at its last close.
func attachLoop(path string) (device *os.File, shared bool, err error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, false, class(err)
	}
	defer file.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		return nil, false, err
	}
	if device := loopOf(path, &stat); device != nil {
		return device, true, nil
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", err, errdefs.ErrNotImplemented)
	}
	defer control.Close()
	for range loopTries {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, false, err
		}
		device, err := os.OpenFile("/dev/loop"+strconv.Itoa(n), os.O_RDWR, 0)
		if err != nil {
			return nil, false, err
		}
		config := unix.LoopConfig{Fd: uint32(file.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		copy(config.Info.File_name[:len(config.Info.File_name)-1], path)
		if err = unix.IoctlLoopConfigure(int(device.Fd()), &config); err == nil {
			return device, false, nil
		}
		device.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, false, err
		}
	}
	return nil, false, fmt.Errorf("others took every free one, %d times: %w", loopTries, errdefs.ErrUnavailable)
}

// loopOf finds the device that a file has; nil: none.
func loopOf(path string, stat *unix.Stat_t) *os.File {
	known, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil
	}
	for _, name := range known {
		text, err := os.ReadFile(name)
		if err != nil || filepath.Base(strings.TrimSuffix(string(text), "\n")) != filepath.Base(path) {
			continue
		}
		device, err := os.OpenFile("/dev/"+filepath.Base(filepath.Dir(filepath.Dir(name))), os.O_RDWR, 0)
		if err != nil {
			continue
		}
		// While it is open it stays what it is.
		info, err := unix.IoctlLoopGetStatus64(int(device.Fd()))
		if err == nil && info.Device == stat.Dev && info.Inode == stat.Ino {
			return device
		}
		device.Close()
	}
	return nil
}

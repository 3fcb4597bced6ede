package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// criuLabel is the annotation by which libcontainer finds a configuration file of criu for one container.
const criuLabel = "org.criu.config"

// streamsFile has, in the directory of a checkpoint, what the standard streams of its first process were.
const streamsFile = "streams.json"

// criuConfig is the file by which criu is told of the streams. Named pipes in the bundle are none of the files that a
// container sees, so that criu would not know where they are: at a checkpoint they are external, and at a restore what the
// new process has for them.
func (n *native) criuConfig() string { return filepath.Join(n.start.Dir, "criu.conf") }

// leaveStreams tells criu which of the first process's streams are not to be looked for, and notes them for the restore.
func (n *native) leaveStreams(pid int, images string) error {
	var lines []string
	keys := make([]string, 3)
	for fd := range keys {
		key, err := externalKey(pid, fd)
		if err != nil {
			return fmt.Errorf("its standard streams: %w", err)
		}
		if keys[fd] = key; key != "" {
			lines = append(lines, "external "+key)
		}
	}
	data, err := json.Marshal(keys)
	if err == nil {
		err = os.MkdirAll(images, 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(images, streamsFile), data, 0o600)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(n.criuConfig(), configuration(lines), 0o600)
}

// takeStreams tells criu which descriptors take the place of the streams of the checkpoint; done is called when it has
// ended. A checkpoint that others have made has no note of them: its streams are pipes, which libcontainer knows of.
func (n *native) takeStreams(images string) (done func(), err error) {
	var keys []string
	if err := loadJSON(filepath.Join(images, streamsFile), &keys); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return readOnce(n.criuConfig(), configuration(inheritLines(keys)))
}

// readOnce makes a file that has its content for the first who reads it, and is empty from then on. criu reads its
// configuration twice (cr-service.c, setup_opts_from_req), and would look for each descriptor again after it has used it up.
func readOnce(name string, content []byte) (done func(), err error) {
	empty := name + ".read"
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := unix.Mkfifo(name, 0o600); err != nil {
		return nil, &os.PathError{Op: "mkfifo", Path: name, Err: err}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w, err := os.OpenFile(name, os.O_WRONLY, 0) // waits for a reader
		if err != nil {
			return
		}
		defer w.Close()
		_, _ = w.Write(content)    // a reader that goes has failed by itself
		_ = os.Rename(empty, name) // before the reader sees the end
	}()
	return func() {
		if r, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0); err == nil { // nobody has read it, perhaps
			defer r.Close()
		}
		<-ended
	}, nil
}

// inheritLines are the lines of criu's configuration for streams with these keys.
func inheritLines(keys []string) []string {
	var lines []string
	for fd, key := range keys[:min(len(keys), 3)] {
		if key != "" && !strings.ContainsAny(key, "\n ") {
			lines = append(lines, fmt.Sprintf("inherit-fd fd[%d]:%s", fd, key))
		}
	}
	return lines
}

func configuration(lines []string) []byte { return []byte(strings.Join(lines, "\n") + "\n") }

// externalKey is criu's name for a descriptor of a process that is a named pipe (criu(8), --external file); empty for any
// other.
func externalKey(pid, fd int) (string, error) {
	name := fmt.Sprintf("/proc/%d/fd/%d", pid, fd)
	target, err := os.Readlink(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // it has closed it
	}
	if err != nil {
		return "", err
	}
	var stat unix.Stat_t
	if err := unix.Stat(name, &stat); err != nil {
		return "", &os.PathError{Op: "stat", Path: name, Err: err}
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFIFO || strings.HasPrefix(target, "pipe:") {
		return "", nil
	}
	info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd))
	if err != nil {
		return "", err
	}
	var mount int
	for line := range strings.Lines(string(info)) {
		if value, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			if _, err := fmt.Sscan(value, &mount); err != nil {
				return "", fmt.Errorf("%s: mnt_id: %w", name, err)
			}
		}
	}
	return fmt.Sprintf("file[%x:%x]", mount, stat.Ino), nil
}

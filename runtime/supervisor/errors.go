package supervisor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

// plain strips libcontainer's wrappings from a message, so that the one cause is left: "unable to start container
// process: error during container init: exec: …" is told as "exec: …".
func plain(err error) error {
	if err == nil {
		return nil
	}
	if text := stripped(err.Error()); text != err.Error() {
		return errors.New(text)
	}
	return err
}

func stripped(text string) string {
	for again := true; again; {
		again = false
		for _, prefix := range []string{
			"unable to start container process: ", "error during container init: ", "unable to create new parent process: ",
			"error executing setns process: ", "error starting setns process: ", "unable to start init: ",
			"runc create failed: ", "exec failed: ", "unable to destroy container: ", "error setting cgroup config for procHooks process: ", "failed to fulfil mount request: ",
		} {
			if rest, ok := strings.CutPrefix(text, prefix); ok {
				text, again = rest, true
			}
		}
	}
	return strings.ReplaceAll(text, "failed to ", "cannot ")
}

// startError tells why a program did not start. Its class is the exit code that clients give: not found 127,
// invalid or not permitted 126.
func startError(args []string, cwd string, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	text := stripped(err.Error())
	program := ""
	if len(args) > 0 {
		program = args[0]
	}
	about := strings.HasPrefix(text, "exec: ") || strings.HasPrefix(text, "exec "+program) || strings.HasPrefix(text, "stat ")
	switch {
	case strings.Contains(text, "executable file not found in $PATH"):
		return fmt.Errorf("exec %q: not found in the container's PATH: check the command: %w", program, errdefs.ErrNotFound)
	case about && strings.Contains(text, "no such file or directory"):
		return fmt.Errorf("exec %q: no such file in the container: check the command: %w", program, errdefs.ErrNotFound)
	case about && strings.Contains(text, "permission denied"):
		return fmt.Errorf("exec %q: not an executable file for this user: check its mode and mount: %w", program, errdefs.ErrPermissionDenied)
	case about && strings.Contains(text, "is a directory"):
		return fmt.Errorf("exec %q: is a directory: name a program: %w", program, errdefs.ErrPermissionDenied)
	case strings.HasPrefix(text, "chdir to cwd"):
		return fmt.Errorf("working directory %q: %s: check it: %w", cwd, lastCause(text), errdefs.ErrInvalidArgument)
	case strings.HasPrefix(text, "error preparing rootfs: remount-propagation dst=") && strings.HasSuffix(text, "permission denied"):
		rootfs, _, _ := strings.Cut(text[strings.Index(text, "dst=")+len("dst="):], ",")
		return fmt.Errorf("root filesystem %s: the user that the container's root is mapped to cannot reach it: "+
			"give each directory above it mode o+x: %w", rootfs, errdefs.ErrPermissionDenied)
	}
	if rest, ok := strings.CutPrefix(text, `error mounting "`); ok {
		source, rest, _ := strings.Cut(rest, `" to rootfs at "`)
		target, _, _ := strings.Cut(rest, `"`)
		return fmt.Errorf("mount %s at %s: %s: %w", source, target, mountCause(text), errdefs.ErrInvalidArgument)
	}
	return fmt.Errorf("%s: %w", text, errdefs.ErrInvalidArgument)
}

// mountCause tells what the kernel means by some of its words when it mounts.
func mountCause(text string) string {
	switch cause := lastCause(text); cause {
	case "no such device":
		return cause + ": is the type of the filesystem known to this kernel?"
	case "invalid argument":
		return cause + ": are the options known to the filesystem?"
	default:
		return cause
	}
}

// lastCause is what stands behind the last colon: the kernel's word.
func lastCause(text string) string {
	if i := strings.LastIndex(text, ": "); i >= 0 {
		return text[i+2:]
	}
	return text
}

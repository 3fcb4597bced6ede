package devmapper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// mapper is dmsetup(8).
type mapper struct{ env []string }

// newMapper makes device nodes by itself where nobody else does: without udev.
func newMapper() mapper {
	m := mapper{env: append(os.Environ(), "LC_ALL=C")}
	if _, err := os.Stat("/run/udev/control"); err != nil {
		m.env = append(m.env, "DM_DISABLE_UDEV=1")
	}
	return m
}

// run runs a command of dmsetup. Errors: ErrNotFound for a device or volume that is not there, ErrAlreadyExists,
// ErrUnavailable for one that is in use, ErrNotImplemented without dmsetup or the kernel's part.
func (m mapper) run(ctx context.Context, args ...string) error {
	_, err := m.ask(ctx, args...)
	return err
}

func (m mapper) ask(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "dmsetup", args...)
	cmd.Env = m.env
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("dmsetup is not installed: install the package dmsetup: %w", errdefs.ErrNotImplemented)
	}
	if err != nil {
		text := strings.TrimSpace(said.String())
		return "", fmt.Errorf("dmsetup %s: %w: %s: %w", strings.Join(args, " "), err, text, classOf(text))
	}
	return string(out), nil
}

// classOf reads what dmsetup says of the kernel's answer.
func classOf(said string) error {
	for _, c := range []struct {
		words string
		class error
	}{
		{"No such device or address", errdefs.ErrNotFound}, // ENXIO: no device of that name
		{"does not exist", errdefs.ErrNotFound},
		{"No data available", errdefs.ErrNotFound}, // ENODATA: the pool has no volume of that number
		{"File exists", errdefs.ErrAlreadyExists},
		{"Device or resource busy", errdefs.ErrUnavailable},
		{"No space left on device", errdefs.ErrResourceExhausted},
		{"kernel device-mapper driver", errdefs.ErrNotImplemented},
	} {
		if strings.Contains(said, c.words) {
			return c.class
		}
	}
	return errdefs.ErrInternal
}

// status is what a device is.
type status struct {
	target string   // thin, thin-pool, …
	rest   []string // as the target has it
}

// status asks for a device's state. ErrNotFound without such a device.
func (m mapper) status(ctx context.Context, name string) (status, error) {
	out, err := m.ask(ctx, "status", name)
	if err != nil {
		return status{}, err
	}
	return parseStatus(name, out)
}

// parseStatus reads "START LENGTH TARGET …".
func parseStatus(name, text string) (status, error) {
	fields := strings.Fields(text)
	if len(fields) < 3 {
		return status{}, fmt.Errorf("status of %s: %.80q: %w", name, text, errdefs.ErrInternal)
	}
	return status{fields[2], fields[3:]}, nil
}

// mapped is how many sectors a thin volume has been given ("MAPPED HIGHEST").
func (s status) mapped() (int64, error) {
	if s.target != "thin" || len(s.rest) == 0 {
		return 0, fmt.Errorf("a device of target %q is no thin volume: %w", s.target, errdefs.ErrInternal)
	}
	n, err := strconv.ParseInt(s.rest[0], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("state of a thin volume: %q: %w", strings.Join(s.rest, " "), errdefs.ErrInternal)
	}
	return n, nil
}

// Package dmsetup drives the kernel's device mapper by dmsetup(8).
package dmsetup

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

// Mapper runs dmsetup(8). The zero value is not usable.
type Mapper struct{ env []string }

// New is a Mapper that makes device nodes by itself where nobody else does: without udev.
func New() Mapper {
	m := Mapper{env: append(os.Environ(), "LC_ALL=C")}
	if _, err := os.Stat("/run/udev/control"); err != nil {
		m.env = append(m.env, "DM_DISABLE_UDEV=1")
	}
	return m
}

// Run runs a command of dmsetup. Errors: ErrNotFound for a device or volume that is not there, ErrAlreadyExists,
// ErrUnavailable for one that is in use, ErrNotImplemented without dmsetup or the kernel's part.
func (m Mapper) Run(ctx context.Context, args ...string) error {
	_, err := m.ask(ctx, args...)
	return err
}

func (m Mapper) ask(ctx context.Context, args ...string) (string, error) {
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

// Remove takes a device away, if it is there. One that somebody still has goes with the last user.
func (m Mapper) Remove(ctx context.Context, name string) error {
	err := m.Run(ctx, "remove", "--deferred", name)
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
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

// Status is what a device is.
type Status struct {
	Target string   // thin, thin-pool, …
	Rest   []string // as the target has it
}

// Status asks for a device's state. ErrNotFound without such a device.
func (m Mapper) Status(ctx context.Context, name string) (Status, error) {
	out, err := m.ask(ctx, "status", name)
	if err != nil {
		return Status{}, err
	}
	return parseStatus(name, out)
}

// parseStatus reads "START LENGTH TARGET …".
func parseStatus(name, text string) (Status, error) {
	fields := strings.Fields(text)
	if len(fields) < 3 {
		return Status{}, fmt.Errorf("status of %s: %.80q: %w", name, text, errdefs.ErrInternal)
	}
	return Status{fields[2], fields[3:]}, nil
}

// Mapped is how many sectors a thin volume has been given ("MAPPED HIGHEST").
func (s Status) Mapped() (int64, error) {
	if s.Target != "thin" || len(s.Rest) == 0 {
		return 0, fmt.Errorf("a device of target %q is no thin volume: %w", s.Target, errdefs.ErrInternal)
	}
	n, err := strconv.ParseInt(s.Rest[0], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("state of a thin volume: %q: %w", strings.Join(s.Rest, " "), errdefs.ErrInternal)
	}
	return n, nil
}

// Package volume keeps the files of volumes: a directory for each, below the daemon's root directory, and what is mounted
// on it where the volume's options name something else. Each of its operations may be repeated after a crash.
//
// Who owns a volume, who uses it and when it goes is the engine's to know; it gives the record to every call, holds the
// volume's lock meanwhile, and nothing here remembers one.
package volume

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// DriverLocal is the one driver there is.
const DriverLocal = "local"

// Record is a volume.
type Record struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace"`
	Driver    string            `json:"driver"`
	Labels    map[string]string `json:"labels,omitempty"`
	Options   map[string]string `json:"options,omitempty"` // as docker's local driver has them: type, device, o
	// MadeFor is the id of the container that an anonymous volume was made for; empty: somebody has named it.
	MadeFor   string    `json:"madeFor,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
	State     State     `json:"state"`
}

// Anonymous says whether nobody has named the volume.
func (r Record) Anonymous() bool { return r.MadeFor != "" }

// State is where a volume is in its life.
type State string

// The states of a volume. A new one is ready at once: its directory is made by whoever finds that there is none. One that
// is found removing after a restart is removed.
const (
	Ready    State = "ready"
	Removing State = "removing"
)

var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// maxName in bytes is what filesystems take of a file's name.
const maxName = 255

// CheckName tells what is wrong with a volume's name, by docker's rules: ErrInvalidArgument.
func CheckName(name string) error {
	switch {
	case len(name) < 2:
		return fmt.Errorf("volume name %q is too short, names should be at least two alphanumeric characters: %w", name, errdefs.ErrInvalidArgument)
	case len(name) > maxName:
		return fmt.Errorf("volume name %.40q… has %d bytes, at most %d: %w", name, len(name), maxName, errdefs.ErrInvalidArgument)
	case !validName.MatchString(name):
		return fmt.Errorf("%q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed; "+
			"if you intended to pass a host directory, use an absolute path: %w", name, errdefs.ErrInvalidArgument)
	}
	return nil
}

// CheckDriver refuses drivers that there are not: ErrNotFound.
func CheckDriver(driver string) error {
	if driver == "" || driver == DriverLocal {
		return nil
	}
	return fmt.Errorf("error looking up volume plugin %s: plugin %q not found: there is the driver %s only: %w", driver, driver, DriverLocal, errdefs.ErrNotFound)
}

// CheckOptions refuses options that the local driver does not have, or that lack another: ErrInvalidArgument; and a size,
// which would need the quotas of a filesystem: ErrNotImplemented.
func CheckOptions(options map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(options)) {
		switch key {
		case "type", "device", "o":
		case "size":
			return fmt.Errorf("volume option size=%s: quota size requested but no quota support; bound a tmpfs with type=tmpfs,device=tmpfs,o=size=…: %w",
				options[key], errdefs.ErrNotImplemented)
		default:
			return fmt.Errorf("invalid option: %q: use type, device and o: %w", key, errdefs.ErrInvalidArgument)
		}
	}
	if len(options) == 0 {
		return nil
	}
	for _, key := range []string{"device", "type"} {
		if options[key] == "" {
			return fmt.Errorf("missing required option: %q: %w", key, errdefs.ErrInvalidArgument)
		}
	}
	if strings.ContainsRune(options["device"]+options["type"]+options["o"], 0) {
		return fmt.Errorf("a volume option has a NUL byte: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

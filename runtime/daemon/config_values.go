package daemon

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
)

// Duration is written as "1h30m"; a bare number has no unit and is refused.
type Duration time.Duration

// UnmarshalText reads Go's notation of durations.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration: write e.g. \"10m\" or \"1h30m\": %w", text, errdefs.ErrInvalidArgument)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes it so that UnmarshalText reads it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Size is a number of bytes, written as such or with a unit.
type Size int64

// UnmarshalText reads a number with a unit of 1024 (KiB, K, …) or of 1000 (KB, …).
func (s *Size) UnmarshalText(text []byte) error {
	digits := strings.TrimRight(string(text), "KMGTiBkmgtb ")
	unit, known := sizeUnit(strings.TrimSpace(string(text[len(digits):])))
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || !known || n < 0 || n > (1<<62)/unit {
		return fmt.Errorf("%q is not a size: write bytes, or e.g. \"16MiB\": %w", text, errdefs.ErrInvalidArgument)
	}
	*s = Size(n * unit)
	return nil
}

func sizeUnit(name string) (int64, bool) {
	name = strings.ToLower(name)
	if name == "" || name == "b" {
		return 1, true
	}
	power := strings.IndexByte("kmgt", name[0]) + 1
	base := int64(1024)
	switch name[1:] {
	case "", "ib":
	case "b":
		base = 1000
	default:
		return 0, false
	}
	unit := int64(1)
	for range power {
		unit *= base
	}
	return unit, power > 0
}

// MarshalText writes whole units of 1024, so that UnmarshalText reads the same number.
func (s Size) MarshalText() ([]byte, error) {
	units := []string{"", "KiB", "MiB", "GiB", "TiB"}
	n, i := int64(s), 0
	for n > 0 && n%1024 == 0 && i < len(units)-1 {
		n, i = n/1024, i+1
	}
	return []byte(strconv.FormatInt(n, 10) + units[i]), nil
}

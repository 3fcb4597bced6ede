package tuning

import (
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/oci/spec"
)

// kind says how the value of a file is made of what its users want.
type kind string

const (
	set     kind = "set"     // what the last one wants
	without kind = "without" // the mask of the original, without all of their processors
	with    kind = "with"    // the list of the original, with all of their processors
	banned  kind = "banned"  // the line IRQBALANCE_BANNED_CPUS of a file of shell variables, with all of their processors
)

// bannedKey is the variable by which irqbalance(1) is told of processors that get no interrupts.
const bannedKey = "IRQBALANCE_BANNED_CPUS"

// value is what a file is to have.
func (f *file) value() (string, error) {
	if len(f.Order) == 0 {
		return f.Original, nil
	}
	if f.Kind == set {
		return f.Users[f.Order[len(f.Order)-1]], nil
	}
	var cpus []int
	for _, id := range f.Order {
		list, err := spec.ParseList(f.Users[id])
		if err != nil {
			return "", err
		}
		cpus = append(cpus, list...)
	}
	switch f.Kind {
	case without:
		mask, digits, err := parseMask(f.Original)
		if err != nil {
			return "", err
		}
		for _, n := range cpus {
			mask.SetBit(mask, n, 0)
		}
		return formatMask(mask, digits), nil
	case with:
		list, err := spec.ParseList(f.Original)
		if err != nil {
			return "", err
		}
		list = append(list, cpus...)
		slices.Sort(list)
		return spec.FormatList(slices.Compact(list)), nil
	case banned:
		return ban(f.Original, cpus)
	}
	return "", fmt.Errorf("a change of the kind %q, which a newer version has made: %w", f.Kind, errdefs.ErrFailedPrecondition)
}

// parseMask reads a mask of processors as bitmap_parse of the kernel does: groups of eight hexadecimal digits, with commas
// between them.
func parseMask(text string) (mask *big.Int, digits int, err error) {
	plain := strings.ReplaceAll(strings.TrimSpace(text), ",", "")
	mask, ok := new(big.Int).SetString(plain, 16)
	if !ok || mask.Sign() < 0 || len(plain) > 8192/4 {
		return nil, 0, fmt.Errorf("%.64q is no mask of processors: %w", text, errdefs.ErrInvalidArgument)
	}
	return mask, len(plain), nil
}

// formatMask writes a mask with at least so many digits.
func formatMask(mask *big.Int, digits int) string {
	text := mask.Text(16)
	text = strings.Repeat("0", max(0, digits-len(text))) + text
	var groups []string
	for len(text) > 8 {
		groups = append([]string{text[len(text)-8:]}, groups...)
		text = text[:len(text)-8]
	}
	return strings.Join(append([]string{text}, groups...), ",")
}

// ban sets the variable in a file of shell variables.
func ban(original string, cpus []int) (string, error) {
	lines, at := strings.Split(strings.TrimSuffix(original, "\n"), "\n"), -1
	mask := new(big.Int)
	for i, line := range lines {
		value, is := strings.CutPrefix(strings.TrimSpace(line), bannedKey+"=")
		if !is {
			continue
		}
		at = i
		if value = strings.Trim(value, `"' `); value != "" {
			var err error
			if mask, _, err = parseMask(value); err != nil {
				return "", err
			}
		}
	}
	for _, n := range cpus {
		mask.SetBit(mask, n, 1)
	}
	line := bannedKey + `="` + formatMask(mask, 1) + `"`
	if at < 0 {
		return strings.Join(append(lines, line), "\n") + "\n", nil
	}
	lines[at] = line
	return strings.Join(lines, "\n") + "\n", nil
}

// latency is what pm_qos_resume_latency_us takes for a wish of sleep states: "n/a" forbids all, "0" allows all
// (Documentation/ABI/testing/sysfs-devices-power).
func latency(wish string) (string, error) {
	limit, bounded := strings.CutPrefix(wish, "max_latency:")
	switch {
	case wish == "" || wish == "enable":
		return "0", nil
	case wish == "disable":
		return "n/a", nil
	case bounded:
		if n, err := strconv.ParseUint(limit, 10, 31); err == nil && n > 0 {
			return limit, nil
		}
	}
	return "", fmt.Errorf("sleep states %.64q: there are enable, disable and max_latency:MICROSECONDS: %w", wish, errdefs.ErrInvalidArgument)
}

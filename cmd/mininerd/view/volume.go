package view

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"

	"github.com/minirt/mini/runtime/api"
)

// Volume is a row of volume ls.
type Volume struct {
	Availability, Driver, Group, Labels, Links, Mountpoint, Name, Scope, Size, Status string
	labelled
}

// The columns of volume ls, without and with -s.
const (
	VolumeColumns     = `{{.Driver}}\t{{.Name}}`
	VolumeSizeColumns = VolumeColumns + `\t{{.Size}}`
)

// notKnown is what docker prints of what it has not asked for.
const notKnown = "N/A"

// VolumeHeader names the columns of volume ls.
func VolumeHeader() Volume {
	return Volume{
		Availability: "AVAILABILITY", Driver: "DRIVER", Group: "GROUP", Labels: "LABELS", Links: "LINKS", Mountpoint: "MOUNTPOINT",
		Name: "VOLUME NAME", Scope: "SCOPE", Size: "SIZE", Status: "STATUS", labelled: labelled{header: true},
	}
}

// VolumeFilterKeys are those of volume ls.
func VolumeFilterKeys() []string { return []string{"dangling", "driver", "label", "name", "size"} }

// VolumePruneKeys are those of volume prune.
func VolumePruneKeys() []string { return []string{"all", "label", "label!"} }

// VolumeFilters are those of volume ls, with comparisons of sizes.
type VolumeFilters struct {
	Filters
	sizes []func(int64) bool
}

// Sized says whether the sizes have to be known.
func (f VolumeFilters) Sized() bool { return len(f.sizes) > 0 }

var sizeFilter = regexp.MustCompile(`^size\s*(>=|<=|=|>|<)\s*(.+)$`)

// ParseVolumeFilters reads --filter of volume ls: KEY=VALUE, and size=, size>, size>=, size<, size<= with a number of bytes,
// or one with a unit.
func ParseVolumeFilters(list []string) (VolumeFilters, error) {
	var f VolumeFilters
	var rest []string
	for _, text := range list {
		m := sizeFilter.FindStringSubmatch(text)
		if m == nil {
			rest = append(rest, text)
			continue
		}
		bound, err := units.RAMInBytes(m[2])
		if err != nil {
			return f, fmt.Errorf("invalid filter '%s': write a size, for example size>=10m: %w", text, errdefs.ErrInvalidArgument)
		}
		f.sizes = append(f.sizes, func(size int64) bool {
			c := cmp.Compare(size, bound)
			return c == 0 && strings.Contains(m[1], "=") || c > 0 && m[1][0] == '>' || c < 0 && m[1][0] == '<'
		})
	}
	var err error
	f.Filters, err = ParseFilters(rest, VolumeFilterKeys()...)
	return f, err
}

// All is whether prune takes volumes with a name too: by its flag, or by docker's filter.
func (f Filters) All(flag bool) (bool, error) {
	value, set, err := f.flag("all")
	return flag || set && value, err
}

// VolumeRows are the volumes that the filters let through, by name.
func VolumeRows(list []*api.Volume, f VolumeFilters) ([]Volume, error) {
	dangling, asked, err := f.flag("dangling")
	if err != nil {
		return nil, err
	}
	var rows []Volume
	for _, v := range byName(list) {
		if !matchVolume(v, f.Filters) || asked && dangling != (len(v.Containers) == 0) ||
			slices.ContainsFunc(f.sizes, func(fits func(int64) bool) bool { return !fits(v.GetUsage().GetSize()) }) {
			continue
		}
		row := Volume{
			Availability: notKnown, Driver: v.Driver, Group: notKnown, Labels: joined(v.Labels), Links: notKnown, Mountpoint: v.Mountpoint,
			Name: v.Name, Scope: "local", Size: notKnown, Status: notKnown, labelled: labelled{labels: v.Labels},
		}
		if v.Usage != nil {
			row.Links, row.Size = strconv.Itoa(len(v.Containers)), units.HumanSizeWithPrecision(float64(v.Usage.Size), 4)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// VolumeNames are the names of the volumes that the filters let through.
func VolumeNames(list []*api.Volume, f Filters) []string {
	var names []string
	for _, v := range byName(list) {
		if matchVolume(v, f) {
			names = append(names, v.Name)
		}
	}
	return names
}

func byName(list []*api.Volume) []*api.Volume {
	return slices.SortedFunc(slices.Values(list), func(a, b *api.Volume) int { return cmp.Compare(a.Name, b.Name) })
}

func matchVolume(v *api.Volume, f Filters) bool {
	return f.labels(v.Labels) && f.any("driver", func(want string) bool { return want == v.Driver }) &&
		f.any("name", func(want string) bool { return matches(want, v.Name) })
}

// VolumeDocument is what volume inspect prints.
type VolumeDocument struct {
	CreatedAt  string
	Driver     string
	Labels     map[string]string
	Mountpoint string
	Name       string
	Options    map[string]string
	Scope      string
	Size       *int64 `json:",omitempty"` // bytes; only when asked for
}

// DocumentOfVolume describes a volume.
func DocumentOfVolume(v *api.Volume) VolumeDocument {
	d := VolumeDocument{
		CreatedAt: time.Unix(0, v.CreatedAt).Local().Format(time.RFC3339), Driver: v.Driver, Labels: v.Labels, Mountpoint: v.Mountpoint,
		Name: v.Name, Options: v.Options, Scope: "local",
	}
	if v.Usage != nil {
		d.Size = &v.Usage.Size
	}
	return d
}

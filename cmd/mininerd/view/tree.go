package view

import (
	"github.com/docker/go-units"

	"github.com/minirt/mini/oci/name"
)

// TreeRow is a row of images --tree: an image, or a platform of the one above it.
type TreeRow struct{ Image, ID, DiskUsage, ContentSize, Extra string }

// TreeColumns are those of images --tree.
const TreeColumns = `{{.Image}}\t{{.ID}}\t{{.DiskUsage}}\t{{.ContentSize}}\t{{.Extra}}`

// TreeHeader names the columns of images --tree.
func TreeHeader() TreeRow { return TreeRow{"IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA"} }

// PlatformPart is what of an image is for one platform.
type PlatformPart struct {
	Platform, Digest string
	Bytes            int64 // as transferred
	Unpacked         int64 // 0: it is not
}

// TreeRows are an image and its platforms. Used says whether containers were made of it.
func TreeRows(i LocalImage, parts []PlatformPart, used bool) []TreeRow {
	size := func(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
	unpacked := int64(0)
	if i.Unpacked {
		unpacked = i.Bytes
	}
	top := TreeRow{Image: i.Name, ID: ShortID(i.Target.GetDigest(), false), DiskUsage: size(i.Size + unpacked), ContentSize: size(i.Size)}
	if ref, err := name.Parse(i.Name); err == nil {
		top.Image = ref.Familiar()
	}
	if used {
		top.Extra = "U"
	}
	rows := []TreeRow{top}
	for n, p := range parts {
		branch := "├─ "
		if n == len(parts)-1 {
			branch = "└─ "
		}
		rows = append(rows, TreeRow{Image: branch + p.Platform, ID: ShortID(p.Digest, false), DiskUsage: size(p.Bytes + p.Unpacked), ContentSize: size(p.Bytes)})
	}
	return rows
}

package view

import (
	"fmt"
	"slices"
	"time"

	"github.com/docker/go-units"

	"github.com/minirt/mini/runtime/api"
)

// Disk is a row of system df.
type Disk struct{ Type, TotalCount, Active, Size, Reclaimable string }

// DiskColumns are those of system df.
const DiskColumns = `{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}`

// Raw is the template of the format "raw".
func (d Disk) Raw() string {
	return "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n"
}

// DiskHeader names the columns of system df.
func DiskHeader() Disk { return Disk{"TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"} }

// DiskImage is an image with its layers, by whatever of its names.
type DiskImage struct {
	LocalImage
	Containers int
}

// DiskVolume is a volume with how many containers use it.
type DiskVolume struct {
	Name  string
	Links int
	Size  int64 // bytes
}

// DiskUsage is what takes the disk.
type DiskUsage struct {
	Images     []DiskImage      // each once, whatever its names
	Containers []*api.Container // got with their sizes
	Volumes    []DiskVolume
}

// layerUse is how many images have each layer.
func (u DiskUsage) layerUse() map[string]int {
	use := map[string]int{}
	for _, i := range u.Images {
		for _, l := range i.Layers {
			use[l.Digest]++
		}
	}
	return use
}

// sharedSize is the part of an image that other images have too.
func sharedSize(i DiskImage, use map[string]int) (shared, whole int64) {
	for _, l := range i.Layers {
		whole += l.Size
		if use[l.Digest] > 1 {
			shared += l.Size
		}
	}
	return shared, whole
}

// Rows are those of system df. What of the images could be freed is all but the parts that only images with containers
// have, as docker counts it.
func (u DiskUsage) Rows() []Disk {
	use := u.layerUse()
	var images, used int64
	active := 0
	counted := map[string]bool{}
	for _, i := range u.Images {
		for _, l := range i.Layers {
			if !counted[l.Digest] {
				counted[l.Digest] = true
				images += l.Size
			}
		}
		if i.Containers > 0 {
			active++
			shared, whole := sharedSize(i, use)
			used += whole - shared
		}
	}
	var written, idle int64
	running := 0
	for _, c := range u.Containers {
		size := c.Size.GetSize()
		written += size
		if c.State == "running" || c.State == "paused" || c.Restarting {
			running++
		} else {
			idle += size
		}
	}
	var volumes, unlinked int64
	linked := 0
	for _, v := range u.Volumes {
		volumes += v.Size
		if v.Links > 0 {
			linked++
		} else {
			unlinked += v.Size
		}
	}
	return []Disk{
		diskRow("Images", len(u.Images), active, images, images-used), diskRow("Containers", len(u.Containers), running, written, idle),
		diskRow("Local Volumes", len(u.Volumes), linked, volumes, unlinked), {"Build Cache", "0", "0", "0B", "0B"},
	}
}

func diskRow(kind string, count, active int, total, free int64) Disk {
	share := ""
	if total > 0 {
		share = fmt.Sprintf(" (%d%%)", free*100/total)
	}
	return Disk{kind, fmt.Sprint(count), fmt.Sprint(active), humanSize(total), humanSize(free) + share}
}

// humanSize is a size as docker's tables have it.
func humanSize(n int64) string { return units.HumanSizeWithPrecision(float64(n), 4) }

// The columns of system df -v.
const (
	DiskImageColumns     = `{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}`
	DiskContainerColumns = `{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}`
	DiskVolumeColumns    = `{{.Name}}\t{{.Links}}\t{{.Size}}`
)

// VolumeUse is a row of the volumes of system df -v.
type VolumeUse struct{ Name, Links, Size string }

// VolumeUseHeader names its columns.
func VolumeUseHeader() VolumeUse { return VolumeUse{"VOLUME NAME", "LINKS", "SIZE"} }

// ImageRows are the images of system df -v.
func (u DiskUsage) ImageRows(whole bool, now time.Time) []Image {
	use := u.layerUse()
	var rows []Image
	for _, i := range u.Images {
		shared, size := sharedSize(i, use)
		r := ImageRow(i.LocalImage, whole, now)
		r.Containers, r.Size, r.VirtualSize = fmt.Sprint(i.Containers), humanSize(size), humanSize(size)
		r.SharedSize, r.UniqueSize = humanSize(shared), humanSize(size-shared)
		rows = append(rows, r)
	}
	return rows
}

// VolumeRows are the volumes of system df -v.
func (u DiskUsage) VolumeRows() []VolumeUse {
	rows := make([]VolumeUse, 0, len(u.Volumes))
	for _, v := range u.Volumes {
		rows = append(rows, VolumeUse{v.Name, fmt.Sprint(v.Links), humanSize(v.Size)})
	}
	slices.SortFunc(rows, func(a, b VolumeUse) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return rows
}

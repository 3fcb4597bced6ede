package view

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/runtime/api"
)

// Image is a row of images.
type Image struct {
	Name, Containers, CreatedAt, CreatedSince, Digest, ID, Repository, SharedSize, Size, Tag, UniqueSize, VirtualSize string
}

// The columns of images, without and with --digests.
const (
	ImageColumns       = `{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}`
	ImageDigestColumns = `{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}`
)

// Raw is the template of the format "raw".
func (i Image) Raw() string {
	return "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n"
}

// ImageHeader names the columns of images.
func ImageHeader() Image {
	return Image{
		Name: "NAME", Containers: "CONTAINERS", CreatedAt: "CREATED AT", CreatedSince: "CREATED", Digest: "DIGEST", ID: "IMAGE ID", Repository: "REPOSITORY",
		SharedSize: "SHARED SIZE", Size: "SIZE", Tag: "TAG", UniqueSize: "UNIQUE SIZE", VirtualSize: "VIRTUAL SIZE",
	}
}

// LocalImage is an image with what its content tells.
type LocalImage struct {
	*api.Image
	Config ocispec.Image // of this host's platform; empty when it is not there
	More   ImageMore     // that Docker's images say beside
	Layers []Layer       // from the lowest
	Bytes  int64         // unpacked
}

// ImageMore is what Docker's image configuration has and OCI's has not.
type ImageMore struct {
	Healthcheck    *HealthConfig
	OnBuild, Shell []string
}

// Layer is one of an image's: the digest is its chain ID, or its blob's.
type Layer struct {
	Digest string
	Size   int64 // unpacked, or where it is not, as it is transferred
}

// Created is when the image was made, as it says itself.
func (i LocalImage) Created() time.Time {
	if i.Config.Created != nil {
		return *i.Config.Created
	}
	return time.Unix(0, i.CreatedAt)
}

const none = "<none>"

// ImageRow is an image as images shows it.
func ImageRow(i LocalImage, whole bool, now time.Time) Image {
	size := units.HumanSizeWithPrecision(float64(i.Bytes), 3)
	r := Image{
		Name: i.Name, Containers: "N/A", CreatedAt: i.Created().Local().Format("2006-01-02 15:04:05 -0700 MST"),
		CreatedSince: units.HumanDuration(now.Sub(i.Created())) + " ago", Digest: cmp.Or(i.Target.GetDigest(), none), ID: imageID(i.Image, whole),
		Repository: none, Tag: none, SharedSize: "N/A", Size: size, UniqueSize: "N/A", VirtualSize: size,
	}
	if ref, err := name.Parse(i.Name); err == nil {
		r.Repository = ref.TrimVersion().Familiar()
		if ref.Digest() == "" {
			r.Tag = ref.Tag()
		}
	}
	return r
}

// imageID is docker's id of an image: the digest of its configuration; where that is not there, of what the name points to.
func imageID(i *api.Image, whole bool) string {
	return ShortID(cmp.Or(i.Id, i.Target.GetDigest()), whole)
}

// NoSuchImage begins docker's message.
const NoSuchImage = "No such image"

// ImageFilterKeys are those of images.
func ImageFilterKeys() []string {
	return []string{"before", "dangling", "label", "reference", "since", "until"}
}

// Images are those of a list, the newest first, that the filters and the name let through. repository may be empty, a
// repository, or one with a tag, with the patterns of path.Match.
func Images(list []LocalImage, f Filters, repository string, now time.Time) ([]LocalImage, error) {
	sorted := slices.Clone(list)
	slices.SortStableFunc(sorted, func(a, b LocalImage) int {
		return cmp.Or(b.Created().Compare(a.Created()), cmp.Compare(a.Name, b.Name))
	})
	dangling, wanted, err := f.flag("dangling")
	if err != nil {
		return nil, err
	}
	from, until, err := imageBounds(sorted, f, now)
	if err != nil {
		return nil, err
	}
	var out []LocalImage
	for _, i := range sorted {
		created := i.Created()
		switch {
		case wanted && tagged(i.Name) == dangling,
			!from.IsZero() && !created.After(from), !until.IsZero() && !created.Before(until),
			repository != "" && !reference(repository, i.Name),
			!f.any("reference", func(v string) bool { return reference(v, i.Name) }),
			!f.labels(i.Config.Config.Labels):
			continue
		}
		out = append(out, i)
	}
	return out, nil
}

func tagged(image string) bool {
	ref, err := name.Parse(image)
	return err == nil && ref.Digest() == ""
}

func imageBounds(list []LocalImage, f Filters, now time.Time) (from, until time.Time, err error) {
	for _, b := range []struct {
		key string
		to  *time.Time
	}{{"since", &from}, {"before", &until}} {
		for _, wanted := range f[b.key] {
			i := slices.IndexFunc(list, func(i LocalImage) bool { return SameImage(wanted, i.Image) })
			if i < 0 {
				return from, until, fmt.Errorf("%s: %s: %w", NoSuchImage, wanted, errdefs.ErrNotFound)
			}
			*b.to = list[i].Created()
		}
	}
	for _, text := range f["until"] {
		if until, err = untilTime(text, now); err != nil {
			return from, until, err
		}
	}
	return from, until, nil
}

// SameImage says whether a word on the command line means an image: its name or its id.
func SameImage(word string, i *api.Image) bool {
	if ref, err := name.Parse(word); err == nil && ref.String() == i.Name {
		return true
	}
	prefix, ok := name.IDPrefix(word)
	return ok && strings.HasPrefix(strings.TrimPrefix(i.Id, "sha256:"), prefix)
}

// reference compares with docker's patterns: of the familiar name, with and without tag, and of the whole.
func reference(pattern, image string) bool {
	ref, err := name.Parse(image)
	if err != nil {
		return pattern == image
	}
	repository := ref.TrimVersion()
	for _, text := range []string{ref.Familiar(), ref.String(), repository.Familiar(), repository.String()} {
		if ok, err := path.Match(pattern, text); ok && err == nil {
			return true
		}
	}
	if ref.Tag() != "" {
		ok, err := path.Match(pattern, repository.Familiar()+":"+ref.Tag())
		return ok && err == nil
	}
	return false
}

// History is a row of history.
type History struct {
	Comment, CreatedAt, CreatedBy, CreatedSince, ID, Size string
}

// HistoryColumns are those of history.
const HistoryColumns = `{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}`

// HistoryHeader names the columns of history.
func HistoryHeader() History {
	return History{Comment: "COMMENT", CreatedAt: "CREATED AT", CreatedBy: "CREATED BY", CreatedSince: "CREATED", ID: "IMAGE", Size: "SIZE"}
}

// HistoryRows are the steps that made an image, the last one first.
func HistoryRows(i LocalImage, whole, human bool, now time.Time) []History {
	var rows []History
	layer := 0
	for _, h := range i.Config.History {
		r := History{Comment: h.Comment, CreatedBy: h.CreatedBy, ID: "<missing>", Size: "0B"}
		if !whole {
			r.CreatedBy = ellipsis(strings.ReplaceAll(r.CreatedBy, "\t", " "), 45)
		}
		if h.Created != nil {
			r.CreatedAt = h.Created.Format(time.RFC3339)
			r.CreatedSince = units.HumanDuration(now.Sub(*h.Created)) + " ago"
			if !human {
				r.CreatedSince = r.CreatedAt
			}
		}
		var size int64
		if !h.EmptyLayer && layer < len(i.Layers) {
			size = i.Layers[layer].Size
			layer++
		}
		r.Size = units.HumanSizeWithPrecision(float64(size), 3)
		if !human {
			r.Size = fmt.Sprint(size)
		}
		rows = append(rows, r)
	}
	slices.Reverse(rows)
	if len(rows) > 0 {
		rows[0].ID = imageID(i.Image, whole)
	}
	return rows
}

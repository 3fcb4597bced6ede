package image

import (
	"context"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/runtime/snapshot"
)

// Statuses of an image's content.
const (
	Complete   = "complete"
	Incomplete = "incomplete" // blobs are missing for this host's platform
	Missing    = "missing"    // not even the manifest is there
	Corrupt    = "corrupt"    // a document cannot be read, or a blob has the wrong size
)

// Status is what there is of an image, for this host's platform.
type Status struct {
	Image
	Status      string
	Present     int // blobs
	Required    int
	PresentSize int64 // bytes
	Size        int64
	Unpacked    bool
	Problem     string // what is wrong, for a person
}

// Check tells what there is of images, of all in the namespace when none is named. Bytes are not read; see Problems.
func (s *Service) Check(ctx context.Context, ns string, names []string, snapshotter string) ([]Status, error) {
	sn, err := s.snapshotter(snapshotter)
	if err != nil {
		return nil, err
	}
	images, err := s.named(ctx, ns, names)
	if err != nil {
		return nil, err
	}
	list := make([]Status, len(images))
	for i, img := range images {
		list[i] = s.status(ctx, ns, img, sn)
	}
	return list, nil
}

// named finds the images with names, or lists all.
func (s *Service) named(ctx context.Context, ns string, names []string) ([]Image, error) {
	if len(names) == 0 {
		return s.List(ctx, ns)
	}
	var images []Image
	for _, n := range names {
		img, err := s.Get(ctx, ns, n)
		if err != nil {
			return nil, err
		}
		images = append(images, img)
	}
	return images, nil
}

func (s *Service) status(ctx context.Context, ns string, img Image, sn snapshot.Snapshotter) Status {
	st := Status{Image: img, Status: Complete}
	manifests, err := oci.Manifests(ctx, s.read, img.Target, oci.Want{})
	if err != nil && oci.KindOf(img.Target.MediaType) == oci.KindIndex {
		manifests, err = oci.Manifests(ctx, s.read, img.Target, oci.Want{All: true}) // another platform's image
	}
	if err != nil {
		st.Status, st.Problem = failed(err), err.Error()
	}
	count := func(d ocispec.Descriptor) {
		st.Required++
		st.Size += d.Size
		switch info, err := s.Content.Info(ctx, d.Digest); {
		case err != nil:
			st.worse(Incomplete, "blob "+d.Digest.String()+" is missing")
		case info.Size != d.Size:
			st.worse(Corrupt, "blob "+d.Digest.String()+" has the wrong size")
		default:
			st.Present++
			st.PresentSize += d.Size
		}
	}
	if !slices.ContainsFunc(manifests, func(m ocispec.Descriptor) bool { return m.Digest == img.Target.Digest }) {
		count(img.Target)
	}
	for _, d := range manifests {
		count(d)
		m, err := s.manifest(ctx, d)
		if err != nil {
			st.worse(failed(err), err.Error())
			continue
		}
		for _, c := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
			count(c)
		}
	}
	if r, err := s.resolve(ctx, ns, img, ""); err == nil {
		st.Unpacked = s.isUnpacked(ctx, sn, ns, r.ChainID)
	}
	if st.Present == 0 && st.Status != Corrupt {
		st.Status = Missing
	}
	return st
}

// worse lowers the status, and keeps the first problem.
func (st *Status) worse(status, problem string) {
	if st.Status == Complete || status == Corrupt {
		st.Status = status
	}
	if st.Problem == "" {
		st.Problem = problem
	}
}

func failed(err error) string {
	if errdefs.IsNotFound(err) {
		return Incomplete
	}
	return Corrupt
}

// missing returns the first thing that is not there of the wanted platforms of a target, "" when all is.
func (s *Service) missing(ctx context.Context, target ocispec.Descriptor, w oci.Want) (digest.Digest, error) {
	manifests, err := oci.Manifests(ctx, s.read, target, w)
	if errdefs.IsNotFound(err) {
		return target.Digest, nil
	}
	if err != nil {
		return "", err
	}
	for _, d := range manifests {
		if !s.Content.Has(d.Digest) {
			return d.Digest, nil
		}
		m, err := s.manifest(ctx, d)
		if err != nil {
			return "", err
		}
		for _, c := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
			if !s.Content.Has(c.Digest) && !oci.IsNonDistributable(c.MediaType) {
				return c.Digest, nil
			}
		}
	}
	return "", nil
}

// Description is what lists show of an image besides its record.
type Description struct {
	ID        digest.Digest // of the config for this host's platform
	Size      int64         // bytes of what is in the content
	Platforms []string      // whose manifest is in the content
	Unpacked  bool
	ChainID   string
}

// Describe reads what lists show of an image. What cannot be read is left empty.
func (s *Service) Describe(ctx context.Context, ns string, img Image) Description {
	d := Description{ID: s.ID(ctx, img.Target)}
	_ = oci.Walk(ctx, s.readPresent, img.Target, func(x ocispec.Descriptor) error {
		if s.Content.Has(x.Digest) {
			d.Size += x.Size
		}
		return nil
	})
	manifests, err := oci.Manifests(ctx, s.readPresent, img.Target, oci.Want{All: true})
	if err == nil {
		for _, m := range manifests {
			if oci.IsAttestation(m) || !s.Content.Has(m.Digest) {
				continue
			}
			p := m.Platform
			if p == nil {
				p, _ = oci.PlatformOf(ctx, s.read, m)
			}
			if p != nil {
				d.Platforms = append(d.Platforms, platforms.Format(*p))
			}
		}
	}
	if r, err := s.resolve(ctx, ns, img, ""); err == nil {
		d.Unpacked, d.ChainID = r.Unpacked, r.ChainID
	}
	return d
}

// readPresent is read, but a document that is not in the content is one without children.
func (s *Service) readPresent(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	data, err := s.read(ctx, d)
	if errdefs.IsNotFound(err) {
		if oci.KindOf(d.MediaType) == oci.KindIndex {
			return []byte(`{"schemaVersion":2,"manifests":[]}`), nil
		}
		return nil, oci.SkipChildren
	}
	return data, err
}

package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/oci/registry"
)

// PushOptions say what is pushed and where to.
type PushOptions struct {
	Name                  string // the reference to push to
	Source                string // the local image; "": Name
	Platforms             []string
	AllPlatforms          bool
	Registry              RegistryOptions
	MaxConcurrent         int // uploads at once; 0: the configuration's
	AllowNonDistributable bool
	ManifestDigest        string // push this manifest or index of the image instead of its target
}

// Push brings an image to a registry: blobs first, several at once, then manifests, the tag last. Blobs that the
// registry has, or has in a repository from which they were pulled, are not sent.
//
// Without a choice of platforms everything is pushed when it is all here, otherwise this host's manifest alone, as Docker
// does. One platform pushes its manifest under the tag, several push an index of just these.
func (s *Service) Push(ctx context.Context, ns string, o PushOptions, progress func(Progress)) (ocispec.Descriptor, error) {
	p, err := s.newPush(ctx, ns, o, progress)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer p.held.release()
	defer p.registry.Close()
	if err := p.plan(ctx); err != nil {
		return p.target, fmt.Errorf("push %s: %w", p.ref.Familiar(), err)
	}
	if err := p.uploads(ctx); err != nil {
		return p.target, err
	}
	if err := p.manifestsAndTag(ctx); err != nil {
		return p.target, err
	}
	s.publish(ns, "push", p.ref.String(), map[string]string{"digest": p.target.Digest.String()})
	p.progress(Progress{Item: p.ref.String(), Kind: KindImage, Stage: StageDone})
	return p.target, nil
}

// push is one push. Documents that are made for it are in made, all others in the content.
type push struct {
	s         *Service
	o         PushOptions
	ref       name.Ref
	want      oci.Want
	registry  Registry
	held      *held
	progress  func(Progress)
	target    ocispec.Descriptor
	made      map[digest.Digest][]byte
	blobs     []ocispec.Descriptor
	manifests []ocispec.Descriptor // children first; the target is the last
}

func (s *Service) newPush(ctx context.Context, ns string, o PushOptions, progress func(Progress)) (*push, error) {
	p := &push{s: s, o: o, progress: serialised(progress), made: map[digest.Digest][]byte{}}
	var err error
	if p.ref, err = name.Parse(o.Name); err != nil {
		return nil, err
	}
	if p.want, err = oci.ParseWant(o.Platforms, o.AllPlatforms); err != nil {
		return nil, err
	}
	img, err := s.Get(ctx, ns, orString(o.Source, o.Name))
	if err != nil {
		return nil, err
	}
	p.target = img.Target
	if o.ManifestDigest != "" {
		if p.target, err = s.below(ctx, img, o.ManifestDigest); err != nil {
			return nil, err
		}
	}
	p.held = s.hold(ns)
	p.registry = s.NewRegistry(o.Registry)
	return p, nil
}

// below finds a manifest or index of an image by its digest.
func (s *Service) below(ctx context.Context, img Image, d string) (found ocispec.Descriptor, err error) {
	err = oci.Walk(ctx, s.readPresent, img.Target, func(x ocispec.Descriptor) error {
		if x.Digest.String() == d {
			found = x
		}
		return nil
	})
	if err == nil && found.Digest == "" {
		err = fmt.Errorf("image %s has no manifest %s: %w", img.Name, d, errdefs.ErrNotFound)
	}
	return found, err
}

func (p *push) read(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if data, ok := p.made[d.Digest]; ok {
		return data, nil
	}
	return p.s.read(ctx, d)
}

// plan decides on the target and lists what has to be pushed for it.
func (p *push) plan(ctx context.Context) error {
	if err := p.choose(ctx); err != nil {
		return err
	}
	err := oci.Walk(ctx, p.read, p.target, func(d ocispec.Descriptor) error {
		p.held.pin(contentPin(d.Digest.String()))
		switch kind := oci.KindOf(d.MediaType); {
		case kind == oci.KindIndex || kind == oci.KindManifest:
			p.manifests = append(p.manifests, d)
		case oci.IsNonDistributable(d.MediaType) && !p.o.AllowNonDistributable:
			p.progress(Progress{Item: d.Digest.String(), Kind: string(kind), Stage: StageDone, Total: d.Size, Message: "not pushed: the layer must not be distributed"})
		default:
			p.blobs = append(p.blobs, d)
		}
		return nil
	})
	slices.Reverse(p.manifests) // Walk has parents first
	return err
}

// choose narrows the target to the wanted platforms.
func (p *push) choose(ctx context.Context) error {
	if oci.KindOf(p.target.MediaType) != oci.KindIndex || p.want.All {
		return nil
	}
	if len(p.want.Platforms) == 0 {
		missing, err := p.s.missing(ctx, p.target, oci.Want{All: true})
		if err != nil || missing == "" {
			return err
		}
		p.progress(Progress{Item: p.ref.String(), Kind: KindImage, Stage: StagePushing,
			Message: "not all platforms of the image are here: pushing " + p.want.String() + " only"})
	}
	manifests, err := oci.Manifests(ctx, p.s.read, p.target, p.want)
	if err != nil {
		return err
	}
	if len(manifests) == 1 {
		p.target = manifests[0]
		return nil
	}
	data, err := p.s.read(ctx, p.target)
	if err != nil {
		return err
	}
	x, err := oci.ParseIndex(p.target.MediaType, data)
	if err != nil {
		return err
	}
	x.Manifests = manifests
	if data, err = json.Marshal(x); err != nil {
		return err
	}
	p.target = ocispec.Descriptor{MediaType: x.MediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	p.made[p.target.Digest] = data
	return nil
}

func (p *push) uploads(ctx context.Context) error {
	limit := p.o.MaxConcurrent
	if limit <= 0 {
		limit = p.s.config.MaxUploads
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(limit)
	for _, d := range p.blobs {
		g.Go(func() error { return p.upload(gctx, d) })
	}
	return g.Wait()
}

func (p *push) upload(ctx context.Context, d ocispec.Descriptor) error {
	info, err := p.s.Content.Info(ctx, d.Digest)
	if err != nil {
		return fmt.Errorf("push %s: %s %s: %w", p.ref.Familiar(), oci.KindOf(d.MediaType), d.Digest, err)
	}
	var from []string
	for _, repo := range sourcesOf(info.Labels, p.ref.Domain()) {
		if repo != p.ref.Path() {
			from = append(from, repo)
		}
	}
	open := func(offset int64) (io.ReadCloser, error) {
		r, err := p.s.Content.Open(ctx, d.Digest)
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{io.NewSectionReader(r, offset, r.Size()-offset), r}, nil
	}
	p.progress(progressOf(d, StagePushing, 0))
	m := meter{report: p.progress, d: d, stage: StagePushing}
	done, err := p.registry.PushBlob(ctx, p.ref, d, open, registry.PushOptions{MountFrom: from, Progress: m.at})
	if err != nil {
		return err
	}
	stage := StageDone
	switch {
	case done.Exists:
		stage = StageExists
	case done.Mounted:
		stage = StageMounted
	}
	p.progress(progressOf(d, stage, d.Size))
	return p.s.noteSource(ctx, d.Digest, p.ref)
}

// manifestsAndTag pushes the manifests by digest, and the target by the reference's tag.
func (p *push) manifestsAndTag(ctx context.Context) error {
	for i, d := range p.manifests {
		data, err := p.read(ctx, d)
		if err != nil {
			return err
		}
		ref := p.ref
		if i < len(p.manifests)-1 {
			ref = p.ref.TrimVersion().WithDigest(d.Digest)
		}
		if err := p.registry.PushManifest(ctx, ref, d, data); err != nil {
			return err
		}
		p.progress(progressOf(d, StageDone, d.Size))
	}
	return nil
}

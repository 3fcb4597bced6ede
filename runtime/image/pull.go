package image

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/internal/failpoint"
	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/runtime/snapshot"
)

// PullOptions say what is pulled.
type PullOptions struct {
	Name          string
	Platforms     []string // none: this host's
	AllPlatforms  bool
	Registry      RegistryOptions
	Labels        map[string]string
	NoUnpack      bool
	Snapshotter   string // "": the default
	MaxConcurrent int    // downloads of this pull at once; 0: the configuration's
	MetadataOnly  bool   // manifests and configs only
	// PolicyNamespace is the namespace of Kubernetes whose signature policy counts; "": the general one.
	PolicyNamespace string
	// Cgroup is where the layers are fetched and unpacked, by another process; "": in the daemon.
	Cgroup string
}

// Pull brings an image from its registry, unpacks it, and then makes its name. All layers are fetched, verified,
// decompressed and applied at once; a layer that another pull is bringing is waited for, not fetched twice. The name is
// written when everything it needs is on the disk to stay.
//
// Errors: ErrNotFound, ErrUnauthenticated, ErrUnavailable, ErrDataLoss (wrong bytes), ErrResourceExhausted (rate limit, disk
// full), ErrInvalidArgument, ErrPermissionDenied (a verifier refuses it, trust.ErrSignature: a policy does, or a layer is
// encrypted and there is no key), ErrFailedPrecondition (the policy cannot be used).
func (s *Service) Pull(ctx context.Context, ns string, o PullOptions, progress func(Progress)) (Image, error) {
	if carried, err := s.embedded(ctx, ns, o.Name); err != nil {
		return Image{}, err
	} else if carried {
		return s.Get(ctx, ns, o.Name)
	}
	names, err := s.shortNames(o.Name)
	if err != nil {
		return Image{}, err
	}
	if len(names) == 0 {
		return s.pull(ctx, ns, o, progress)
	}
	var failed []error
	for _, o.Name = range names {
		img, err := s.pull(ctx, ns, o, progress)
		if err == nil {
			return img, nil
		}
		failed = append(failed, err)
		// A registry that does not have it, or does not say, is not the one that is meant.
		if !errdefs.IsNotFound(err) && !errdefs.IsUnavailable(err) && !errdefs.IsUnauthorized(err) {
			break
		}
	}
	return Image{}, errors.Join(failed...)
}

// pull brings the image of a whole name.
func (s *Service) pull(ctx context.Context, ns string, o PullOptions, progress func(Progress)) (Image, error) {
	t, err := s.newTransfer(ns, o, progress)
	if err != nil {
		return Image{}, err
	}
	defer t.close()
	target, err := t.bring(ctx)
	if err != nil {
		return Image{}, s.explain(fmt.Errorf("pull %s: %w", t.ref.Familiar(), err))
	}
	if err := failpoint.Hit("pull-before-record"); err != nil {
		return Image{}, err
	}
	img, err := s.write(ns, Image{Name: t.ref.String(), Target: target, Labels: o.Labels, Signatures: t.signatures})
	if err != nil {
		return Image{}, err
	}
	if err := failpoint.Hit("pull-after-record"); err != nil {
		return Image{}, err
	}
	s.dropDead(ns, t.ref.String())
	s.publish(ns, "pull", img.Name, map[string]string{"digest": target.Digest.String()})
	t.progress(Progress{Item: img.Name, Kind: KindImage, Stage: StageDone, Image: &img})
	return img, nil
}

// fetchedFor is the label of a lease that says for which reference content was fetched.
const (
	fetchedFor  = "minid.fetched"
	fetchExpiry = 24 * time.Hour
)

// Fetch brings the content of a reference without making an image of it or unpacking it. A lease keeps it for a day.
func (s *Service) Fetch(ctx context.Context, ns string, o PullOptions, progress func(Progress)) (ocispec.Descriptor, error) {
	o.NoUnpack = true
	t, err := s.newTransfer(ns, o, progress)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer t.close()
	t.held.keep(fetchExpiry, map[string]string{fetchedFor: t.ref.String()})
	target, err := t.bring(ctx)
	if err != nil {
		t.held.forget()
		return ocispec.Descriptor{}, s.explain(fmt.Errorf("fetch %s: %w", t.ref.Familiar(), err))
	}
	t.progress(Progress{Item: t.ref.String(), Kind: KindImage, Stage: StageDone})
	return target, nil
}

// transfer is one pull or fetch.
type transfer struct {
	s        *Service
	ns       string
	o        PullOptions
	ref      name.Ref
	want     oci.Want
	sn       snapshot.Snapshotter
	registry Registry
	held     *held
	progress func(Progress)
	leaves   []func()
	from     *origin

	signatures digest.Digest // the blob with those that a policy has seen
}

func (s *Service) newTransfer(ns string, o PullOptions, progress func(Progress)) (*transfer, error) {
	t := &transfer{s: s, ns: ns, o: o, held: s.hold(ns), progress: serialised(progress)}
	var err error
	if t.ref, err = name.Parse(o.Name); err != nil {
		return nil, err
	}
	if t.want, err = oci.ParseWant(o.Platforms, o.AllPlatforms); err != nil {
		return nil, err
	}
	if t.sn, err = s.snapshotter(o.Snapshotter); err != nil {
		return nil, err
	}
	var slots chan struct{} // of this pull alone
	if o.MaxConcurrent > 0 {
		slots = make(chan struct{}, o.MaxConcurrent)
	}
	t.held.labels[leaseReference] = t.ref.String()
	t.registry = s.NewRegistry(o.Registry)
	t.from = &origin{registry: t.registry, ref: t.ref, slots: slots}
	return t, nil
}

// bring does all but the name: resolve, documents, layers, sync, committed snapshots.
func (t *transfer) bring(ctx context.Context) (target ocispec.Descriptor, err error) {
	t.progress(Progress{Item: t.ref.String(), Kind: KindImage, Stage: StageResolving})
	var manifests []described
	var u *unpacking
	var took []any
	for _, step := range []struct {
		name string
		do   func() error
		then string // failpoint
	}{
		{"resolve", func() error { target, err = t.registry.Resolve(ctx, t.ref); return err }, "pull-resolved"},
		{"verify", func() error { return t.verify(ctx, target) }, ""},
		{"trust", func() error { return t.trust(ctx, target) }, ""},
		{"documents", func() error { manifests, err = t.documents(ctx, target); return err }, ""},
		{"plan", func() error { u, err = t.unpacking(ctx, manifests); return err }, ""},
		{"offer", func() error { return u.offer(ctx, t.ref) }, "pull-offered"},
		{"apart", func() error { return t.bringApart(ctx, manifests, u) }, ""},
		{"layers", func() error { return t.layers(ctx, manifests, u) }, ""},
		{"sources", func() error { return t.noteSources(ctx, manifests) }, "pull-before-sync"},
		{"sync", func() error { return t.s.sync(ctx, u) }, "pull-after-sync"},
		{"commit", func() error { return u.commit(ctx) }, ""},
	} {
		began := time.Now()
		if err := step.do(); err != nil {
			return target, err
		}
		took = append(took, step.name, time.Since(began).Round(time.Millisecond))
		if step.then == "" {
			continue
		}
		if err := failpoint.Hit(step.then); err != nil {
			return target, err
		}
	}
	t.s.Log.DebugContext(ctx, "content brought", append(took, "image", t.ref)...)
	return target, nil
}

func (t *transfer) verify(ctx context.Context, target ocispec.Descriptor) error {
	if t.s.Verifier == nil {
		return nil
	}
	return t.s.Verifier.Verify(ctx, t.ref.String(), target)
}

func (t *transfer) close() {
	for _, leave := range t.leaves {
		leave()
	}
	t.held.release()
	t.registry.Close()
}

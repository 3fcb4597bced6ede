package image

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/runtime/content"
	"github.com/minirt/mini/runtime/snapshot"
)

// rootLabel, with any value, keeps content or a snapshot from the collector; containerd's name for it works too.
const (
	rootLabel           = "minid.gc.root"
	rootLabelContainerd = "containerd.io/gc.root"
)

// CollectOptions say what a collection does.
type CollectOptions struct {
	DryRun bool
	// Roots names more that is in use, besides images and leases; may be nil. A snapshot's name counts for every snapshotter.
	Roots func() ([]digest.Digest, []snapshot.Key, error)
	// Used are manifests whose images stay whole though they may have no name any more.
	Used []Used
}

// Used is a manifest that something in a namespace was made of.
type Used struct {
	Namespace string
	Digest    string
}

// Collected is what a collection has deleted, or would delete.
type Collected struct {
	Blobs     []string // digests
	Snapshots []string // namespace/name
	Bytes     int64    // of the blobs
}

// CollectGarbage deletes content that no image, lease or root leads to, committed layers that none of these and no other
// snapshot needs, and what crashes and expired mounts have left. Whatever a pull or import of this process works on stays.
func (s *Service) CollectGarbage(ctx context.Context, o CollectOptions) (Collected, error) {
	defer s.pins.collect()()
	if _, err := s.Leases.Expire(); err != nil {
		return Collected{}, fmt.Errorf("expired leases: %w", err)
	}
	live, err := s.mark(ctx, o)
	if err != nil {
		return Collected{}, fmt.Errorf("collect garbage, nothing was deleted: %w", err)
	}
	var c Collected
	err = errors.Join(s.sweepSnapshots(ctx, live, o.DryRun, &c), s.sweepContent(ctx, live, o.DryRun, &c))
	if !o.DryRun {
		err = errors.Join(err, s.abortOld(ctx))
	}
	return c, err
}

// liveSet is what a collection must leave.
type liveSet struct {
	blobs     map[digest.Digest]bool
	snapshots map[string]bool // snapshotKey; chain IDs of images count for every snapshotter
}

func snapshotKey(snapshotter, ns, n string) string { return snapshotter + "/" + ns + "/" + n }

const anySnapshotter = "*"

func (l liveSet) has(snapshotter string, k snapshot.Key) bool {
	return l.snapshots[snapshotKey(snapshotter, k.Namespace, k.Name)] || l.snapshots[snapshotKey(anySnapshotter, k.Namespace, k.Name)]
}

// mark finds all that is in use. Any error means that the set may not be whole.
func (s *Service) mark(ctx context.Context, o CollectOptions) (liveSet, error) {
	live := liveSet{map[digest.Digest]bool{}, map[string]bool{}}
	s.records.Lock() // no name is being made of another one
	images, err := s.Images.List("")
	s.records.Unlock()
	if err != nil {
		return live, err
	}
	for _, e := range images {
		live.blobs[e.Value.Signatures] = true
		if err := s.markImage(ctx, e.Namespace, e.Value.Target, live); err != nil {
			return live, fmt.Errorf("image %s: %w", e.Key, err)
		}
	}
	for _, u := range o.Used {
		if err := s.markUsed(ctx, u, live); err != nil {
			return live, fmt.Errorf("image %s: %w", u.Digest, err)
		}
	}
	held, err := s.Leases.Resources()
	if err != nil {
		return live, err
	}
	for _, h := range held {
		kind, sn, named := strings.Cut(h.Type, "/")
		switch {
		case kind == resourceContent:
			live.blobs[digest.Digest(h.ID)] = true
		case named:
			live.snapshots[snapshotKey(sn, h.Namespace, h.ID)] = true
		default: // a client that names no snapshotter
			live.snapshots[snapshotKey(anySnapshotter, h.Namespace, h.ID)] = true
		}
	}
	if o.Roots == nil {
		return live, nil
	}
	blobs, snapshots, err := o.Roots()
	for _, d := range blobs {
		live.blobs[d] = true
	}
	for _, k := range snapshots {
		live.snapshots[snapshotKey(anySnapshotter, k.Namespace, k.Name)] = true
	}
	return live, err
}

// markImage marks the blobs below a target and the chains of its configs. A document that cannot be understood keeps
// itself and what the rest of the image refers to: a broken image must not stop the collection.
func (s *Service) markImage(ctx context.Context, ns string, target ocispec.Descriptor, live liveSet) error {
	return oci.Walk(ctx, s.readForMark, target, func(d ocispec.Descriptor) error {
		live.blobs[d.Digest] = true
		if oci.KindOf(d.MediaType) != oci.KindConfig || !s.Content.Has(d.Digest) {
			return nil
		}
		c, err := s.imageConfig(ctx, d)
		if errdefs.IsInvalidArgument(err) || errdefs.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, id := range oci.ChainIDs(c.RootFS.DiffIDs) {
			live.snapshots[snapshotKey(anySnapshotter, ns, id.String())] = true
		}
		return nil
	})
}

// markUsed marks an image by its manifest, as far as that is there.
func (s *Service) markUsed(ctx context.Context, u Used, live liveSet) error {
	d, err := s.descriptor(ctx, digest.Digest(u.Digest))
	if errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.markImage(ctx, u.Namespace, d, live)
}

// descriptor describes a manifest or an index that is in the content.
func (s *Service) descriptor(ctx context.Context, d digest.Digest) (ocispec.Descriptor, error) {
	i, err := s.Content.Info(ctx, d)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	out := ocispec.Descriptor{Digest: d, Size: i.Size}
	data, err := s.read(ctx, out)
	if err != nil {
		return out, err
	}
	out.MediaType, err = oci.DetectType(data)
	return out, err
}

func (s *Service) readForMark(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	data, err := s.readPresent(ctx, d)
	if err != nil {
		return nil, err
	}
	if _, err := oci.Children(d, data); err != nil {
		s.Log.WarnContext(ctx, "document of an image cannot be read: only what is known of the image is kept", "digest", d.Digest, "error", err)
		return nil, oci.SkipChildren
	}
	return data, nil
}

func (s *Service) sweepContent(ctx context.Context, live liveSet, dryRun bool, c *Collected) error {
	var dead []content.Info
	err := s.Content.List(ctx, func(i content.Info) error {
		if !live.blobs[i.Digest] && !isRoot(i.Labels) && !s.pins.protected(contentPin(i.Digest.String())) {
			dead = append(dead, i)
		}
		return nil
	})
	for _, i := range dead {
		done := dryRun
		if !dryRun {
			var one error
			done, one = s.pins.sweep(contentPin(i.Digest.String()), func() error { return ignoreNotFound(s.Content.Delete(ctx, i.Digest)) })
			err = errors.Join(err, one)
		}
		if done {
			c.Blobs = append(c.Blobs, i.Digest.String())
			c.Bytes += i.Size
		}
	}
	return err
}

func isRoot(labels map[string]string) bool {
	_, ours := labels[rootLabel]
	_, theirs := labels[rootLabelContainerd]
	return ours || theirs
}

func (s *Service) sweepSnapshots(ctx context.Context, live liveSet, dryRun bool, c *Collected) error {
	var errs []error
	for _, sn := range s.Snapshotters {
		infos, err := sn.List(ctx, "")
		if err != nil {
			errs = append(errs, err)
			continue
		}
		dead := garbage(infos, func(i snapshot.Info) bool {
			k := snapshot.Key{Namespace: i.Namespace, Name: i.Name}
			return live.has(sn.Name(), k) || s.pins.protected(snapshotPin(sn.Name(), i.Name))
		})
		for _, k := range dead {
			done := dryRun
			if !dryRun {
				done, err = s.pins.sweep(snapshotPin(sn.Name(), k.Name), func() error { return ignoreNotFound(sn.Remove(ctx, k)) })
				if errdefs.IsFailedPrecondition(err) {
					done, err = false, nil // it has got a child meanwhile
				}
				if errdefs.IsUnavailable(err) {
					break // the records stay until its snapshotter answers; Cleanup says so
				}
				errs = append(errs, err)
			}
			if done {
				c.Snapshots = append(c.Snapshots, k.String())
			}
		}
		if !dryRun {
			_, err := sn.Cleanup(ctx)
			if errdefs.IsUnavailable(err) {
				s.Log.WarnContext(ctx, "garbage stays for the next collection", "snapshotter", sn.Name(), "error", err)
				err = nil
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// garbage lists the snapshots to remove, children before parents. Committed ones are kept when they or a child are in use;
// of active ones and views, only the leftovers of unpacking and mounting are garbage: the others belong to somebody.
func garbage(infos []snapshot.Info, inUse func(snapshot.Info) bool) []snapshot.Key {
	byKey := map[snapshot.Key]snapshot.Info{}
	keep := map[snapshot.Key]bool{}
	for _, i := range infos {
		byKey[snapshot.Key{Namespace: i.Namespace, Name: i.Name}] = i
	}
	for k, i := range byKey {
		if !inUse(i) && !isRoot(i.Labels) && (i.Kind == snapshot.Committed || leftover(i)) {
			continue
		}
		for ok := true; ok && !keep[k]; i, ok = byKey[k] {
			keep[k] = true
			k = snapshot.Key{Namespace: i.Namespace, Name: i.Parent}
		}
	}
	depth := func(k snapshot.Key) (n int) {
		for i, ok := byKey[k]; ok && n <= len(byKey); i, ok = byKey[snapshot.Key{Namespace: k.Namespace, Name: i.Parent}] {
			n++
		}
		return n
	}
	var dead []snapshot.Key
	depths := map[snapshot.Key]int{}
	for k := range byKey {
		if !keep[k] {
			dead = append(dead, k)
			depths[k] = depth(k)
		}
	}
	slices.SortFunc(dead, func(a, b snapshot.Key) int {
		if d := depths[b] - depths[a]; d != 0 {
			return d
		}
		return strings.Compare(a.String(), b.String())
	})
	return dead
}

func leftover(i snapshot.Info) bool {
	_, mounted := i.Labels[mountLabel]
	return mounted || strings.HasPrefix(i.Name, extractPrefix)
}

// abortOld removes interrupted downloads that nobody has continued for as long as leases last.
func (s *Service) abortOld(ctx context.Context) error {
	ingests, err := s.Content.Ingests(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, i := range ingests {
		if time.Since(i.UpdatedAt) > s.config.LeaseExpiry {
			if err := s.Content.Abort(ctx, i.Ref); err != nil && !errdefs.IsNotFound(err) && !errdefs.IsUnavailable(err) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

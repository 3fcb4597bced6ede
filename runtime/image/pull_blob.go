package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/runtime/content"
)

// origin is where missing blobs come from. Nil: nowhere.
type origin struct {
	registry Registry
	ref      name.Ref
	slots    chan struct{}            // limits one transfer; may be nil
	made     map[digest.Digest]string // directories with layers, by diff ID, that were made apart

	search sync.Once
	found  []content.Info // that chunked has found
	failed error
}

// joinBlob has a blob brought into the content, together with all others that want it. The state can be read while it
// grows.
func (s *Service) joinBlob(ctx context.Context, d ocispec.Descriptor, from *origin, report func(Progress)) (*flight[*growing], func()) {
	key := d.Digest.String()
	if from == nil {
		key = "local " + key
	}
	return s.blobs.join(ctx, key, report, func() work[*growing] {
		return work[*growing]{newGrowing(), func(ctx context.Context, g *growing, report func(Progress)) error {
			err := s.bringBlob(ctx, d, from, g, report)
			g.end(err)
			return err
		}}
	})
}

func (t *transfer) joinBlob(ctx context.Context, d ocispec.Descriptor) (*flight[*growing], func()) {
	return t.s.joinBlob(ctx, d, t.from, t.progress)
}

// bringBlob makes a blob be in the content, from the registry if it is not there. Wrong bytes are fetched once more, from
// another host if there is one.
func (s *Service) bringBlob(ctx context.Context, d ocispec.Descriptor, from *origin, g *growing, report func(Progress)) error {
	release := s.pins.hold(contentPin(d.Digest.String()))
	defer release()
	if s.Content.Has(d.Digest) {
		err := s.openLocal(ctx, d, g)
		if err == nil {
			report(progressOf(d, StageExists, d.Size))
		}
		if from == nil || !errdefs.IsDataLoss(err) {
			return err
		}
		if err := s.dropDamaged(ctx, d, err); err != nil {
			return err
		}
	}
	if from == nil {
		return fmt.Errorf("layer %s is not in the content: pull the image again, for this snapshotter: %w", d.Digest, errdefs.ErrNotFound)
	}
	report(progressOf(d, StageWaiting, 0))
	if from.slots != nil {
		select {
		case from.slots <- struct{}{}:
			defer func() { <-from.slots }()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if err := s.downloads.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.downloads.Release(1)
	var err error
	for try := range 2 {
		if err = s.download(ctx, d, from, g, try > 0, report); !errdefs.IsDataLoss(err) {
			break
		}
		s.Log.WarnContext(ctx, "fetched bytes do not have their digest, fetching them again", "blob", d.Digest, "error", err)
	}
	if err == nil {
		report(progressOf(d, StageDone, d.Size))
	}
	return err
}

func (s *Service) openLocal(ctx context.Context, d ocispec.Descriptor, g *growing) error {
	info, err := s.Content.Info(ctx, d.Digest)
	if err != nil {
		return err
	}
	if info.Size != d.Size {
		return fmt.Errorf("blob %s has %d bytes, its descriptor says %d: %w", d.Digest, info.Size, d.Size, errdefs.ErrDataLoss)
	}
	return g.open(s.Content.Path(d.Digest), info.Size)
}

// download fetches a blob, from where an earlier try stopped. What has arrived stays for the next try, unless it is wrong
// or the disk is full. Unless it is to come whole, it may be put together of other layers.
func (s *Service) download(ctx context.Context, d ocispec.Descriptor, from *origin, g *growing, whole bool, report func(Progress)) (err error) {
	ref := "blob-" + d.Digest.String()
	w, err := s.Content.Writer(ctx, content.Ingest{Ref: ref, Expected: d.Digest, Total: d.Size})
	if err != nil {
		if errdefs.IsAlreadyExists(err) {
			return s.openLocal(ctx, d, g)
		}
		return err
	}
	defer func() {
		err = errors.Join(err, w.Close())
		if isNoSpace(err) {
			cleanup, cancel := afterwards(ctx)
			defer cancel()
			err = errors.Join(err, s.Content.Abort(cleanup, ref))
		}
	}()
	if err := g.open(w.Path(), w.Offset()); err != nil {
		return err
	}
	watching, watch, stop := s.watch(ctx, d)
	defer stop()
	body, err := s.fetch(watching, from, d, w.Offset(), whole)
	if err != nil {
		return stalled(watching, err)
	}
	defer func() { _ = body.Close() }()
	if err := receive(watching, w, watch.of(body), d, g, report); err != nil {
		return stalled(watching, err)
	}
	report(progressOf(d, StageVerifying, d.Size))
	if err := w.Commit(ctx, d.Size, d.Digest); err != nil && !errdefs.IsAlreadyExists(err) {
		if errdefs.IsDataLoss(err) {
			s.reject(from, body)
			return fmt.Errorf("blob %s (%s) from %s: %w", d.Digest, d.MediaType, hostOf(body, from.ref), err)
		}
		return err
	}
	return failpoint.Hit("pull-layer-fetched")
}

// hostOf names the host that delivered bytes.
func hostOf(body io.Reader, ref name.Ref) string {
	if h, ok := body.(interface{ Host() string }); ok && h.Host() != "" {
		return h.Host()
	}
	return ref.Domain()
}

var receiveBuffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }} // a pool

// receive copies a blob into the content and lets those who unpack it know.
func receive(ctx context.Context, w *content.Writer, body io.Reader, d ocispec.Descriptor, g *growing, report func(Progress)) error {
	m := meter{report: report, d: d, stage: StageFetching}
	buf := receiveBuffers.Get().(*[]byte)
	defer receiveBuffers.Put(buf)
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		n, err := body.Read(*buf)
		if n > 0 {
			if _, err := w.Write((*buf)[:n]); err != nil {
				return err
			}
			g.grew(w.Offset())
			m.at(w.Offset())
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// layers fetches all layers but the lazy ones, and applies those that are to be unpacked, all at once. The first failure
// ends the others.
func (t *transfer) layers(ctx context.Context, manifests []described, u *unpacking) error {
	if t.o.MetadataOnly {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, gctx := errgroup.WithContext(ctx)
	seen := map[digest.Digest]bool{}
	for _, m := range manifests {
		for _, d := range m.manifest.Layers {
			if seen[d.Digest] || u.lazy[d.Digest] {
				continue
			}
			seen[d.Digest] = true
			f, leave := t.joinBlob(gctx, d)
			t.leaves = append(t.leaves, leave)
			g.Go(func() error { return f.wait(gctx) })
		}
	}
	g.Go(func() error { return u.apply(gctx, t.from) })
	return g.Wait()
}

// noteSources records from which repository the blobs came: a push to the same registry mounts them from there.
func (t *transfer) noteSources(ctx context.Context, manifests []described) error {
	for _, m := range manifests {
		for _, d := range append([]ocispec.Descriptor{m.manifest.Config}, m.manifest.Layers...) {
			if err := ignoreNotFound(t.s.noteSource(ctx, d.Digest, t.ref)); err != nil { // without the layers, with MetadataOnly
				return err
			}
		}
	}
	return nil
}

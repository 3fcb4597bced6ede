package image

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/internal/id"
	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/oci/compression"
	"github.com/minirt/mini/oci/layer"
	"github.com/minirt/mini/runtime/snapshot"
)

// extractPrefix begins the names of snapshots that layers are being applied to. One that no running unpacking holds is
// garbage.
const extractPrefix = "extract-"

// applied is a layer that is unpacked, or being unpacked, and not committed.
type applied struct {
	layers      snapshot.LayerStore
	key         snapshot.Key
	release     func()
	needsParent bool // it cannot stand alone: apply it on its parent
	committed   atomic.Bool
}

// tries is how often a layer is applied when its bytes turn out wrong under way.
const tries = 3

// join applies a layer to a directory of its own, together with all others that want the same.
func (u *unpacking) join(ctx context.Context, layers snapshot.LayerStore, c *chain, i int, from *origin) (*flight[*applied], func()) {
	key := layers.Name() + "/" + u.ns + "/" + c.ids[i].String()
	return u.s.layers.join(ctx, key, u.report, func() work[*applied] {
		a := &applied{layers: layers, key: snapshot.Key{Namespace: u.ns, Name: extractName()}}
		a.release = u.s.pins.hold(snapshotPin(layers.Name(), a.key.Name))
		return work[*applied]{a, func(ctx context.Context, a *applied, report func(Progress)) error {
			return u.s.applyAlone(ctx, a, c.layer(i), from, report)
		}}
	})
}

// discard removes what was applied and not committed.
func (s *Service) discard(a *applied) {
	defer a.release()
	if a.committed.Load() {
		return
	}
	ctx, cancel := afterwards(context.Background())
	defer cancel()
	if err := a.layers.Remove(ctx, a.key); err != nil && !errdefs.IsNotFound(err) {
		s.Log.Warn("unpacked layer was not removed, the next collection does it", "snapshot", a.key, "error", err)
	}
}

// applyAlone applies a layer while it is being fetched.
func (s *Service) applyAlone(ctx context.Context, a *applied, l layerOf, from *origin, report func(Progress)) error {
	blob, leave := s.joinBlob(ctx, l.Descriptor, from, func(Progress) {})
	defer leave()
	if err := blob.state.started(ctx); err != nil {
		return err
	}
	if made, err := s.adopt(ctx, a, l, from, report); made || err != nil {
		return errors.Join(err, blob.wait(ctx), failpoint.Hit("pull-layer-applied"))
	}
	if err := s.unpacks.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.unpacks.Release(1)
	for try := 1; ; try++ {
		round := blob.state.rounds()
		err := s.applyOnce(ctx, a, l, blob.state, report)
		if errors.Is(err, layer.ErrNeedsParent) {
			a.needsParent, err = true, s.remove(ctx, a)
		}
		if err == nil || isNoSpace(err) || ctx.Err() != nil {
			return errors.Join(err, blob.wait(ctx), failpoint.Hit("pull-layer-applied"))
		}
		// The bytes may have been wrong: then the fetch says so, or has begun anew.
		if fetchErr := blob.wait(ctx); fetchErr != nil {
			return fetchErr
		}
		if try == tries || blob.state.rounds() == round {
			return err
		}
		if err := s.remove(ctx, a); err != nil {
			return err
		}
	}
}

func (s *Service) remove(ctx context.Context, a *applied) error {
	if err := a.layers.Remove(ctx, a.key); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

func (s *Service) applyOnce(ctx context.Context, a *applied, l layerOf, g *growing, report func(Progress)) error {
	dir, err := a.layers.PrepareLayer(ctx, a.key)
	if err != nil {
		return err
	}
	o := layer.ApplyOptions{Whiteouts: layer.Overlay, UserXattr: a.layers.UserXattr()}
	return s.applyTo(ctx, dir, l, g.reader(ctx), o, report)
}

// onParent applies a layer to a snapshot of its parent and commits it, synced.
func (u *unpacking) onParent(ctx context.Context, c *chain, i int, from *origin) (err error) {
	unlock, err := u.s.writing.Lock(ctx, "layer "+u.sn.Name()+"/"+u.ns+"/"+c.ids[i].String())
	if err != nil {
		return err
	}
	defer unlock()
	id, parent := c.ids[i].String(), ""
	if u.s.isUnpacked(ctx, u.sn, u.ns, id) {
		return nil
	}
	if i > 0 {
		parent = c.ids[i-1].String()
	}
	blob, leave := u.s.joinBlob(ctx, c.layers[i], from, func(Progress) {})
	defer leave()
	if err := blob.wait(ctx); err != nil {
		return err
	}
	key := snapshot.Key{Namespace: u.ns, Name: extractName()}
	defer u.s.pins.hold(snapshotPin(u.sn.Name(), key.Name))()
	mounts, err := u.sn.Prepare(ctx, key, parent, snapshot.Options{})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			cleanup, cancel := afterwards(ctx)
			defer cancel()
			err = errors.Join(err, ignoreNotFound(u.sn.Remove(cleanup, key)))
		}
	}()
	err = mount.Temp(ctx, mounts, func(root string) error {
		return u.s.applyTo(ctx, root, c.layer(i), blob.state.reader(ctx), layer.ApplyOptions{}, u.report)
	})
	if err != nil {
		return err
	}
	if err := u.sn.Sync(ctx); err != nil {
		return err
	}
	err = u.sn.Commit(ctx, u.ns, id, key.Name, snapshotLabels(c.layers[i]))
	if errdefs.IsAlreadyExists(err) {
		return u.sn.Remove(ctx, key)
	}
	return err
}

func extractName() string { return extractPrefix + id.New()[:16] }

func ignoreNotFound(err error) error {
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// layerOf is a layer as the config and the keys know it.
type layerOf struct {
	ocispec.Descriptor
	diffID digest.Digest
	keys   layerKeys
}

func (c *chain) layer(i int) layerOf { return layerOf{c.layers[i], c.diffIDs[i], c.keys} }

// applyTo decrypts and decompresses a layer, applies it to a directory and verifies its diff ID.
func (s *Service) applyTo(ctx context.Context, dir string, d layerOf, r io.Reader, o layer.ApplyOptions, report func(Progress)) (err error) {
	counted := &countingReader{r: r, m: meter{report: report, d: d.Descriptor, stage: StageUnpacking}}
	packed, err := d.keys.open(counted, d.Descriptor)
	if err != nil {
		return err
	}
	plain, _, err := compression.Decompress(packed)
	if err != nil {
		return fmt.Errorf("layer %s: %w", d.Digest, err)
	}
	closePlain := sync.OnceFunc(func() { _ = plain.Close() })
	defer closePlain()
	sum := d.diffID.Algorithm().Hash()
	result, err := layer.Apply(ctx, dir, &hashingReader{plain, sum}, o)
	if err != nil {
		return fmt.Errorf("layer %s: %w", d.Digest, writing(filepath.Dir(dir), err))
	}
	closePlain() // nothing reads ahead any more
	if err := d.keys.end(packed, d.Descriptor); err != nil {
		return fmt.Errorf("layer %s: %w", d.Digest, err)
	}
	for _, dropped := range result.Dropped {
		report(Progress{Item: d.Digest.String(), Kind: "layer", Stage: StageUnpacking, Total: d.Size, Message: dropped})
	}
	if got := digest.NewDigest(d.diffID.Algorithm(), sum); got != d.diffID {
		return fmt.Errorf("layer %s: its uncompressed digest is %s, the image's config says %s: %w", d.Digest, got, d.diffID, errdefs.ErrDataLoss)
	}
	report(progressOf(d.Descriptor, StageDone, d.Size))
	return nil
}

// hashingReader takes a digest of all that is read.
type hashingReader struct {
	r io.Reader
	h hash.Hash
}

func (r *hashingReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.h.Write(p[:n])
	return n, err
}

// countingReader reports how far the compressed layer has been read.
type countingReader struct {
	r io.Reader
	n int64
	m meter
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.n += int64(n)
	r.m.at(r.n)
	return n, err
}

package image

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/runtime/snapshot"
)

// Unpack makes the committed layers of an image for a snapshotter ("": the default) and a platform ("": this host's) from
// the content, those that are not there yet, and returns the chain ID to put a container's snapshot on.
func (s *Service) Unpack(ctx context.Context, ns, ref, snapshotter, platform string, progress func(Progress)) (string, error) {
	sn, err := s.snapshotter(snapshotter)
	if err != nil {
		return "", err
	}
	r, err := s.Resolve(ctx, ns, ref, platform)
	if err != nil {
		return "", err
	}
	if s.isUnpacked(ctx, sn, ns, r.ChainID) {
		_, err := s.keys(ctx, r.Encrypted) // to use an image is to have its keys
		return r.ChainID, err
	}
	h := s.hold(ns)
	defer h.release()
	m, err := s.manifest(ctx, r.Manifest)
	if err != nil {
		return "", err
	}
	if err := s.unpack(ctx, ns, sn, []described{{r.Manifest, m, &r.Config}}, h, serialised(progress)); err != nil {
		return "", s.explain(fmt.Errorf("unpack %s: %w", r.Image.Name, err))
	}
	return r.ChainID, nil
}

// unpack makes the committed layers of manifests whose layers are in the content.
func (s *Service) unpack(ctx context.Context, ns string, sn snapshot.Snapshotter, manifests []described, h *held, progress func(Progress)) error {
	u, err := s.newUnpacking(ctx, ns, sn, manifests, h, progress)
	if err != nil {
		return err
	}
	defer u.close()
	if err := u.apply(ctx, nil); err != nil {
		return err
	}
	if err := s.sync(ctx, u); err != nil {
		return err
	}
	return u.commit(ctx)
}

// chain is the layers of one manifest and what they are called when unpacked.
type chain struct {
	manifest digest.Digest
	layers   []ocispec.Descriptor
	diffIDs  []digest.Digest
	ids      []digest.Digest // chain IDs
	have     int             // layers that were unpacked before, or that the snapshotter has taken
	ready    []*applied      // per layer, nil for those that were there or that are applied on their parents
	keys     layerKeys
}

// unpacking is the work of making committed layers of some chains: apply, then (after a sync) commit.
type unpacking struct {
	s      *Service
	ns     string
	sn     snapshot.Snapshotter
	chains []*chain
	lazy   map[digest.Digest]bool // layers whose bytes are not needed: the snapshotter fetches what is read of them
	report func(Progress)
	leaves []func()
}

// newUnpacking plans: which layers of which chains are missing. From here on they are held.
func (s *Service) newUnpacking(ctx context.Context, ns string, sn snapshot.Snapshotter, manifests []described, h *held, report func(Progress)) (*unpacking, error) {
	u := &unpacking{s: s, ns: ns, sn: sn, lazy: map[digest.Digest]bool{}, report: report}
	var names []string
	for _, m := range manifests {
		c, err := chainOf(m)
		if err == nil && c != nil {
			c.keys, err = s.keys(ctx, encrypted(c.layers))
		}
		if err != nil {
			return nil, err
		}
		if c == nil || len(c.ids) == 0 {
			continue
		}
		u.chains = append(u.chains, c)
		for _, id := range c.ids {
			names = append(names, id.String())
		}
	}
	if err := h.snapshots(ctx, sn.Name(), names...); err != nil {
		return nil, err
	}
	for _, c := range u.chains {
		if err := u.look(ctx, c); err != nil {
			return nil, err
		}
	}
	return u, nil
}

// chainOf is nil for what cannot be unpacked: artifacts and attestations.
func chainOf(m described) (*chain, error) {
	if m.config == nil {
		return nil, nil
	}
	c := &chain{manifest: m.Digest, diffIDs: m.config.RootFS.DiffIDs}
	for _, l := range m.manifest.Layers {
		if !oci.IsLayer(l.MediaType) {
			return nil, nil
		}
		c.layers = append(c.layers, l)
	}
	if len(c.layers) != len(c.diffIDs) {
		return nil, fmt.Errorf("manifest %s has %d layers and its config %d: the image is broken: %w", m.Digest, len(c.layers), len(c.diffIDs), errdefs.ErrInvalidArgument)
	}
	c.ids = oci.ChainIDs(c.diffIDs)
	c.ready = make([]*applied, len(c.ids))
	return c, nil
}

// look finds the topmost layer that is there, in this namespace or in another one.
func (u *unpacking) look(ctx context.Context, c *chain) error {
	for i := len(c.ids); i > 0; i-- {
		ok, err := u.sn.Adopt(ctx, u.ns, c.ids[i-1].String())
		if err != nil {
			return err
		}
		if ok {
			c.have = max(c.have, i)
			u.lazyIn(ctx, c)
			return nil
		}
	}
	return nil
}

// apply applies the missing layers: all at once where the snapshotter can put them in a row afterwards, otherwise one on
// the other. from may be nil: then the layers are in the content.
func (u *unpacking) apply(ctx context.Context, from *origin) error {
	g, gctx := errgroup.WithContext(ctx)
	layers, parallel := u.sn.(snapshot.LayerStore)
	for _, c := range u.chains {
		if !parallel {
			g.Go(func() error { return u.onParents(gctx, c, from) })
			continue
		}
		for i := c.have; i < len(c.ids); i++ {
			f, leave := u.join(gctx, layers, c, i, from)
			u.leaves = append(u.leaves, leave)
			c.ready[i] = f.state
			g.Go(func() error { return f.wait(gctx) })
		}
	}
	return g.Wait()
}

// onParents applies a chain's layers in order, each on a snapshot of the one below.
func (u *unpacking) onParents(ctx context.Context, c *chain, from *origin) error {
	for i := c.have; i < len(c.ids); i++ {
		if err := u.onParent(ctx, c, i, from); err != nil {
			return err
		}
	}
	return nil
}

// commit puts the applied layers in a row. Others may have been faster with some of them.
func (u *unpacking) commit(ctx context.Context) error {
	u.s.commits.Lock()
	defer u.s.commits.Unlock()
	for _, c := range u.chains {
		for i := c.have; i < len(c.ids); i++ {
			if err := u.commitLayer(ctx, c, i); err != nil {
				return fmt.Errorf("layer %d of %d (%s): %w", i+1, len(c.ids), c.layers[i].Digest, err)
			}
		}
	}
	return nil
}

func (u *unpacking) commitLayer(ctx context.Context, c *chain, i int) error {
	id, parent := c.ids[i].String(), ""
	if i > 0 {
		parent = c.ids[i-1].String()
	}
	ready := c.ready[i]
	if ready == nil || u.s.isUnpacked(ctx, u.sn, u.ns, id) {
		return nil
	}
	if ready.needsParent {
		return u.onParent(ctx, c, i, nil)
	}
	layers, ok := u.sn.(snapshot.LayerStore)
	if !ok {
		return nil
	}
	err := layers.CommitLayer(ctx, u.ns, id, parent, ready.key, snapshotLabels(c.layers[i]))
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	if err == nil {
		ready.committed.Store(true)
	}
	return err
}

// snapshotLabels say of what a committed layer was made.
func snapshotLabels(d ocispec.Descriptor) map[string]string {
	return map[string]string{"minid.layer": d.Digest.String()}
}

func (u *unpacking) close() {
	if u == nil {
		return
	}
	for _, leave := range u.leaves {
		leave()
	}
	u.leaves = nil
}

// unpacking plans what a pull unpacks: of all platforms only this host's, otherwise each wanted one.
func (t *transfer) unpacking(ctx context.Context, manifests []described) (*unpacking, error) {
	if t.o.NoUnpack || t.o.MetadataOnly {
		manifests = nil
	} else if t.want.All {
		manifests = forHost(manifests)
	}
	u, err := t.s.newUnpacking(ctx, t.ns, t.sn, manifests, t.held, t.progress)
	if err == nil {
		t.leaves = append(t.leaves, u.close)
	}
	return u, err
}

// forHost picks the manifest for this host's platform, if there is one.
func forHost(manifests []described) []described {
	var list []ocispec.Descriptor
	for _, m := range manifests {
		d := m.Descriptor
		if d.Platform == nil && m.config != nil {
			d.Platform = &m.config.Platform
		}
		list = append(list, d)
	}
	best, ok := oci.Choose(list, oci.Host())
	for _, m := range manifests {
		if ok && m.Digest == best.Digest {
			return []described{m}
		}
	}
	return nil
}

// sync makes blobs and layers durable, before anything refers to them.
func (s *Service) sync(ctx context.Context, u *unpacking) error {
	if s.config.NoSync {
		return nil
	}
	err := s.Content.Sync(ctx)
	if u != nil && len(u.chains) > 0 {
		err = errors.Join(err, u.sn.Sync(ctx))
	}
	return err
}

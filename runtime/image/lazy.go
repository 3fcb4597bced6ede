package image

import (
	"context"
	"maps"
	"strings"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/runtime/snapshot"
)

// Labels that tell a snapshotter where a layer is. The cri ones are containerd's (pkg/snapshotters/annotations.go), the
// others those of single snapshotters that do not know them.
const (
	imageRefLabel       = "containerd.io/snapshot/cri.image-ref"
	layerDigestLabel    = "containerd.io/snapshot/cri.layer-digest"
	manifestDigestLabel = "containerd.io/snapshot/cri.manifest-digest"
	imageLayersLabel    = "containerd.io/snapshot/cri.image-layers"
	overlaybdRefLabel   = "containerd.io/snapshot/image-ref"
	stargzRefLabel      = "containerd.io/snapshot/remote/stargz.reference"
	stargzDigestLabel   = "containerd.io/snapshot/remote/stargz.digest"
	stargzLayersLabel   = "containerd.io/snapshot/remote/stargz.layers"
	inheritedPrefix     = "containerd.io/snapshot/"
	maxLabel            = 4096 // bytes of a label's key and value together, in containerd
)

// lazyIn notes which of the layers that a chain has are those whose bytes the snapshotter fetches as they are read.
func (u *unpacking) lazyIn(ctx context.Context, c *chain) {
	if _, can := u.sn.(snapshot.Lazy); !can {
		return
	}
	for i := range c.have {
		info, err := u.sn.Info(ctx, snapshot.Key{Namespace: u.ns, Name: c.ids[i].String()})
		if err == nil && info.Labels[snapshot.LazyLabel] != "" {
			u.lazy[c.layers[i].Digest] = true
		}
	}
}

// offer lets a snapshotter that can have layers by itself take those that are missing, from the lowest up to the first that
// it does not take. A snapshotter that fails at it gets the layer as others do.
func (u *unpacking) offer(ctx context.Context, ref name.Ref) error {
	lazy, can := u.sn.(snapshot.Lazy)
	if !can {
		return nil
	}
	for _, c := range u.chains {
		for c.have < len(c.ids) && !oci.IsEncrypted(c.layers[c.have].MediaType) {
			has, err := u.offerLayer(ctx, lazy, c, ref)
			if errdefs.IsUnavailable(err) || ctx.Err() != nil {
				return err
			}
			if err != nil {
				u.s.Log.WarnContext(ctx, "a layer that the snapshotter could not take is fetched", "layer", c.layers[c.have].Digest, "error", err)
			}
			if !has {
				break
			}
			c.have++
		}
	}
	return nil
}

func (u *unpacking) offerLayer(ctx context.Context, lazy snapshot.Lazy, c *chain, ref name.Ref) (bool, error) {
	i, id := c.have, c.ids[c.have].String()
	unlock, err := u.s.writing.Lock(ctx, "layer "+u.sn.Name()+"/"+u.ns+"/"+id)
	if err != nil {
		return false, err
	}
	defer unlock()
	if u.s.isUnpacked(ctx, u.sn, u.ns, id) {
		return true, nil
	}
	parent := ""
	if i > 0 {
		parent = c.ids[i-1].String()
	}
	key := snapshot.Key{Namespace: u.ns, Name: extractName()}
	defer u.s.pins.hold(snapshotPin(u.sn.Name(), key.Name))()
	d := c.layers[i]
	has, err := lazy.Offer(ctx, key, id, parent, whereabouts(ref, c, i), snapshotLabels(d))
	if has {
		u.lazy[d.Digest] = true
		u.report(progressOf(d, StageLazy, 0))
	}
	return has, err
}

// whereabouts are the labels that say where a layer is, and which ones lie on it.
func whereabouts(ref name.Ref, c *chain, i int) map[string]string {
	d := c.layers[i]
	labels := map[string]string{}
	for k, v := range d.Annotations {
		if strings.HasPrefix(k, inheritedPrefix) && len(k)+len(v) <= maxLabel {
			labels[k] = v
		}
	}
	maps.Copy(labels, map[string]string{
		imageRefLabel: ref.String(), overlaybdRefLabel: ref.String(), stargzRefLabel: ref.String(),
		layerDigestLabel: d.Digest.String(), stargzDigestLabel: d.Digest.String(), manifestDigestLabel: c.manifest.String(),
		imageLayersLabel: digestsUpTo(c.layers[i:], maxLabel-len(imageLayersLabel)),
		// This one has those above alone.
		stargzLayersLabel: digestsUpTo(c.layers[i+1:], maxLabel-len(stargzLayersLabel)),
	})
	return labels
}

// digestsUpTo are digests with commas between them, as many as fit.
func digestsUpTo(layers []ocispec.Descriptor, size int) string {
	var b strings.Builder
	for _, d := range layers {
		if b.Len()+1+len(d.Digest) > size {
			break
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(d.Digest.String())
	}
	return b.String()
}

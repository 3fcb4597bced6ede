package image

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/oci/chunked"
	"github.com/minirt/mini/runtime/content"
)

// Limits of putting layers together of others.
const (
	minChunked  = 256 << 10 // bytes; smaller layers are fetched whole
	maxEnd      = 48 << 20  // bytes of the tables at a layer's end, which are held in memory
	maxSearched = 64        // layers that are looked into
)

// chunkedParts are the parts of which a layer is put together: those that other layers of the content have, those to fetch,
// and its tables, which have been fetched to know that. Nil: fetch it whole, because it is not of the kind, nothing of it is
// here, or the registry has no parts.
func (s *Service) chunkedParts(ctx context.Context, from *origin, d ocispec.Descriptor, offset int64) (*pieces, error) {
	t, ok := chunked.Announced(d.Annotations, d.Size)
	if !ok || s.config.WholePulls || d.Size < minChunked || offset >= t.Start() || d.Size-t.Start() > maxEnd {
		return nil, nil
	}
	others, err := from.chunked(ctx, s)
	if err != nil || len(others) == 0 {
		return nil, err
	}
	body, err := from.registry.FetchPart(ctx, from.ref, d, t.Start(), d.Size)
	if errdefs.IsNotImplemented(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer body.Close()
	end := make([]byte, d.Size-t.Start())
	if _, err := io.ReadFull(body, end); err != nil {
		return nil, err
	}
	wanted, err := chunked.Want(t, bytes.NewReader(end[t.Offset-t.Start():]))
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", d.Digest, err)
	}
	p := &pieces{open: map[digest.Digest]content.Reader{}, end: end}
	for _, other := range others {
		if wanted.Whole() {
			break
		}
		if err := s.lookInto(ctx, wanted, other, p); err != nil {
			s.Log.WarnContext(ctx, "a layer's table cannot be read, it is left out", "layer", other.Digest, "error", err)
		}
	}
	p.list = append(wanted.Pieces(), chunked.Piece{Offset: t.Start(), Size: int64(len(end))})
	return s.worthwhile(ctx, p, d, offset)
}

// lookInto looks for what is wanted in a layer of the content, and keeps it open if it has some.
func (s *Service) lookInto(ctx context.Context, wanted *chunked.Wanted, other content.Info, p *pieces) error {
	r, err := s.Content.Open(ctx, other.Digest)
	if err != nil {
		return ignoreNotFound(err)
	}
	t, ok := chunked.Find(r, other.Size)
	if ok {
		ok, err = wanted.Look(other.Digest, r, t)
	}
	if !ok {
		_ = r.Close() // it was only read
		return err
	}
	p.open[other.Digest] = r
	return err
}

// chunked are the layers that a transfer's are put together of. The content is searched for them once.
func (o *origin) chunked(ctx context.Context, s *Service) ([]content.Info, error) {
	o.search.Do(func() { o.found, o.failed = s.chunkedLayers(ctx, o) })
	return o.found, o.failed
}

// chunkedLayers lists the layers of the content that have a table: first those of the same repository, then the newest.
func (s *Service) chunkedLayers(ctx context.Context, from *origin) ([]content.Info, error) {
	var list []content.Info
	err := s.Content.ListAll(ctx, func(i content.Info) error {
		if i.Size < minChunked {
			return nil
		}
		r, err := s.Content.Open(ctx, i.Digest)
		if err != nil {
			return ignoreNotFound(err)
		}
		defer r.Close()
		if _, ok := chunked.Find(r, i.Size); ok {
			list = append(list, i)
		}
		return nil
	})
	near := func(i content.Info) int {
		if slices.Contains(sourcesOf(i.Labels, from.ref.Domain()), from.ref.Path()) {
			return 0
		}
		return 1
	}
	slices.SortFunc(list, func(x, y content.Info) int {
		return cmp.Or(cmp.Compare(near(x), near(y)), y.CreatedAt.Compare(x.CreatedAt))
	})
	return list[:min(len(list), maxSearched)], err
}

// worthwhile is nil for pieces by which less than a tenth of the layer is saved.
func (s *Service) worthwhile(ctx context.Context, p *pieces, d ocispec.Descriptor, offset int64) (*pieces, error) {
	var saved int64
	for _, piece := range p.list {
		if piece.Layer != "" && piece.End() > offset {
			saved += piece.End() - max(piece.Offset, offset)
		}
	}
	if saved < (d.Size-offset)/10 {
		return nil, p.close()
	}
	s.Log.InfoContext(ctx, "layer is put together of others", "layer", d.Digest, "size", d.Size, "here", saved)
	return p, nil
}

// pieces are the parts of a layer that is put together, in their order.
type pieces struct {
	list []chunked.Piece
	open map[digest.Digest]content.Reader // the layers that have some
	end  []byte                           // the last piece
}

// next is the part from an offset on, at most size bytes.
func (p *pieces) next(offset, size int64) *part {
	for p.list[0].End() <= offset {
		p.list = p.list[1:]
	}
	piece := p.list[0]
	skip := offset - piece.Offset
	one := &part{offset: offset, end: min(piece.End(), offset+size)}
	switch {
	case len(p.list) == 1:
		one.here = bytes.NewReader(p.end[skip:])
	case piece.Layer != "":
		one.here = io.NewSectionReader(p.open[piece.Layer], piece.From+skip, one.end-offset)
	}
	return one
}

func (p *pieces) close() (err error) {
	for _, r := range p.open {
		err = cmp.Or(err, r.Close())
	}
	return err
}

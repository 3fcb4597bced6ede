package image

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// How many parts of one blob are fetched, or wait to be read, at a time: as many bytes as some whole ones have, and no more
// than some, however small they are.
const (
	partsAtOnce = 4
	partsAhead  = 16
)

// chunkedPart is how large the parts of layers are that are put together, unless the configuration says how large parts are.
const chunkedPart = 1 << 20 // bytes

// fetch opens a blob at an offset: by one request or, where parts have a size and there is more than one, by several. Unless
// it is to come whole, what other layers have of it is taken from them.
func (s *Service) fetch(ctx context.Context, from *origin, d ocispec.Descriptor, offset int64, whole bool) (io.ReadCloser, error) {
	var put *pieces
	if !whole {
		var err error
		if put, err = s.chunkedParts(ctx, from, d, offset); err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			s.Log.WarnContext(ctx, "a layer is fetched whole", "layer", d.Digest, "error", err)
		}
	}
	if put == nil && (s.config.PartSize <= 0 || d.Size-offset <= s.config.PartSize) {
		return from.registry.Fetch(ctx, from.ref, d, offset)
	}
	ctx, cancel := context.WithCancel(ctx)
	p := &parted{ctx: ctx, cancel: cancel, from: from, d: d, size: s.config.PartSize, at: offset, next: offset, pieces: put}
	if p.size <= 0 {
		p.size = chunkedPart
	}
	p.begin()
	return p, nil
}

// parted reads a blob whose parts are fetched beside each other, each resumed by itself when its connection breaks. A
// host that does not answer with parts is read from there on by one request.
type parted struct {
	ctx    context.Context
	cancel context.CancelFunc
	from   *origin
	d      ocispec.Descriptor
	size   int64   // of a part at most, bytes
	at     int64   // what was read
	next   int64   // where the next part begins
	pieces *pieces // of which it is put together; nil: all of it is fetched
	queue  []*part
	held   int64         // bytes of the queue
	unread []byte        // of the first of the queue
	source io.ReadCloser // whose bytes were read last
	rest   bool          // source is not a part, but all the rest
	busy   sync.WaitGroup
}

type part struct {
	offset, end int64
	here        io.Reader     // what has the bytes; nil: the registry
	done        chan struct{} // closed when the following are set
	data        []byte
	body        io.ReadCloser
	err         error
}

// begin starts as many parts as may be under way.
func (p *parted) begin() {
	for p.held < partsAtOnce*p.size && len(p.queue) < partsAhead && p.next < p.d.Size {
		one := &part{offset: p.next, end: min(p.next+p.size, p.d.Size)}
		if p.pieces != nil {
			one = p.pieces.next(p.next, p.size)
		}
		one.done = make(chan struct{})
		p.next, p.held = one.end, p.held+one.end-one.offset
		p.queue = append(p.queue, one)
		p.busy.Go(func() {
			defer close(one.done)
			one.err = p.bring(one)
		})
	}
}

// bring reads a part into memory.
func (p *parted) bring(one *part) (err error) {
	r := one.here
	if r == nil {
		if one.body, err = p.from.registry.FetchPart(p.ctx, p.from.ref, p.d, one.offset, one.end); err != nil {
			return err
		}
		defer one.body.Close()
		r = one.body
	}
	one.data = make([]byte, one.end-one.offset)
	_, err = io.ReadFull(r, one.data)
	return err
}

// Read implements io.Reader.
func (p *parted) Read(b []byte) (int, error) {
	switch {
	case p.rest:
		return p.source.Read(b)
	case p.at == p.d.Size:
		return 0, io.EOF
	case len(p.unread) == 0:
		if err := p.take(); err != nil {
			return 0, err
		}
		if p.rest {
			return p.source.Read(b)
		}
	}
	n := copy(b, p.unread)
	p.unread, p.at = p.unread[n:], p.at+int64(n)
	if len(p.unread) == 0 {
		p.held -= p.queue[0].end - p.queue[0].offset
		p.queue = p.queue[1:]
		p.begin()
	}
	return n, nil
}

// take waits for the first part of the queue.
func (p *parted) take() (err error) {
	one := p.queue[0]
	select {
	case <-one.done:
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
	if errdefs.IsNotImplemented(one.err) {
		p.source, err = p.from.registry.Fetch(p.ctx, p.from.ref, p.d, p.at)
		p.rest = err == nil
		return err
	}
	p.unread = one.data
	if one.body != nil {
		p.source = one.body
	}
	return one.err
}

// Host names the host that the last bytes came from.
func (p *parted) Host() string {
	if p.source == nil {
		return ""
	}
	return hostOf(p.source, p.from.ref)
}

// Close ends all requests.
func (p *parted) Close() error {
	p.cancel()
	p.busy.Wait()
	var err error
	if p.pieces != nil {
		err = p.pieces.close()
	}
	if p.rest {
		err = errors.Join(err, p.source.Close())
	}
	return err
}

// reject tells the registry that what a body delivered was wrong, unless it was not the registry's alone.
func (s *Service) reject(from *origin, body io.ReadCloser) {
	if p, ok := body.(*parted); ok {
		if p.pieces != nil {
			return
		}
		if p.source != nil {
			body = p.source
		}
	}
	from.registry.Reject(body)
}

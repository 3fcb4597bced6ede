package image

import (
	"context"
	"io"
	"sync"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// partsAtOnce is how many parts of one blob are fetched, or wait to be read, at a time.
const partsAtOnce = 4

// fetch opens a blob at an offset: by one request or, where parts have a size and there is more than one, by several.
func (s *Service) fetch(ctx context.Context, from *origin, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if s.config.PartSize <= 0 || d.Size-offset <= s.config.PartSize {
		return from.registry.Fetch(ctx, from.ref, d, offset)
	}
	ctx, cancel := context.WithCancel(ctx)
	p := &parted{ctx: ctx, cancel: cancel, from: from, d: d, size: s.config.PartSize, at: offset, next: offset}
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
	size   int64 // of a part, bytes
	at     int64 // what was read
	next   int64 // where the next part begins
	queue  []*part
	unread []byte        // of the first of the queue
	source io.ReadCloser // whose bytes were read last
	rest   bool          // source is not a part, but all the rest
	busy   sync.WaitGroup
}

type part struct {
	offset, end int64
	done        chan struct{} // closed when the following are set
	data        []byte
	body        io.ReadCloser
	err         error
}

// begin starts as many parts as may be under way.
func (p *parted) begin() {
	for len(p.queue) < partsAtOnce && p.next < p.d.Size {
		one := &part{offset: p.next, end: min(p.next+p.size, p.d.Size), done: make(chan struct{})}
		p.next = one.end
		p.queue = append(p.queue, one)
		p.busy.Go(func() {
			defer close(one.done)
			if one.body, one.err = p.from.registry.FetchPart(p.ctx, p.from.ref, p.d, one.offset, one.end); one.err != nil {
				return
			}
			one.data = make([]byte, one.end-one.offset)
			_, one.err = io.ReadFull(one.body, one.data)
			_ = one.body.Close()
		})
	}
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
	p.unread, p.source = one.data, one.body
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
	if p.rest {
		return p.source.Close()
	}
	return nil
}

// reject tells the registry that what a body delivered was wrong.
func (s *Service) reject(from *origin, body io.ReadCloser) {
	if p, ok := body.(*parted); ok && p.source != nil {
		body = p.source
	}
	from.registry.Reject(body)
}

package image

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// watched is a download that ends when no byte of it has arrived for a while.
type watched struct {
	io.ReadCloser
	timer *time.Timer
	limit time.Duration
}

// watch begins to watch a download that runs under the context that it returns. It ends with stop.
func (s *Service) watch(ctx context.Context, d ocispec.Descriptor) (watchedCtx context.Context, w *watched, stop func()) {
	limit := s.config.ProgressTimeout
	if limit <= 0 {
		return ctx, nil, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(limit, func() {
		cancel(fmt.Errorf("layer %s (%s): no byte of it has arrived for %s (image.pull_progress_timeout): %w", d.Digest, d.MediaType, limit, errdefs.ErrUnavailable))
	})
	return ctx, &watched{timer: timer, limit: limit}, func() { timer.Stop(); cancel(nil) }
}

// of is a body whose bytes count.
func (w *watched) of(body io.ReadCloser) io.Reader {
	if w == nil {
		return body
	}
	w.ReadCloser = body
	return w
}

// stalled is why a download has ended: that nothing arrived, if that is so, and else what it says itself.
func stalled(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && errdefs.IsUnavailable(cause) {
		return cause
	}
	return err
}

// Read implements io.Reader.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if n > 0 {
		w.timer.Reset(w.limit)
	}
	return n, err
}

package content

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
)

// copySize in bytes is how much is read, hashed or written at once: enough that system calls do not matter.
const copySize = 256 << 10

// copyBuffers are shared by all hashing and copying.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, copySize); return &b }}

// hashFile hashes the first size bytes.
func hashFile(ctx context.Context, r io.ReaderAt, a digest.Algorithm, size int64) (hash.Hash, error) {
	h := a.Hash()
	b := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(b)
	for at := int64(0); at < size; {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		n, err := r.ReadAt((*b)[:min(copySize, size-at)], at)
		h.Write((*b)[:n])
		at += int64(n)
		if err != nil && !(errors.Is(err, io.EOF) && at == size) {
			return nil, fmt.Errorf("read at %d of %d: %w", at, size, err)
		}
	}
	return h, nil
}

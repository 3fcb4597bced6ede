package archive

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory of a zstd frame's window, in bytes, as zstd's own --long=27 does.
const maxWindow = 128 << 20

// sniff tells a compression by its magic number: "gzip" (RFC 1952), "zstd" (RFC 8878) or "".
func sniff(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b, 0x08}):
		return "gzip"
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}), skippable(head):
		return "zstd"
	}
	return ""
}

// skippable tells a zstd skippable frame, with which zstd:chunked and pzstd streams may begin.
func skippable(head []byte) bool {
	return len(head) >= 4 && head[0]&0xf0 == 0x50 && head[1] == 0x2a && head[2] == 0x4d && head[3] == 0x18
}

func decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	head, err := b.Peek(4)
	if len(head) == 0 {
		if err == io.EOF {
			return nil, fmt.Errorf("archive is empty: %w", errdefs.ErrInvalidArgument)
		}
		return nil, err
	}
	switch sniff(head) {
	case "gzip":
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("archive: %v: %w", err, errdefs.ErrInvalidArgument)
		}
		return z, nil
	case "zstd":
		z, err := zstd.NewReader(b, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("archive: %v: %w", err, errdefs.ErrInvalidArgument)
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(b), nil
}

package archive

import (
	"bufio"
	"fmt"
	"io"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/oci/compression"
)

// compressionOf is what a blob that may be a layer is packed by: "gzip", "zstd" or "".
func compressionOf(head []byte) string {
	switch c := compression.Detect(head); c {
	case compression.Gzip, compression.Zstd:
		return string(c)
	}
	return ""
}

func decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	head, err := b.Peek(1)
	if len(head) == 0 {
		if err == io.EOF {
			return nil, fmt.Errorf("archive is empty: %w", errdefs.ErrInvalidArgument)
		}
		return nil, err
	}
	plain, _, err := compression.Decompress(b)
	if err != nil {
		return nil, fmt.Errorf("archive: %v: %w", err, errdefs.ErrInvalidArgument)
	}
	return plain, nil
}

// Package chunked finds out which bytes of a layer are in other layers already.
//
// It is for layers of the kind zstd:chunked: each file, or each part of one, is a zstd frame of its own, and behind the
// last of them lies a table of contents with the digests of all (containers/storage, pkg/chunked/internal/minimal;
// stargz-snapshotter, estargz/zstdchunked). A frame of a layer that is here is taken for the same frame of one that is
// wanted when both tables say the same of it: what it holds, and how long it is. That is a guess, since two compressors may
// differ, and the digest of the whole layer tells whether it was a good one.
package chunked

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// Annotations of a layer's descriptor. Older releases of containers/storage have another prefix.
const (
	prefix      = "io.github.containers.zstd-chunked."
	oldPrefix   = "io.containers.zstd-chunked."
	positionKey = "manifest-position" // offset:size:decompressed size:type
	checksumKey = "manifest-checksum" // of the compressed table
)

// Limits of what is read. The table is read as a stream, but one value in it may be as large as all of it.
const (
	maxTable      = 32 << 20  // bytes, compressed
	maxPlainTable = 128 << 20 // bytes; that of 400,000 files
)

// frameHeader is how long a skippable frame's head is (RFC 8878, section 3.1.2).
const frameHeader = 8

// tableType is the only type of table there is.
const tableType = 1

// Table is where a layer has its table of contents.
type Table struct {
	Offset, Size int64         // of the compressed table in the layer, bytes
	Plain        int64         // its decompressed size, bytes
	Checksum     digest.Digest // of the compressed table; empty where nobody has said it
}

// Announced is the table that the annotations of a layer of some bytes announce, if they do.
func Announced(annotations map[string]string, size int64) (Table, bool) {
	said := func(key string) string { return cmp.Or(annotations[prefix+key], annotations[oldPrefix+key]) }
	t := Table{Checksum: digest.Digest(said(checksumKey))}
	var kind int64
	if n, err := fmt.Sscanf(said(positionKey), "%d:%d:%d:%d", &t.Offset, &t.Size, &t.Plain, &kind); n != 4 || err != nil {
		return Table{}, false
	}
	return t, kind == tableType && t.Checksum.Validate() == nil && t.fits(size)
}

// What ends the layers that have a table: containers/storage's word, and that of its older releases and of estargz.
var magics = [][]byte{[]byte("GNUlInUx"), []byte("GnUlInUx")} // constants

// Footers are skippable frames of numbers of eight bytes: where the table is, how long, how long decompressed, its type,
// and in the newer ones three of another table; then the magic.
const (
	footerSize    = 64
	oldFooterSize = 40
)

// Find reads the end of a layer that is here, which says where its table is, if it has one.
func Find(layer io.ReaderAt, size int64) (Table, bool) {
	var end [frameHeader + footerSize]byte
	if size < int64(len(end)) {
		return Table{}, false
	}
	if _, err := layer.ReadAt(end[:], size-int64(len(end))); err != nil || !slices.ContainsFunc(magics, func(m []byte) bool { return bytes.HasSuffix(end[:], m) }) {
		return Table{}, false
	}
	for _, n := range []int{footerSize, oldFooterSize} {
		frame := end[len(end)-n-frameHeader:]
		if binary.LittleEndian.Uint32(frame)&^0xf != 0x184d2a50 || binary.LittleEndian.Uint32(frame[4:]) != uint32(n) {
			continue
		}
		number := func(i int) int64 { return int64(binary.LittleEndian.Uint64(frame[frameHeader+8*i:])) }
		t := Table{Offset: number(0), Size: number(1), Plain: number(2)}
		return t, number(3) == tableType && t.fits(size)
	}
	return Table{}, false
}

func (t Table) fits(size int64) bool {
	return t.Offset > frameHeader && t.Size > 0 && t.Size <= maxTable && t.Plain > 0 && t.Plain <= maxPlainTable && t.Offset <= size-t.Size
}

// Start is where the frames of files end and that of the table begins.
func (t Table) Start() int64 { return t.Offset - frameHeader }

func malformed(format string, args ...any) error {
	return fmt.Errorf("table of contents of a zstd:chunked layer: "+format+": %w", append(args, errdefs.ErrInvalidArgument)...)
}

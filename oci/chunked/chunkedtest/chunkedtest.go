// Package chunkedtest makes layers of the kind zstd:chunked for tests.
package chunkedtest

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand"
	"testing"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/containerd/stargz-snapshotter/estargz/zstdchunked"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// Layer is a layer and what its descriptor says of it.
type Layer struct {
	Blob        []byte
	Annotations map[string]string
	DiffID      digest.Digest
}

type compression struct {
	*zstdchunked.Compressor
	*zstdchunked.Decompressor
}

// Make packs an archive as estargz does, which puts the files into another order and adds one of its own.
func Make(t testing.TB, archive []byte) Layer {
	t.Helper()
	l := Layer{Annotations: map[string]string{}}
	packed, err := estargz.Build(io.NewSectionReader(bytes.NewReader(archive), 0, int64(len(archive))), estargz.WithCompression(compression{
		&zstdchunked.Compressor{CompressionLevel: zstd.SpeedDefault, Metadata: l.Annotations}, &zstdchunked.Decompressor{},
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	if l.Blob, err = io.ReadAll(packed); err != nil {
		t.Fatal(err)
	}
	plain, err := zstd.NewReader(bytes.NewReader(l.Blob))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if l.DiffID, err = digest.FromReader(plain); err != nil {
		t.Fatal(err)
	}
	return l
}

// Files is an archive of some files with random bytes; the seeds of those that are given are others than their numbers.
func Files(t testing.TB, files, size int, other map[int]int64) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i := range files {
		seed, ok := other[i]
		if !ok {
			seed = int64(i)
		}
		data := make([]byte, size)
		_, _ = rand.New(rand.NewSource(seed)).Read(data) // it cannot fail
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("file%d", i), Size: int64(size), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

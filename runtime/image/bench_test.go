package image

import (
	"fmt"
	"math/rand"
	"testing"

	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/registry/registrytest"
)

// synthetic makes layers like those of real images: many small files and a few large ones, half as large compressed.
func synthetic(layers, size int) [][]byte {
	random := rand.New(rand.NewSource(1)) // reproducible
	var out [][]byte
	for l := range layers {
		var files []entry
		for n := 0; n < size; {
			length := 1 << (10 + random.Intn(9)) // 1 to 256 KiB
			data := make([]byte, length)
			random.Read(data[:length/2])
			for i := length / 2; i < length; i++ {
				data[i] = data[i%64]
			}
			files = append(files, entry{fmt.Sprintf("usr/l%d/f%d", l, len(files)), string(data)})
			n += length
		}
		out = append(out, layerTar(files...))
	}
	return out
}

// BenchmarkPull pulls 400 MB in 30 layers from a registry in the same process.
func BenchmarkPull(b *testing.B) {
	r := registrytest.New(b, registrytest.Options{})
	img := build(oci.Host(), synthetic(30, 400<<20/30)...)
	img.put(r, "big", "1")
	var total int64
	for _, l := range img.layers {
		total += int64(len(l))
	}
	b.Logf("%d MB compressed", total>>20)
	b.SetBytes(400 << 20)
	for b.Loop() {
		b.StopTimer()
		h := newHouse(b, nil)
		b.StartTimer()
		h.pull(b, r.Host()+"/big:1", nil)
	}
}

// BenchmarkResolve is what making a container costs here, and BenchmarkDescribe one line of a list.
func BenchmarkResolve(b *testing.B) {
	h, r := newHouse(b, nil), registrytest.New(b, registrytest.Options{})
	putIndex(r, "a", "1", three())
	img := h.pull(b, r.Host()+"/a:1", nil)
	b.Run("resolve", func(b *testing.B) {
		for b.Loop() {
			must(h.Resolve(b.Context(), ns, img.Name, ""))
		}
	})
	b.Run("unpack", func(b *testing.B) {
		for b.Loop() {
			must(h.Unpack(b.Context(), ns, img.Name, "", "", nil))
		}
	})
	b.Run("describe", func(b *testing.B) {
		for b.Loop() {
			h.Describe(b.Context(), ns, img)
		}
	})
}

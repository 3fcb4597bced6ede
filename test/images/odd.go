package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// names are hard to write into a tar: long, deep, and not ASCII, in both formats that can.
func names() *layer {
	l := newLayer().dir("names", 0o755)
	long := strings.Repeat("n", 250)
	put := func(h tar.Header, text string) {
		h.Mode = 0o644
		l.add(h, []byte(text))
	}
	put(tar.Header{Typeflag: tar.TypeReg, Format: tar.FormatPAX, Name: "names/pax-" + long[:245]}, "pax\n")
	put(tar.Header{Typeflag: tar.TypeReg, Format: tar.FormatGNU, Name: "names/gnu-" + long[:245]}, "gnu\n")
	deep := "names"
	for range 6 {
		deep += "/" + long[:60]
		put(tar.Header{Typeflag: tar.TypeDir, Format: tar.FormatPAX, Name: deep + "/"}, "")
	}
	put(tar.Header{Typeflag: tar.TypeReg, Format: tar.FormatPAX, Name: deep + "/end"}, "deep\n")
	put(tar.Header{Typeflag: tar.TypeSymlink, Format: tar.FormatGNU, Name: "names/far", Linkname: strings.TrimPrefix(deep, "names/") + "/end"}, "")
	put(tar.Header{Typeflag: tar.TypeLink, Format: tar.FormatPAX, Name: "names/hard", Linkname: deep + "/end"}, "")
	put(tar.Header{Typeflag: tar.TypeReg, Format: tar.FormatPAX, Name: "names/größe 名前 space"}, "utf-8\n")
	put(tar.Header{Typeflag: tar.TypeReg, Format: tar.FormatPAX, Name: "names/new\nline"}, "newline\n")
	return l
}

// sparseSize is the apparent size of the file with holes; 8 KiB of it are data.
const sparseSize = 64 << 20

// sparse makes a layer with holes. archive/tar writes none, tar does: as GNU's own type (gnu) and as PAX records (posix).
func sparse(format string) func() ([]byte, error) {
	return func() ([]byte, error) {
		dir, err := os.MkdirTemp("", "sparse")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		name := "sparse-" + format
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		block := bytes.Repeat([]byte("data"), 1024)
		for _, offset := range []int64{1 << 20, 40 << 20} {
			if _, err := f.WriteAt(block, offset); err != nil {
				return nil, err
			}
		}
		if err := f.Truncate(sparseSize); err != nil {
			return nil, err
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
		args := []string{
			"--create", "--sparse", "--format=" + format, "--owner=0", "--group=0", "--numeric-owner",
			"--mode=0644", "--mtime=@1700000000", "-C", dir,
		}
		if format == "posix" {
			args = append(args, "--pax-option=delete=atime,delete=ctime,exthdr.name=%d/PaxHeaders/%f")
		}
		return exec.Command("tar", append(args, name)...).Output()
	}
}

// The image of 400 MB has 30 layers; two thirds of its bytes do not compress.
const (
	largeLayers    = 30
	largeLayerSize = 400_000_000 / largeLayers
)

func large() image {
	i := image{repo: "large", config: ocispec.ImageConfig{Cmd: []string{"sh"}}}
	i.layers = append(i.layers, busybox().bytes)
	for n := 1; n < largeLayers; n++ {
		i.layers = append(i.layers, func() ([]byte, error) { return largeLayer(n).bytes() })
	}
	return i
}

// largeLayer has one big file of random bytes, some of text, and a few hundred small ones, the same at every build.
func largeLayer(n int) *layer {
	var seed [32]byte
	copy(seed[:], fmt.Sprintf("layer %d", n))
	source := rand.NewChaCha8(seed)
	random := func(size int) string {
		b := make([]byte, size)
		_, _ = source.Read(b) // never fails, says math/rand/v2
		return string(b)
	}
	l := newLayer()
	dir := fmt.Sprintf("large/%02d", n)
	l.file(dir+"/random", 0o644, random(largeLayerSize*6/10))
	words := strings.Fields("mount layer image blob digest snapshot process pod container exit plan attachment bundle sandbox")
	var text strings.Builder
	for text.Len() < largeLayerSize*3/10 {
		text.WriteString(words[source.Uint64()%uint64(len(words))])
		text.WriteByte(" \n"[source.Uint64()%8/7])
	}
	l.file(dir+"/text", 0o644, text.String())
	for f := range 300 {
		l.file(fmt.Sprintf("%s/small/%02x/%03d", dir, f%16, f), 0o644, random(largeLayerSize/10/300))
	}
	return l
}

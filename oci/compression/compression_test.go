package compression

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/containerd/errdefs"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func pack(t testing.TB, c Format, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := Compress(&b, c)
	must(t, err)
	_, err = w.Write(data)
	must(t, err)
	must(t, w.Close())
	return b.Bytes()
}

func TestCompression(t *testing.T) {
	data := bytes.Repeat([]byte("some bytes of a layer "), 200_000)
	for _, c := range []Format{Uncompressed, Gzip, Zstd} {
		packed := pack(t, c, data)
		if again := pack(t, c, data); !bytes.Equal(packed, again) {
			t.Errorf("%q is not reproducible", c)
		}
		// Two members after each other are one stream, in both formats.
		for name, test := range map[string]struct{ in, want []byte }{
			"one": {packed, data}, "two": {bytes.Repeat(packed, 2), bytes.Repeat(data, 2)}, "empty": {pack(t, c, nil), nil},
		} {
			r, found, err := Decompress(iotest.HalfReader(bytes.NewReader(test.in)))
			must(t, err)
			got, err := io.ReadAll(r)
			must(t, err)
			must(t, r.Close())
			if !bytes.Equal(got, test.want) || found != c && name != "empty" {
				t.Errorf("%q %s: %d bytes, found %q", c, name, len(got), found)
			}
		}
	}
	if _, err := Compress(io.Discard, "xz"); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("xz: %v", err)
	}
}

// TestDecompressOthers reads what layers do not have, as bzip2(1) and xz(1) write it.
func TestDecompressOthers(t *testing.T) {
	for want, text := range map[Format]string{
		Bzip2: "QlpoOTFBWSZTWcHAgOIAAAFBAAAQAkSgADDNAMNGKZcXckU4UJDBwIDi",
		Xz:    "/Td6WFoAAATm1rRGAgAhARYAAAB0L+WjAQAFaGVsbG8KAAAApWCX8ZT2/eAAAR4GwS+kHR+2830BAAAAAARZWg==",
	} {
		data, err := base64.StdEncoding.DecodeString(text)
		must(t, err)
		r, found, err := Decompress(iotest.OneByteReader(bytes.NewReader(data)))
		must(t, err)
		got, err := io.ReadAll(r)
		if err != nil || found != want || string(got) != "hello\n" {
			t.Errorf("%s: %q, found %q, %v", want, got, found, err)
		}
		data[len(data)/2] ^= 0x55
		if r, _, err = Decompress(bytes.NewReader(data)); err == nil {
			_, err = io.ReadAll(r)
		}
		if !errdefs.IsDataLoss(err) {
			t.Errorf("%s, damaged: %v", want, err)
		}
	}
}

func TestDecompressDamage(t *testing.T) {
	data := make([]byte, 3<<20)
	for i := range data {
		data[i] = byte(i * i >> 3)
	}
	broken := errors.New("connection reset")
	for _, c := range []Format{Gzip, Zstd} {
		packed := pack(t, c, data)
		damaged := bytes.Clone(packed)
		damaged[len(damaged)/2] ^= 0x55
		for name, test := range map[string]struct {
			in   io.Reader
			want error
		}{
			"cut off":       {bytes.NewReader(packed[:len(packed)-9]), errdefs.ErrDataLoss},
			"damaged":       {bytes.NewReader(damaged), errdefs.ErrDataLoss},
			"not its fault": {io.MultiReader(bytes.NewReader(packed[:len(packed)/2]), iotest.ErrReader(broken)), broken},
		} {
			r, _, err := Decompress(test.in)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
				_ = r.Close() // ends what reads ahead; what was wrong is known
			}
			if !errors.Is(err, test.want) {
				t.Errorf("%s %s: %v, want %v", c, name, err, test.want)
			}
		}
	}
}

// TestDecompressClose leaves in the middle.
func TestDecompressClose(t *testing.T) {
	for _, c := range []Format{Gzip, Zstd} {
		r, _, err := Decompress(bytes.NewReader(pack(t, c, make([]byte, 50<<20))))
		must(t, err)
		_, err = io.ReadFull(r, make([]byte, 10))
		must(t, err)
		must(t, r.Close())
	}
}

// TestDecompressChunked reads zstd:chunked as any zstd: frames for chunks, and skippable ones with the table of contents and
// the footer behind them (containers/storage, pkg/chunked/internal/minimal).
func TestDecompressChunked(t *testing.T) {
	skippable := func(content string) []byte {
		return append([]byte{0x50, 0x2a, 0x4d, 0x18, byte(len(content)), 0, 0, 0}, content...)
	}
	chunk := func(text string) []byte { return pack(t, Zstd, []byte(text)) }
	data := bytes.Join([][]byte{chunk("first "), chunk("second"), skippable("table of contents"), skippable("footer")}, nil)
	r, c, err := Decompress(bytes.NewReader(data))
	must(t, err)
	got, err := io.ReadAll(r)
	must(t, err)
	if string(got) != "first second" || c != Zstd || r.Close() != nil {
		t.Errorf("%s %q", c, got)
	}
}

func FuzzDecompress(f *testing.F) {
	for _, c := range []Format{Uncompressed, Gzip, Zstd} {
		f.Add(pack(f, c, bytes.Repeat([]byte("abc"), 1000)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, c, err := Decompress(bytes.NewReader(data))
		if err != nil {
			return
		}
		n, err := io.Copy(io.Discard, io.LimitReader(r, 64<<20))
		if c == Uncompressed && (err != nil || n != int64(len(data))) {
			t.Errorf("uncompressed: %d of %d bytes, %v", n, len(data), err)
		}
		_ = r.Close() // the error, if any, has been read
	})
}

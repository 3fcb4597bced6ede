package encryption

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

func encrypt(t testing.TB, plain []byte) ([]byte, Key) {
	t.Helper()
	e, err := Encrypt(bytes.NewReader(plain))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Key(""); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("the key before the end: %v", err)
	}
	data, err := io.ReadAll(e)
	if err != nil {
		t.Fatal(err)
	}
	k, err := e.Key(digest.FromBytes(plain))
	if err != nil {
		t.Fatal(err)
	}
	return data, k
}

func TestRoundTrip(t *testing.T) {
	plain := []byte(strings.Repeat("a layer of some length ", 1000))
	data, k := encrypt(t, plain)
	if bytes.Contains(data, []byte("layer")) || k.Plain() != digest.FromBytes(plain) {
		t.Errorf("it is not encrypted, or the key says it is %q", k.Plain())
	}
	for name, wrap := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "in bytes": iotest.OneByteReader, "data with its end": iotest.DataErrReader} {
		r, err := Decrypt(wrap(bytes.NewReader(data)), k)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %d bytes, error %v", name, len(got), err)
		}
	}
}

func TestDecryptWrong(t *testing.T) {
	data, k := encrypt(t, []byte("plain"))
	_, other := encrypt(t, []byte("plain"))
	for name, broken := range map[string]struct {
		data []byte
		key  Key
	}{
		"another key":     {data, other},
		"half another":    {data, Key{k.Public, other.Private}},
		"a changed byte":  {append([]byte{data[0] ^ 1}, data[1:]...), k},
		"a byte is short": {data[1:], k},
	} {
		r, err := Decrypt(bytes.NewReader(broken.data), broken.key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r); !errors.Is(err, errdefs.ErrDataLoss) {
			t.Errorf("%s: error %v, want ErrDataLoss", name, err)
		}
	}
	for name, bad := range map[string]Key{
		"nothing":        {},
		"no JSON":        {[]byte("x"), []byte("y")},
		"another cipher": {[]byte(`{"cipher":"ROT13"}`), k.Private},
		"a short key":    {k.Public, []byte(`{"symkey":"AAAA"}`)},
	} {
		if _, err := Decrypt(nil, bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: error %v, want ErrInvalidArgument", name, err)
		}
	}
}

func FuzzDecrypt(f *testing.F) {
	data, k := encrypt(f, []byte("plain"))
	f.Add(data, k.Public, k.Private)
	f.Fuzz(func(t *testing.T, data, public, private []byte) {
		r, err := Decrypt(bytes.NewReader(data), Key{public, private})
		if err != nil {
			return
		}
		if _, err := io.ReadAll(r); err != nil && !errors.Is(err, errdefs.ErrDataLoss) {
			t.Error(err)
		}
		if !json.Valid(public) {
			t.Error("a key that is no JSON was taken")
		}
	})
}

package client

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/containerd/errdefs"
)

func TestParseDetachKeys(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "a": "a", "ctrl-p,ctrl-q": "\x10\x11", "ctrl-A,b": "\x01b", "ctrl-@": "\x00", "ctrl-[": "\x1b", "ctrl-_,Z": "\x1fZ",
	} {
		if got, err := ParseDetachKeys(in); err != nil || string(got) != want {
			t.Errorf("%q: got %q, %v; want %q", in, got, err, want)
		}
	}
	for _, bad := range []string{"ctrl-", "ctrl-1", "ab", "a,", "ctrl-pq", "\x01"} {
		if keys, err := ParseDetachKeys(bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: got %q, %v; want an invalid argument", bad, keys, err)
		}
	}
}

// FuzzDetachReader compares the reader, fed in any pieces, with a search in the whole input.
func FuzzDetachReader(f *testing.F) {
	f.Add([]byte("ab\x10\x11cd"), []byte("\x10\x11"))
	f.Add([]byte("aaab"), []byte("aab"))
	f.Add([]byte("ababac"), []byte("abac"))
	f.Add([]byte("aa"), []byte("aaa"))
	f.Add([]byte("x"), []byte(""))
	f.Fuzz(func(t *testing.T, in, keys []byte) {
		if len(keys) > 16 {
			return
		}
		want, wantErr := in, error(nil)
		if i := bytes.Index(in, keys); i >= 0 && len(keys) > 0 {
			want, wantErr = in[:i], errDetached
		}
		for name, r := range map[string]io.Reader{
			"whole": bytes.NewReader(in), "bytes": iotest.OneByteReader(bytes.NewReader(in)),
			"halves": iotest.HalfReader(bytes.NewReader(in)), "early error": iotest.DataErrReader(bytes.NewReader(in)),
		} {
			got, err := io.ReadAll(&detachReader{r: r, keys: keys})
			if !bytes.Equal(got, want) || !errors.Is(err, wantErr) {
				t.Errorf("%s: keys %q in %q: passed %q, %v; want %q, %v", name, keys, in, got, err, want, wantErr)
			}
		}
	})
}

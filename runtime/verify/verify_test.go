package verify

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var target = ocispec.Descriptor{
	MediaType: ocispec.MediaTypeImageIndex, Size: 7,
	Digest: "sha256:1111111111111111111111111111111111111111111111111111111111111111",
}

func programs(t *testing.T, o Options, scripts map[string]string) *Programs {
	t.Helper()
	o.Dir = t.TempDir()
	for name, text := range scripts {
		if err := os.WriteFile(filepath.Join(o.Dir, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return Open(o)
}

func TestVerify(t *testing.T) {
	const strict = `read descriptor
[ "$*" = "-name example.org/a:1 -digest sha256:1111111111111111111111111111111111111111111111111111111111111111 -stdin-media-type application/vnd.oci.descriptor.v1+json" ] || { echo "arguments: $*"; exit 1; }
case "$descriptor" in *'"mediaType":"application/vnd.oci.image.index.v1+json"'*'"size":7'*) exit 0;; esac
echo "descriptor: $descriptor"; exit 1`
	for name, c := range map[string]struct {
		scripts map[string]string
		options Options
		refused string // part of the error; empty: accepted
	}{
		"none":         {nil, Options{}, ""},
		"accepts":      {map[string]string{"a": strict}, Options{}, ""},
		"all accept":   {map[string]string{"a": "exit 0", "b": "exit 0"}, Options{}, ""},
		"refuses":      {map[string]string{"a": "echo not; echo signed; exit 3"}, Options{}, "verifier a: not signed (exit status 3)"},
		"silent":       {map[string]string{"a": "exit 1"}, Options{}, "gives no reason"},
		"the second":   {map[string]string{"a": "exit 0", "b": "echo no; exit 1"}, Options{}, "verifier b: no"},
		"beyond max":   {map[string]string{"a": "exit 0", "b": "exit 1"}, Options{Max: 1}, ""},
		"no max":       {map[string]string{"a": "exit 0", "b": "exit 1"}, Options{Max: -1}, "verifier b"},
		"timeout":      {map[string]string{"a": "sleep 60"}, Options{Timeout: 200 * time.Millisecond}, "did not answer in 200ms"},
		"huge":         {map[string]string{"a": "head -c 20000000 /dev/zero | tr '\\0' x; exit 1"}, Options{}, "xxx (exit"},
		"huge, errors": {map[string]string{"a": "head -c 20000000 /dev/zero | tr '\\0' x >&2; exit 0"}, Options{}, ""},
		"a child left": {map[string]string{"a": "sleep 3 & exit 0"}, Options{}, ""},
		"reads little": {map[string]string{"a": "exec <&-; exit 0"}, Options{}, ""},
		"killed":       {map[string]string{"a": "kill -9 $$"}, Options{}, "signal: killed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			err := programs(t, c.options, c.scripts).Verify(t.Context(), "example.org/a:1", target)
			if took := time.Since(began); took > 2500*time.Millisecond {
				t.Errorf("it took %s", took)
			}
			switch {
			case c.refused == "" && err != nil:
				t.Fatal(err)
			case c.refused != "" && (!errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), c.refused)):
				t.Fatalf("error %.300v; want a refusal with %q", err, c.refused)
			case err != nil && len(err.Error()) > maxReason+300:
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestVerifyWithout(t *testing.T) {
	if err := Open(Options{Dir: filepath.Join(t.TempDir(), "none")}).Verify(t.Context(), "a", target); err != nil {
		t.Errorf("without the directory: %v", err)
	}
	p := programs(t, Options{}, map[string]string{"a": "exit 0"})
	if err := os.Chmod(filepath.Join(p.Dir, "a"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := p.Verify(t.Context(), "a", target); !errdefs.IsPermissionDenied(err) {
		t.Errorf("a file that is no program: %v; want a refusal", err)
	}
}

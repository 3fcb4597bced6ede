package trust

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestAcceptsAll(t *testing.T) {
	const accept = `[{"type":"insecureAcceptAnything"}]`
	for text, want := range map[string]bool{
		`{"default":` + accept + `}`: true,
		`{"default":` + accept + `,"transports":{"docker-daemon":{"":` + accept + `}}}`:          true,
		`{"default":` + accept + `,"transports":{"docker":{"a.example/b":[{"type":"reject"}]}}}`: false,
		`{"default":[{"type":"reject"}]}`:        false,
		`{"default":[]}`:                         false,
		`{}`:                                     false,
		`{"default":` + accept + `} trailing`:    false,
		`{"default":` + accept + `,"unknown":1}`: false,
		`{"default":[{"type":"insecureAcceptAnything"},{"type":"signedBy"}]}`: false,
		``: false,
	} {
		if got := acceptsAll([]byte(text)); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
}

func FuzzAcceptsAll(f *testing.F) {
	f.Add([]byte(`{"default":[{"type":"insecureAcceptAnything"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if acceptsAll(data) && !strings.Contains(string(data), "insecureAcceptAnything") && !strings.Contains(string(data), `\u`) {
			t.Errorf("%q accepts nothing", data)
		}
	})
}

func TestPolicyFor(t *testing.T) {
	dir := t.TempDir()
	own := filepath.Join(dir, "prod.json")
	if err := os.WriteFile(own, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s := Settings{Policy: "/general.json", PolicyDir: dir}
	for namespace, want := range map[string]string{"": "/general.json", "prod": own, "test": "/general.json"} {
		if got, err := s.policyFor(namespace); err != nil || got != want {
			t.Errorf("namespace %q: %q, %v", namespace, got, err)
		}
	}
	for _, bad := range []string{"../prod", "a/b", "."} {
		if _, err := s.policyFor(bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("namespace %q: error %v", bad, err)
		}
	}
}

// script is a program that says what it is told to, after a look at what it was asked.
func script(t *testing.T, lines ...string) *Judge {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nread question\n"+strings.Join(lines, "\n")+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	policy := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(policy, []byte(`{"default":[{"type":"reject"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	j, err := Open(Options{Program: path, State: filepath.Join(t.TempDir(), "state"), Settings: Settings{Policy: policy}})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// source has a manifest, or an error.
type source struct {
	err   error
	asked int
}

func (s *source) Manifest(context.Context) ([]byte, error) { s.asked++; return []byte("{}"), s.err }
func (s *source) Signatures(context.Context) ([][]byte, bool, error) {
	return [][]byte{[]byte("one")}, false, nil
}

func TestCheck(t *testing.T) {
	image := Image{Name: "a.example/b:c", Digest: digest.FromString("{}")}
	gone := fmt.Errorf("the registry is gone: %w", errdefs.ErrUnavailable)
	for _, row := range []struct {
		name  string
		lines []string
		from  source
		is    func(error) bool
		says  string
		asked int
	}{
		{"allowed by its name", []string{`echo '{"allowed":true}'`}, source{}, nil, "", 0},
		{"allowed", []string{`echo '{"wantsMaterial":true}'`, `read material`, `echo '{"allowed":true,"signatures":["b25l"]}'`}, source{}, nil, "", 1},
		{"refused", []string{`echo '{"refused":"no signature."}'`}, source{}, func(err error) bool { return errors.Is(err, ErrSignature) && errdefs.IsPermissionDenied(err) }, "no signature", 0},
		{"no material", []string{`echo '{"wantsMaterial":true}'`, `read material`, `echo '{"error":"there is none"}'`}, source{err: gone}, errdefs.IsUnavailable, "the registry is gone", 1},
		{"no answer", nil, source{}, errdefs.IsFailedPrecondition, "does not answer", 0},
		{"no JSON", []string{"echo yes"}, source{}, errdefs.IsFailedPrecondition, "does not answer", 0},
		{"it fails", []string{"echo 'its library is gone' >&2", "exit 3"}, source{}, errdefs.IsFailedPrecondition, "its library is gone", 0},
	} {
		j := script(t, row.lines...)
		seen, err := j.Check(t.Context(), image, &row.from)
		if row.is == nil && err != nil || row.is != nil && (err == nil || !row.is(err)) || err != nil && !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: error %v", row.name, err)
		}
		if row.from.asked != row.asked || row.name == "allowed" && len(seen) != 1 {
			t.Errorf("%s: the source was asked %d times, signatures %q", row.name, row.from.asked, seen)
		}
		if left, _ := os.ReadDir(j.state); len(left) != 0 {
			t.Errorf("%s: left behind: %v", row.name, left)
		}
	}
	j := script(t)
	j.program = "/nonexistent/minid-trust"
	if _, err := j.Check(t.Context(), image, &source{}); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "image.trust_program") {
		t.Errorf("no program: %v", err)
	}
	j.Set(Settings{})
	if _, err := j.Check(t.Context(), image, &source{}); err != nil {
		t.Errorf("no policy: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := script(t, "exec sleep 60").Check(ctx, image, &source{}); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits: %v", err)
	}
}

func TestKeys(t *testing.T) {
	layers := []ocispec.Descriptor{{Digest: digest.FromString("a"), MediaType: "x+encrypted"}}
	keys, err := script(t, `echo '{"keys":[{"Public":"cA==","Private":"cQ=="}]}'`).Keys(t.Context(), layers)
	if err != nil || len(keys) != 1 || string(keys[0].Public) != "p" || string(keys[0].Private) != "q" {
		t.Errorf("%q, %v", keys, err)
	}
	if _, err := script(t, `echo '{"keys":[{"refused":"no key fits"}]}'`).Keys(t.Context(), layers); !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "no key fits") {
		t.Errorf("refused: %v", err)
	}
	if _, err := script(t, `echo '{}'`).Keys(t.Context(), layers); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("too few: %v", err)
	}
}

package name

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

const hex64 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParse(t *testing.T) {
	for _, c := range []struct{ in, full, familiar, domain, path, tag, digest string }{
		{"busybox", "docker.io/library/busybox:latest", "busybox:latest", "docker.io", "library/busybox", "latest", ""},
		{"busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36", "docker.io", "library/busybox", "1.36", ""},
		{"index.docker.io/user/x", "docker.io/user/x:latest", "user/x:latest", "docker.io", "user/x", "latest", ""},
		{"user/x", "docker.io/user/x:latest", "user/x:latest", "docker.io", "user/x", "latest", ""},
		{"localhost/x", "localhost/x:latest", "localhost/x:latest", "localhost", "x", "latest", ""},
		{"localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000", "a/b", "c", ""},
		{"[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest", "[::1]:5000", "x", "latest", ""},
		{"quay.io/a@sha256:" + hex64, "quay.io/a@sha256:" + hex64, "quay.io/a@sha256:" + hex64, "quay.io", "a", "", "sha256:" + hex64},
		{"a:1@sha256:" + hex64, "docker.io/library/a:1@sha256:" + hex64, "a:1@sha256:" + hex64, "docker.io", "library/a", "1", "sha256:" + hex64},
		{"docker.io/localhost/x:1", "docker.io/localhost/x:1", "docker.io/localhost/x:1", "docker.io", "localhost/x", "1", ""},
		{"c0ffee", "docker.io/library/c0ffee:latest", "c0ffee:latest", "docker.io", "library/c0ffee", "latest", ""},
	} {
		r, err := Parse(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		got := []string{r.String(), r.Familiar(), r.Domain(), r.Path(), r.Tag(), r.Digest().String(), r.Repository()}
		want := []string{c.full, c.familiar, c.domain, c.path, c.tag, c.digest, c.domain + "/" + c.path}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%s: got %q, want %q", c.in, got[i], want[i])
			}
		}
	}
}

func TestParseExplains(t *testing.T) {
	for in, hint := range map[string]string{
		"":                       "empty",
		"https://quay.io/a":      `write "quay.io/a"`,
		"docker://busybox":       `write "busybox"`,
		" busybox":               "white space",
		"Busybox":                "lower case",
		hex64:                    "image id",
		"a:b:c":                  "the form is",
		strings.Repeat("a", 300): "255",
		"x@sha256:123":           "the form is",
	} {
		_, err := Parse(in)
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), hint) {
			t.Errorf("%q: got %v, want a hint with %q", in, err, hint)
		}
	}
}

func TestParseRepository(t *testing.T) {
	if r, err := ParseRepository("busybox"); err != nil || r.String() != "docker.io/library/busybox" {
		t.Errorf("got %v, %v", r, err)
	}
	if _, err := ParseRepository("busybox:1"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a tag was accepted: %v", err)
	}
}

func TestWith(t *testing.T) {
	r, err := Parse("a:1")
	if err != nil {
		t.Fatal(err)
	}
	d := digest.FromString("x")
	if got := r.WithDigest(d); got.Tag() != "1" || got.Identifier() != d.String() {
		t.Errorf("got %v", got)
	}
	if got, err := r.WithDigest(d).WithTag("2"); err != nil || got.String() != "docker.io/library/a:2" {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", "-a", "a b", "a/b", strings.Repeat("a", 129)} {
		if _, err := r.WithTag(bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("tag %q: %v", bad, err)
		}
	}
}

func TestJSON(t *testing.T) {
	r, _ := Parse("a:1@sha256:" + hex64)
	raw, err := json.Marshal(map[string]Ref{"r": r, "zero": {}})
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]Ref
	if err := json.Unmarshal(raw, &back); err != nil || back["r"] != r || !back["zero"].IsZero() {
		t.Errorf("%s became %v, %v", raw, back, err)
	}
}

func TestIDs(t *testing.T) {
	for in, want := range map[string]string{
		"c0ffee": "sha256:c0ffee", "sha256:c0ffee": "sha256:c0ffee", "sha512:ab": "sha512:ab", hex64: "sha256:" + hex64,
		"": "", "busybox": "", "sha256:": "", "md5:aa": "", hex64 + "0": "", "ABC": "", "busybox:1": "",
	} {
		if got, ok := IDPrefix(in); got != want || ok != (want != "") {
			t.Errorf("%q: got %q, %v", in, got, ok)
		}
	}
	if !IsID(hex64) || !IsID("sha256:"+hex64) || IsID("c0ffee") || IsID("busybox") {
		t.Error("IsID is wrong")
	}
	if Short(digest.Digest("sha256:"+hex64)) != hex64[:12] || Short("abc") != "abc" {
		t.Error("Short is wrong")
	}
}

// likeLibrary compares with github.com/distribution/reference, by which everybody else reads names. What it takes for a
// name without a registry although a registry was written (a_b.example/x) is an error here.
func likeLibrary(t *testing.T, s string, r Ref, err error) {
	t.Helper()
	named, theirs := reference.ParseNormalizedNamed(s)
	if theirs != nil || reference.Domain(named) == "" {
		if err == nil {
			t.Errorf("%q is %v, and refused by the library: %v", s, r, theirs)
		}
		return
	}
	want := Ref{domain: reference.Domain(named), path: reference.Path(named)}
	if tagged, ok := named.(reference.Tagged); ok {
		want.tag = tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		want.digest = digested.Digest()
	}
	if want.tag == "" && want.digest == "" {
		want.tag = DefaultTag
	}
	if err != nil || r != want {
		t.Errorf("%q is %#v (%v), the library says %#v", s, r, err, want)
	}
	if short := familiar(r.domain, r.path); short != reference.FamiliarName(named) {
		t.Errorf("%q is %q for short, the library says %q", s, short, reference.FamiliarName(named))
	}
}

// TestLikeLibrary puts names together from parts that matter.
func TestLikeLibrary(t *testing.T) {
	parts := []string{"a", "A", "localhost", "x.y", "a_b", "a__b", "a___b", "a-b", "a--b", "-a", "a-", "a..b", "a.", "_", "", "[::1]", "[::g]", "[]", "h:80", "h:", "h:x", "index.docker.io", "docker.io", "library", "é", "a b", "-.a"}
	ends := []string{"", ":1", ":", ":_x", ":.x", ":a/b", ":a:b", "@", "@sha256:" + hex64, "@sha256:12", "@md5:" + hex64[:32], ":1@sha256:" + hex64, "@sha256:" + hex64 + ":1", ":" + strings.Repeat("t", 128), ":" + strings.Repeat("t", 129), ":é"}
	check := func(s string) {
		r, err := Parse(s)
		likeLibrary(t, s, r, err)
	}
	for _, end := range ends {
		for _, a := range parts {
			check(a + end)
			for _, b := range parts {
				check(a + "/" + b + end)
				check(a + "/x/" + b + end)
			}
		}
	}
	for _, n := range []int{120, 127, 128, 255, 256} {
		check(strings.Repeat("a", n))
		check("x.y/" + strings.Repeat("a", n))
		check("x.y/" + strings.Repeat("a/", n/2) + "a")
	}
	check(hex64)
	check(hex64 + ":1")
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"busybox", "a:1@sha256:" + hex64, "localhost:5000/a", "[::1]/a", "A", "docker.io/a", "docker.io/library/a", "a/b/c:d", "docker.io/localhost/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		likeLibrary(t, s, r, err)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Fatalf("%q: class of %v", s, err)
			}
			return
		}
		for _, form := range []string{r.String(), r.Familiar()} {
			if back, err := Parse(form); err != nil || back != r {
				t.Fatalf("%q: %q is read back as %v, %v", s, form, back, err)
			}
		}
	})
}

// Package name reads and writes image references the way Docker normalises
// them: "busybox" is docker.io/library/busybox:latest. A reference may carry
// a tag and a digest at once. It also knows what an (abbreviated) image id
// looks like, so that a caller can tell "c0ffee" the id from "c0ffee" the
// name. It does not talk to registries and does not know which images exist.
package name

import (
	_ "crypto/sha256" // digests are only accepted for algorithms that are linked in
	_ "crypto/sha512"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// DefaultTag is added to references that have neither a tag nor a digest.
const DefaultTag = "latest"

// Ref is a normalised reference. It is a value: comparable with ==, usable as
// a map key. The zero value refers to nothing; see IsZero.
type Ref struct {
	domain string // docker.io, localhost:5000
	path   string // library/busybox
	tag    string
	digest digest.Digest
}

// Parse reads a reference as a user types it. The default domain, the
// "library/" prefix and the tag "latest" (when there is neither tag nor
// digest) are added. Errors are errdefs.ErrInvalidArgument and say what to
// write instead where that can be known.
func Parse(s string) (Ref, error) {
	r, err := parse(s)
	if err != nil {
		return Ref{}, err
	}
	if r.tag == "" && r.digest == "" {
		r.tag = DefaultTag
	}
	return r, nil
}

// ParseRepository reads the name of a repository: a reference without tag and
// digest. The Ref has neither; see WithTag and WithDigest.
func ParseRepository(s string) (Ref, error) {
	r, err := parse(s)
	if err != nil {
		return Ref{}, err
	}
	if r.tag != "" || r.digest != "" {
		return Ref{}, fmt.Errorf("repository %q: a repository has no tag and no digest, write %q: %w",
			s, r.TrimVersion().Familiar(), errdefs.ErrInvalidArgument)
	}
	return r, nil
}

func parse(s string) (Ref, error) {
	r, err := normalized(s)
	if err != nil {
		return Ref{}, explain(s, err)
	}
	return r, nil
}

// explain turns the grammar's terse error into one that says what to do.
func explain(s string, err error) error {
	hint := ""
	switch {
	case s == "":
		hint = "the reference is empty"
	case strings.Contains(s, "://"):
		hint = fmt.Sprintf("a reference has no scheme, write %q", s[strings.Index(s, "://")+3:])
	case strings.TrimSpace(s) != s:
		hint = "remove the white space around it"
	case errors.Is(err, errUppercase):
		hint = "the repository must be lower case"
	case errors.Is(err, errTooLong):
		hint = fmt.Sprintf("the repository has more than %d characters", maxRepository)
	case IsID(s):
		hint = "this is an image id, not a name"
	default:
		hint = "the form is [host[:port]/]repository[:tag][@digest]: " + err.Error()
	}
	return fmt.Errorf("reference %q: %s: %w", s, hint, errdefs.ErrInvalidArgument)
}

// IsZero reports whether r refers to nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

// Domain is the registry's name, with the port if one was given: "docker.io",
// "localhost:5000". The host that is contacted may be another one.
func (r Ref) Domain() string { return r.domain }

// Path is the repository within its registry: "library/busybox".
func (r Ref) Path() string { return r.path }

// Repository is the domain and the path: "docker.io/library/busybox".
func (r Ref) Repository() string {
	if r.IsZero() {
		return ""
	}
	return r.domain + "/" + r.path
}

// Tag is the tag, or "" when the reference has only a digest.
func (r Ref) Tag() string { return r.tag }

// Digest is the digest, or "".
func (r Ref) Digest() digest.Digest { return r.digest }

// Identifier is what the registry is asked for: the digest when there is one,
// otherwise the tag.
func (r Ref) Identifier() string {
	if r.digest != "" {
		return r.digest.String()
	}
	return r.tag
}

// String is the complete form, which Parse reads back to the same Ref.
func (r Ref) String() string { return r.Repository() + r.version() }

// Familiar is the form users expect to see: without docker.io/ and library/,
// unless it would then be read as another reference (docker.io/localhost/x).
func (r Ref) Familiar() string {
	if r.IsZero() {
		return ""
	}
	short := familiar(r.domain, r.path)
	if back, err := parse(short); err != nil || back != r.TrimVersion() {
		return r.String()
	}
	return short + r.version()
}

func (r Ref) version() string {
	v := ""
	if r.tag != "" {
		v += ":" + r.tag
	}
	if r.digest != "" {
		v += "@" + r.digest.String()
	}
	return v
}

// WithTag is r with another tag and no digest. ErrInvalidArgument for a tag
// that the grammar does not allow.
func (r Ref) WithTag(tag string) (Ref, error) {
	if !isTag(tag) {
		return Ref{}, fmt.Errorf("tag %q: a tag is 1 to 128 letters, digits, '_', '.' or '-', not starting with '.' or '-': %w",
			tag, errdefs.ErrInvalidArgument)
	}
	r.tag, r.digest = tag, ""
	return r, nil
}

// WithDigest is r with this digest; the tag is kept. The digest must be valid
// (digest.Digest.Validate); "" removes it.
func (r Ref) WithDigest(d digest.Digest) Ref {
	r.digest = d
	return r
}

// TrimVersion is r without tag and digest.
func (r Ref) TrimVersion() Ref {
	r.tag, r.digest = "", ""
	return r
}

// MarshalText writes the complete form, so that a Ref can be a JSON value.
func (r Ref) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (r *Ref) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*r = Ref{}
		return nil
	}
	parsed, err := parse(string(text))
	if err != nil {
		return err
	}
	*r = parsed
	return nil
}

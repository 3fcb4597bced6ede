package archive

import (
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// AnnotationName is where containerd's tools put the full name of an image in an index.json.
const AnnotationName = "io.containerd.image.name"

// Naming says how the images of an archive are called.
type Naming struct {
	// Base completes names that are only tags: base:tag. When Filter is set, full names that do not belong to Base are
	// dropped.
	Base   string
	Filter bool
	// Digests adds base@digest, except for images that have a name when SkipDigestForNamed is set.
	Digests            bool
	SkipDigestForNamed bool
}

// Names returns the names of one descriptor of an archive's index, none when it has none. A full name in
// io.containerd.image.name wins over org.opencontainers.image.ref.name, which is often only a tag.
func (n Naming) Names(d ocispec.Descriptor) []string {
	var names []string
	if name := n.name(d.Annotations); name != "" {
		names = append(names, name)
	}
	if n.Digests && n.Base != "" && !(n.SkipDigestForNamed && len(names) > 0) {
		names = append(names, n.digestName(d.Digest))
	}
	return names
}

func (n Naming) digestName(d digest.Digest) string { return normalise(n.Base + "@" + d.String()) }

func (n Naming) name(annotations map[string]string) string {
	if full := annotations[AnnotationName]; full != "" {
		if n.Filter && !belongs(full, n.Base) {
			return ""
		}
		return normalise(full)
	}
	ref := annotations[ocispec.AnnotationRefName]
	switch {
	case ref == "":
		return ""
	case strings.ContainsAny(ref, "/:@"):
		if n.Filter && !belongs(ref, n.Base) {
			return ""
		}
		return normalise(ref)
	case n.Base == "":
		return ""
	}
	return normalise(n.Base + ":" + ref)
}

// belongs tells whether a name is of the repository base or below it.
func belongs(name, base string) bool {
	if rest, ok := strings.CutPrefix(name, base); ok {
		return rest == "" || strings.ContainsRune("/:@", rune(rest[0])) || strings.HasSuffix(base, "/")
	}
	full := strings.TrimSuffix(normalise(base), ":latest")
	rest, ok := strings.CutPrefix(name, full)
	return ok && (rest == "" || strings.ContainsRune("/:@", rune(rest[0])))
}

// normalise completes a name as Docker does (busybox → docker.io/library/busybox:latest); "" when it is no reference.
func normalise(name string) string {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return ""
	}
	return reference.TagNameOnly(ref).String()
}

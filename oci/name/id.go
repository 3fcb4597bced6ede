package name

import (
	"strings"

	"github.com/opencontainers/go-digest"
)

// ShortLength is the number of hex characters of an id that users see.
const ShortLength = 12

// Short is the abbreviated form of a digest that users see: the first 12 hex
// characters without the algorithm. A string that is no digest is returned as
// it is.
func Short(d digest.Digest) string {
	_, hex, ok := strings.Cut(d.String(), ":")
	if !ok {
		return d.String()
	}
	if len(hex) > ShortLength {
		hex = hex[:ShortLength]
	}
	return hex
}

// IsID reports whether s is a complete image id: 64 lower-case hex characters,
// or a digest.
func IsID(s string) bool {
	if d, err := digest.Parse(s); err == nil {
		return d.Validate() == nil
	}
	return len(s) == 64 && isHex(s)
}

// IDPrefix reports whether s may be an abbreviated image id, and which prefix
// of a digest's string it stands for: "c0ffee" and "sha256:c0ffee" both give
// "sha256:c0ffee". Such a string may be a valid name at the same time: look
// for a name first, as Docker does.
func IDPrefix(s string) (prefix string, ok bool) {
	algorithm, hex, found := strings.Cut(s, ":")
	if !found {
		algorithm, hex = digest.SHA256.String(), s
	}
	a := digest.Algorithm(algorithm)
	if !a.Available() || hex == "" || len(hex) > a.Size()*2 || !isHex(hex) {
		return "", false
	}
	return algorithm + ":" + hex, true
}

func isHex(s string) bool {
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

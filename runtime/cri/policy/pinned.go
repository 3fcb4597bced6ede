package policy

import (
	"path"
	"slices"
	"strings"
)

// Pinned says whether the kubelet must not collect an image of this name: one of PinnedImages is its name, or a pattern that
// it matches. As in CRI-O, *WORD* is any name with the word in it, and PREFIX* any that begins so, whatever slashes follow.
func (s *Settings) Pinned(name string) bool {
	return slices.ContainsFunc(s.PinnedImages, func(p string) bool {
		begins, isPrefix := strings.CutSuffix(p, "*")
		word, isWord := strings.CutPrefix(begins, "*")
		switch {
		case isPrefix && isWord && !strings.Contains(word, "*"):
			return word != "" && strings.Contains(name, word)
		case isPrefix && !strings.Contains(begins, "*"):
			return begins != "" && strings.HasPrefix(name, begins)
		}
		ok, err := path.Match(p, name)
		return ok && err == nil
	})
}

package id

import (
	"regexp"
	"slices"
	"testing"
)

func TestNew(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		s := New()
		if !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(s) || seen[s] {
			t.Fatalf("bad or repeated id %q", s)
		}
		seen[s] = true
	}
}

func TestShort(t *testing.T) {
	for in, want := range map[string]string{"": "", "abc": "abc", "0123456789ab": "0123456789ab", "0123456789abcdef": "0123456789ab"} {
		if got := Short(in); got != want {
			t.Errorf("Short(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestName(t *testing.T) {
	for range 100 {
		if s := Name(); !regexp.MustCompile(`^[a-z]+_[a-z]+$`).MatchString(s) {
			t.Fatalf("bad name %q", s)
		}
	}
}

func TestWordsAreUnique(t *testing.T) {
	for _, words := range [][]string{adjectives(), surnames()} {
		all := slices.Clone(words)
		slices.Sort(all)
		if n := len(slices.Compact(slices.Clone(all))); n != len(words) {
			t.Errorf("%d of %d words are repeated", len(words)-n, len(words))
		}
		if len(words) < 100 {
			t.Errorf("only %d words", len(words))
		}
	}
}

package userns

import "testing"

func TestIsFirst(t *testing.T) {
	for text, want := range map[string]bool{
		"         0          0 4294967295\n": true, "0 1000 1\n": false, "0 1000 1\n1 100000 65536\n": false, "": false,
	} {
		if got := isFirst(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestLast(t *testing.T) {
	for text, want := range map[string]int64{
		"         0          0 4294967295\n": 2147483647, "0 1000 1\n": 0, "0 1000 1\n1 100000 65536\n": 65536, "0 1000 1\n5 100000 65536\n": 0, "": 0,
	} {
		if got := last(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

package spell

import "testing"

func TestDistance(t *testing.T) {
	for _, row := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "run", 3}, {"run", "", 3}, {"run", "run", 0}, {"rnu", "run", 2}, {"ruun", "run", 1},
		{"imgaes", "images", 2}, {"kitten", "sitting", 3}, {"pull", "push", 2},
	} {
		if got := Distance(row.a, row.b); got != row.want {
			t.Errorf("from %q to %q: %d, not %d", row.a, row.b, got, row.want)
		}
		if Distance(row.a, row.b) != Distance(row.b, row.a) {
			t.Errorf("%q and %q are not as far the other way", row.a, row.b)
		}
	}
}

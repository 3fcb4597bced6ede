package mount

import (
	"slices"
	"strings"
	"testing"
)

func TestParseMountPoints(t *testing.T) {
	long := strings.Repeat("/a/very/long/lower/directory:", 5000)
	got, err := parseMountPoints([]byte("36 35 98:0 /root /mnt\\040a\\134b rw,noatime master:1 - ext3 /dev/root rw\n" +
		"37 36 0:5 / /over rw - overlay overlay rw,lowerdir=" + long + "\n" +
		"38 36 0:5 / /x\\9 rw - tmpfs t rw"))
	if want := []string{`/mnt a\b`, "/over", `/x\9`}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if _, err := parseMountPoints([]byte("36 35 98:0 /root\n")); err == nil {
		t.Error("a short line is no error")
	}
	if live, err := mountPoints(); err != nil || !slices.Contains(live, "/") && !slices.Contains(live, "/proc") {
		t.Errorf("this machine's: %q, %v", live, err)
	}
}

func FuzzParseMountPoints(f *testing.F) {
	f.Add([]byte("36 35 98:0 / /mnt\\040 rw - ext3 /dev/root rw\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		points, err := parseMountPoints(data)
		if err == nil && len(points) > len(data) {
			t.Errorf("%d points of %d bytes", len(points), len(data))
		}
	})
}

package layer

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestChanges makes changes of every kind through an overlay, with the names that a runtime makes among them.
func TestChanges(t *testing.T) {
	needRoot(t)
	lower, upper, work, merged := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	for _, dir := range []string{"/etc", "/opaque/sub", "/same", "/gone/with"} {
		must(t, os.MkdirAll(lower+dir, 0o755))
	}
	for _, file := range []string{"/etc/passwd", "/opaque/old", "/opaque/sub/deep", "/file", "/same/file", "/a-b"} {
		must(t, os.WriteFile(lower+file, []byte("x"), 0o644))
	}
	must(t, unix.Mount("overlay", merged, "overlay", 0, "lowerdir="+lower+",upperdir="+upper+",workdir="+work))
	t.Cleanup(func() { _ = unix.Unmount(merged, unix.MNT_DETACH) })
	must(t, os.WriteFile(merged+"/etc/hosts", nil, 0o644))  // a runtime's
	must(t, os.WriteFile(merged+"/same/point", nil, 0o644)) // a runtime's
	must(t, os.MkdirAll(merged+"/proc", 0o755))             // a runtime's
	must(t, os.MkdirAll(merged+"/dev/kept", 0o755))         // a runtime's, with something in it
	must(t, os.WriteFile(merged+"/etc/new", nil, 0o644))
	must(t, os.RemoveAll(merged+"/opaque"))
	must(t, os.MkdirAll(merged+"/opaque/sub", 0o755))
	must(t, os.WriteFile(merged+"/opaque/new", nil, 0o644))
	must(t, os.RemoveAll(merged+"/gone"))
	must(t, os.WriteFile(merged+"/file", []byte("other"), 0o644))
	must(t, os.MkdirAll(merged+"/a/b", 0o755))
	must(t, os.Remove(merged+"/a-b"))
	omit := map[string]bool{"etc/hosts": true, "same/point": true, "proc": true, "dev": true}
	const want = `A /a
A /a/b
D /a-b
A /dev
A /dev/kept
C /etc
A /etc/new
C /file
D /gone
C /opaque
A /opaque/new
D /opaque/old
C /opaque/sub
D /opaque/sub/deep
`
	for name, do := range map[string]func() ([]Change, error){
		"upper": func() ([]Change, error) {
			return ChangesUpper(context.Background(), upper, lower, DiffOptions{Omit: omit})
		},
		"compare": func() ([]Change, error) { return Changes(context.Background(), lower, merged, DiffOptions{Omit: omit}) },
	} {
		all, err := do()
		must(t, err)
		var got strings.Builder
		for _, c := range all {
			got.WriteString(string(c.Kind) + " " + c.Path + "\n")
		}
		if got.String() != want {
			t.Errorf("%s:\n%swant:\n%s", name, got.String(), want)
		}
	}
	var b bytes.Buffer
	must(t, DiffUpper(context.Background(), &b, upper, lower, DiffOptions{Omit: omit}))
	for _, name := range []string{"proc", "etc/hosts", "same"} {
		if strings.Contains(" "+entryNames(t, b.Bytes())+" ", " "+name) {
			t.Errorf("the layer has %s: %s", name, entryNames(t, b.Bytes()))
		}
	}
}

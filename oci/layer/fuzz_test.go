package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// FuzzApply unpacks hostile archives beside a directory that must not change. The archive is made of the fuzzer's bytes
// as headers, since random bytes are hardly ever a tar.
func FuzzApply(f *testing.F) {
	f.Add([]byte("\x02a\x00../outside\x00\x00a/new\x00\x00\x01h\x00a/secret\x00\x05d\x00\x00\x00.wh.d\x00\x00"), false)
	f.Add([]byte("\x05d\x00\x00\x02d\x00/\x00\x00d/outside/x\x00\x00\x00d/.wh..wh..opq\x00\x00"), true)
	f.Add([]byte("\x00a\x00\x00\x05a\x00\x00\x00a/b\x00\x00\x01a\x00a/b\x00\x02a/b\x00.\x00\x00a/b/c\x00\x00\x05a/b/\x00\x00"), false)
	f.Add([]byte("\x02s\x00/proc/self/cwd\x00\x00s/x\x00\x00\x03c\x00\x00\x00c/.wh.x\x00\x00\x00.wh.c\x00\x00\x05c\x00\x00"), true)
	f.Fuzz(func(t *testing.T, script []byte, overlay bool) {
		base := t.TempDir()
		root, outside := base+"/root", base+"/outside"
		must(t, os.Mkdir(root, 0o755))
		must(t, os.Mkdir(outside, 0o755))
		must(t, os.WriteFile(outside+"/secret", []byte("s"), 0o600))
		old := time.Unix(1, 1)
		touch(t, outside+"/secret", old)
		touch(t, outside, old)
		before := describe(t, outside)
		o := ApplyOptions{NoChown: os.Getuid() != 0}
		if overlay {
			o.Whiteouts = Overlay
		}
		// Whatever the error, nothing outside has changed.
		_, _ = Apply(context.Background(), root, bytes.NewReader(scripted(script)), o)
		compare(t, describe(t, outside), before)
		if entries, err := os.ReadDir(base); err != nil || len(entries) != 2 {
			t.Errorf("beside the root: %v, %v", entries, err)
		}
		freeze(root)
	})
}

// freeze gives the directories back their permissions, for the removal by a user.
func freeze(root string) { _ = unix.Chmod(root, 0o700) }

// scripted reads "<type byte><name>\0<link>\0" again and again; types 0 to 6 are tar's.
func scripted(script []byte) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for len(script) > 0 {
		kind := script[0] % 7
		name, rest, _ := bytes.Cut(script[1:], []byte{0})
		link, rest, _ := bytes.Cut(rest, []byte{0})
		script = rest
		h := &tar.Header{Typeflag: '0' + kind, Name: string(name), Linkname: string(link), Mode: 0o777, ModTime: time.Unix(9, 9), Format: tar.FormatPAX}
		if kind == 0 {
			h.Size = 4
		}
		if w.WriteHeader(h) == nil && kind == 0 {
			_, _ = w.Write([]byte("evil"))
		}
	}
	_ = w.Flush()
	return append(b.Bytes(), make([]byte, 1024)...)
}

// FuzzApplyRaw reads bytes as they are.
func FuzzApplyRaw(f *testing.F) {
	f.Add(archive(f, map[string]string{"f": "data"}, tar.Header{Name: "d/"}, tar.Header{Name: "f"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := Apply(context.Background(), t.TempDir(), bytes.NewReader(data), ApplyOptions{NoChown: true}); err == nil && r.Size > 1<<30 {
			t.Errorf("%d bytes of input made %d", len(data), r.Size)
		}
	})
}

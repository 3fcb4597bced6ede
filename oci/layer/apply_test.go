package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func TestApplyAttributes(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	long := strings.Repeat("long-name/", 30) + strings.Repeat("n", 200)
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" // cap_net_bind_service=ep
	apply(t, root, archive(t, map[string]string{"d/suid": "x", long: "deep"},
		tar.Header{Name: "./", Mode: 0o711, Uid: 3},
		tar.Header{Name: "d/", Mode: 0o2770, Uid: 1, Gid: 2, ModTime: time.Unix(77, 123456789), PAXRecords: map[string]string{paxXattr + "user.dir": "1"}},
		tar.Header{Name: "d/suid", Mode: 0o6751, Uid: 5, Gid: 6, PAXRecords: map[string]string{
			paxXattr + "security.capability": capability, paxXattr + "user.a": "b\x00c",
			paxXattr + "trusted.overlay.redirect": "/etc", paxXattr + "security.selinux": "host"}},
		tar.Header{Name: "d/plain", Mode: 0o666},
		tar.Header{Name: "d/link", Typeflag: tar.TypeLink, Linkname: "/d/suid"},
		tar.Header{Name: "d/sym", Typeflag: tar.TypeSymlink, Linkname: "/absolute", Uid: 9, Gid: 9},
		tar.Header{Name: "d/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666},
		tar.Header{Name: "d/fifo", Typeflag: tar.TypeFifo, Mode: 0o622},
		tar.Header{Name: long, Mode: 0o644},
	), ApplyOptions{Whiteouts: Overlay})
	got := describe(t, root)
	hash := func(s string) string { return fmt.Sprintf(" %d %x", len(s), sum(s)) }
	suid := fmt.Sprintf("106751 5:6 1000.000000005%s security.capability=%q user.a=%q = d/link", hash("x"), capability, "b\x00c")
	for name, want := range map[string]string{
		".":       "40711 3:0",
		"d":       `42770 1:2 77.123456789 user.dir="1"`,
		"d/suid":  suid,
		"d/link":  suid,
		"d/plain": "100666 0:0 1000.000000005" + hash(""),
		"d/sym":   "120777 9:9 1000.000000005 -> /absolute",
		"d/null":  "20666 0:0 1000.000000005 device 1:3",
		"d/fifo":  "10622 0:0 1000.000000005",
		long:      "100644 0:0 1000.000000005" + hash("deep"),
	} {
		if got[name] != want {
			t.Errorf("%s:\n got %q\nwant %q", name, got[name], want)
		}
	}
}

// TestApplyCannotEscape has a directory beside the root that nothing may touch.
func TestApplyCannotEscape(t *testing.T) {
	needRoot(t)
	for name, headers := range map[string][]tar.Header{
		"dots":                 {{Name: "../../outside/new"}},
		"absolute":             {{Name: "/outside/new"}},
		"symlink parent":       {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../outside"}, {Name: "l/new"}},
		"absolute link":        {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "OUTSIDE"}, {Name: "l/new"}, {Name: "l/secret"}},
		"link to root":         {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/"}, {Name: "l/../outside/new"}},
		"file through link":    {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "OUTSIDE/secret"}, {Name: "l"}},
		"hard link out":        {{Name: "h", Typeflag: tar.TypeLink, Linkname: "OUTSIDE/secret"}, {Name: "h", Mode: 0o777}},
		"hard link via link":   {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "OUTSIDE"}, {Name: "h", Typeflag: tar.TypeLink, Linkname: "l/secret"}},
		"hard link to symlink": {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "OUTSIDE/secret"}, {Name: "h", Typeflag: tar.TypeLink, Linkname: "l"}, {Name: "h"}},
		"whiteout dots":        {{Name: "a/"}, {Name: "a/.wh..."}},
		"whiteout dot":         {{Name: "a/"}, {Name: "a/.wh.."}},
		"whiteout via link":    {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "OUTSIDE"}, {Name: "l/.wh.secret"}},
		"opaque via link":      {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "OUTSIDE"}, {Name: "l/.wh..wh..opq"}},
		"dir becomes link":     {{Name: "d/"}, {Name: "d/x"}, {Name: "d", Typeflag: tar.TypeSymlink, Linkname: "OUTSIDE"}, {Name: "d/new"}, {Name: "d/secret"}},
		"times of a link":      {{Name: "d/e/"}, {Name: "d", Typeflag: tar.TypeSymlink, Linkname: "OUTSIDE"}},
		"magic link":           {{Name: "p", Typeflag: tar.TypeSymlink, Linkname: "/proc/self/root"}, {Name: "p/OUTSIDE/new"}},
		"chmod via link":       {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "OUTSIDE"}, {Name: "l/", Mode: 0o7777, Uid: 7}},
	} {
		for _, o := range []ApplyOptions{{}, {Whiteouts: Overlay}} {
			t.Run(name, func(t *testing.T) { escape(t, headers, o) })
		}
	}
}

func escape(t *testing.T, headers []tar.Header, o ApplyOptions) {
	base := t.TempDir()
	root, outside := base+"/root", base+"/outside"
	for _, dir := range []string{root, outside} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(outside+"/secret", []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := describe(t, outside)
	contents := map[string]string{}
	for i := range headers {
		headers[i].Linkname = strings.Replace(headers[i].Linkname, "OUTSIDE", outside, 1)
		headers[i].Name = strings.Replace(headers[i].Name, "OUTSIDE", outside, 1)
		contents[headers[i].Name] = "evil"
	}
	_, err := Apply(context.Background(), root, bytes.NewReader(archive(t, contents, headers...)), o)
	t.Log(err)
	compare(t, describe(t, outside), before)
	if names, _ := os.ReadDir(base); len(names) != 2 {
		t.Errorf("beside the root: %v", names)
	}
}

func TestApplyDoesNotEnterMounts(t *testing.T) {
	needRoot(t)
	root, outside := t.TempDir(), t.TempDir()
	for _, dir := range []string{root + "/m", outside + "/sub"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount(outside, root+"/m", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(root+"/m", unix.MNT_DETACH)
	for _, h := range []tar.Header{{Name: "m/sub/new"}, {Name: "m/new"}, {Name: ".wh.m"}, {Name: "m", Mode: 0o644}} {
		data := archive(t, nil, h)
		if _, err := Apply(context.Background(), root, bytes.NewReader(data), ApplyOptions{}); err == nil {
			t.Errorf("%s: no error", h.Name)
		}
		if got := paths(t, outside); got != "sub" {
			t.Errorf("%s: the mount has %s", h.Name, got)
		}
	}
	apply(t, root, archive(t, nil, tar.Header{Name: "m/new"}), ApplyOptions{CrossMounts: true})
	if got := paths(t, outside); got != "new sub" {
		t.Errorf("CrossMounts: the mount has %s", got)
	}
}

func TestApplyReplaces(t *testing.T) {
	needRoot(t)
	root := t.TempDir()
	apply(t, root, archive(t, map[string]string{"dir/f": "1", "file": "1"},
		tar.Header{Name: "dir/"}, tar.Header{Name: "dir/f"}, tar.Header{Name: "file"},
		tar.Header{Name: "sym", Typeflag: tar.TypeSymlink, Linkname: "dir"}), ApplyOptions{})
	apply(t, root, archive(t, map[string]string{"dir": "now a file", "file/in": "x", "sym/in": "y"},
		tar.Header{Name: "dir"}, tar.Header{Name: "file/"}, tar.Header{Name: "file/in"},
		tar.Header{Name: "sym/"}, tar.Header{Name: "sym/in"}), ApplyOptions{})
	if got := paths(t, root); got != "dir file file/in sym sym/in" {
		t.Error(got)
	}
}

// TestWhiteouts applies a layer in both ways and in every order of its entries, and mounts what came out as an overlay.
func TestWhiteouts(t *testing.T) {
	needRoot(t)
	lower := archive(t, map[string]string{},
		tar.Header{Name: "keep"}, tar.Header{Name: "gone"}, tar.Header{Name: "gonedir/"}, tar.Header{Name: "gonedir/x"},
		tar.Header{Name: "opq/"}, tar.Header{Name: "opq/old"}, tar.Header{Name: "opq/sub/"}, tar.Header{Name: "opq/sub/old"},
		tar.Header{Name: "again/"}, tar.Header{Name: "again/old"})
	upper := []tar.Header{
		{Name: ".wh.gone"}, {Name: ".wh.gonedir"}, {Name: "deep/.wh.nothing"},
		{Name: "opq/.wh..wh..opq"}, {Name: "opq/sub/new"},
		{Name: "again/"}, {Name: ".wh.again"}, {Name: "again/new"},
	}
	const want = "again again/new keep opq opq/sub opq/sub/new"
	for i := range upper {
		rotated := append(append([]tar.Header{}, upper[i:]...), upper[:i]...)
		data := archive(t, nil, rotated...)

		tree := t.TempDir()
		apply(t, tree, lower, ApplyOptions{})
		apply(t, tree, data, ApplyOptions{})
		if got := paths(t, tree); got != want {
			t.Errorf("rotation %d, Remove: %s", i, got)
		}
		for _, user := range []bool{false, true} {
			below, above := t.TempDir(), t.TempDir()
			apply(t, below, lower, ApplyOptions{Whiteouts: Overlay, UserXattr: user})
			apply(t, above, data, ApplyOptions{Whiteouts: Overlay, UserXattr: user})
			for _, layers := range [][]string{{below}, {above, below}} {
				if err := Inherit(layers[0], layers[1:], user); err != nil {
					t.Fatal(err)
				}
			}
			overlaid(t, []string{above, below}, user, func(root string) {
				// A whiteout of nothing leaves the directory it is in.
				if got := paths(t, root); strings.Replace(got, "deep ", "", 1) != want {
					t.Errorf("rotation %d, Overlay: %s", i, got)
				}
			})
		}
	}
}

func overlaid(t *testing.T, lower []string, user bool, do func(root string)) {
	t.Helper()
	root := t.TempDir()
	options := "lowerdir=" + strings.Join(lower, ":")
	if user {
		options += ",userxattr"
	}
	if err := unix.Mount("overlay", root, "overlay", 0, options); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(root, unix.MNT_DETACH)
	do(root)
}

func TestXattrWhiteout(t *testing.T) {
	needRoot(t)
	below, above := t.TempDir(), t.TempDir()
	apply(t, below, archive(t, nil, tar.Header{Name: "d/"}, tar.Header{Name: "d/a"}, tar.Header{Name: "d/b"}), ApplyOptions{})
	apply(t, above, archive(t, nil, tar.Header{Name: "d/"}), ApplyOptions{Whiteouts: Overlay, UserXattr: true})
	fd, err := unix.Open(above+"/d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := xattrWhiteoutAt(place{fd, "d", "a"}); err != nil {
		t.Fatal(err)
	}
	overlaid(t, []string{above, below}, true, func(root string) {
		if got := paths(t, root); got != "d d/b" {
			t.Error(got)
		}
	})
	var b bytes.Buffer
	if err := DiffUpper(context.Background(), &b, above, below, DiffOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := entryNames(t, b.Bytes()); got != "d/ d/.wh.a" {
		t.Error(got)
	}
}

func entryNames(t *testing.T, data []byte) string {
	t.Helper()
	var names []string
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return strings.Join(names, " ")
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}

func TestInherit(t *testing.T) {
	needRoot(t)
	mtime := time.Unix(42, 7)
	base, middle, top := t.TempDir(), t.TempDir(), t.TempDir()
	o := ApplyOptions{Whiteouts: Overlay}
	apply(t, base, archive(t, nil,
		tar.Header{Name: "./", Mode: 0o751, Uid: 4}, tar.Header{Name: "a/", Mode: 0o1777, Uid: 1, ModTime: mtime},
		tar.Header{Name: "a/b/", Mode: 0o700, Gid: 9, ModTime: mtime, PAXRecords: map[string]string{paxXattr + "user.x": "y"}},
		tar.Header{Name: "hidden/", Mode: 0o700}), o)
	apply(t, middle, archive(t, nil, tar.Header{Name: ".wh.hidden"}), o)
	apply(t, top, archive(t, nil, tar.Header{Name: "a/b/c/new"}, tar.Header{Name: "hidden/new"}), o)
	for _, layer := range [][]string{{middle, base}, {top, middle, base}} {
		if err := Inherit(layer[0], layer[1:], false); err != nil {
			t.Fatal(err)
		}
		if hasXattr(layer[0], trustedOverlay+xattrImplied) {
			t.Error("the mark is still there")
		}
	}
	got := describe(t, top)
	for name, want := range map[string]string{
		".": "40751 4:0", "a": "41777 1:0 42.000000007", "a/b": `40700 0:9 42.000000007 user.x="y"`,
	} {
		if got[name] != want {
			t.Errorf("%s: got %s, want %s", name, got[name], want)
		}
	}
	for _, name := range []string{"a/b/c", "hidden"} {
		if !strings.HasPrefix(got[name], "40755 0:0") {
			t.Errorf("%s: %s", name, got[name])
		}
	}
}

func TestApplyErrors(t *testing.T) {
	needRoot(t)
	for name, test := range map[string]struct {
		headers []tar.Header
		o       ApplyOptions
		want    error
	}{
		"link out of the layer": {[]tar.Header{{Name: "h", Typeflag: tar.TypeLink, Linkname: "absent"}}, ApplyOptions{Whiteouts: Overlay}, ErrNeedsParent},
		"link to nothing":       {[]tar.Header{{Name: "h", Typeflag: tar.TypeLink, Linkname: "absent"}}, ApplyOptions{}, errdefs.ErrInvalidArgument},
		"link to a directory":   {[]tar.Header{{Name: "d/"}, {Name: "h", Typeflag: tar.TypeLink, Linkname: "d"}}, ApplyOptions{}, errdefs.ErrInvalidArgument},
		"file as directory":     {[]tar.Header{{Name: "f"}, {Name: "f/x"}}, ApplyOptions{}, errdefs.ErrInvalidArgument},
		"whiteout of ..":        {[]tar.Header{{Name: ".wh..."}}, ApplyOptions{}, errdefs.ErrInvalidArgument},
		"root is a file":        {[]tar.Header{{Name: "/"}, {Name: ".", Typeflag: tar.TypeReg}}, ApplyOptions{}, errdefs.ErrInvalidArgument},
	} {
		_, err := Apply(context.Background(), t.TempDir(), bytes.NewReader(archive(t, nil, test.headers...)), test.o)
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	data := archive(t, map[string]string{"f": "0123456789"}, tar.Header{Name: "f"})
	if _, err := Apply(context.Background(), t.TempDir(), bytes.NewReader(data[:515]), ApplyOptions{}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("cut off: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Apply(ctx, t.TempDir(), bytes.NewReader(data), ApplyOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestApplyReadsToTheEnd(t *testing.T) {
	rest := bytes.NewReader(append(archive(t, nil, tar.Header{Name: "f"}), make([]byte, 5000)...))
	if _, err := Apply(context.Background(), t.TempDir(), rest, ApplyOptions{NoChown: true}); err != nil || rest.Len() != 0 {
		t.Errorf("%d bytes left, %v", rest.Len(), err)
	}
}

func TestApplySparse(t *testing.T) {
	// archive/tar cannot write sparse files, so the extended headers are made by hand (GNU tar, "PAX Format, Version 1.0").
	const size = 8 << 20
	sparseMap := []byte("2\n4194304\n4\n8388604\n4\n")
	data := append(append(sparseMap, make([]byte, 512-len(sparseMap))...), "midEend!"...)
	var b bytes.Buffer
	record := func(k, v string) string { // "%d %s=%s\n" with its own length
		for n := len(k) + len(v) + 3; ; n++ {
			if s := fmt.Sprintf("%d %s=%s\n", n, k, v); len(s) == n {
				return s
			}
		}
	}
	pax := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.name", "sparse") + record("GNU.sparse.realsize", fmt.Sprint(size))
	rawHeader(&b, 'x', "PaxHeaders/s", len(pax))
	b.WriteString(pax + strings.Repeat("\x00", 512-len(pax)%512))
	rawHeader(&b, '0', "GNUSparseFile/s", len(data))
	b.Write(data)
	b.Write(make([]byte, 512-len(data)%512+1024))
	root := t.TempDir()
	apply(t, root, b.Bytes(), ApplyOptions{NoChown: true})
	got, err := os.ReadFile(filepath.Join(root, "sparse"))
	if err != nil || len(got) != size || string(got[4<<20:4<<20+4]) != "midE" || string(got[size-4:]) != "end!" {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	info, _ := os.Stat(filepath.Join(root, "sparse"))
	if blocks := info.Sys().(*syscall.Stat_t).Blocks * 512; blocks > 64<<10 {
		t.Errorf("it takes %d bytes on disk", blocks)
	}
}

func rawHeader(b *bytes.Buffer, kind byte, name string, size int) {
	var h [512]byte
	copy(h[:], name)
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	copy(h[124:], fmt.Sprintf("%011o\x00%011o\x00", size, 0))
	copy(h[148:], "        ")
	h[156] = kind
	copy(h[257:], "ustar\x0000")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	b.Write(h[:])
}

package scenario_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/minirt/mini/internal/testenv"
)

type sum [sha256.Size]byte

// entry is what a recipe says of one name in the tree.
type entry struct {
	mode     fs.FileMode
	uid, gid int
	size     int64
	sum      sum
	seconds  int64
	nanos    int64
	device   string
	target   string // of a symbolic link
	xattrs   map[string]string
	link     string // the first name of the same file in the same layer
}

func (e entry) String() string {
	keys := slices.Sorted(maps.Keys(e.xattrs))
	attrs := ""
	for _, k := range keys {
		attrs += fmt.Sprintf(" %s=%q", k, e.xattrs[k])
	}
	return fmt.Sprintf("%s %d:%d size %d sum %x time %d.%09d device %s target %q%s",
		e.mode, e.uid, e.gid, e.size, e.sum[:4], e.seconds, e.nanos, e.device, e.target, attrs)
}

// TestTrees compares the tree of every image, as it is mounted, with what the layers of its recipe say: independently of
// the code that applied them.
func TestTrees(t *testing.T) {
	images := testenv.Images(t)
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	dir := filepath.Join(testenv.Dir(t), "tree")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, snapshotter := range []string{"overlay", "native"} {
		for _, i := range images {
			// An index is of several platforms; the users' images differ in their configs only, and those of the
			// conformance suite, in repositories of more than one word, in one file.
			if len(i.DiffIDs) == 0 || i.Repo == "large" || strings.HasPrefix(i.Repo, "user-") || strings.Contains(i.Repo, "/") ||
				snapshotter == "native" && !odd(i.Repo) {
				continue
			}
			t.Run(snapshotter+" "+i.Repo, func(t *testing.T) {
				d := d.In(t)
				if got := d.Minictr("images", "pull", "-q", "--snapshotter", snapshotter, r.Tagged(i)); strings.TrimSpace(got) != i.Digest {
					t.Errorf("pulled %s, want %s", got, i.Digest)
				}
				sameBytes(t, d, i)
				d.Minictr("images", "mount", "--snapshotter", snapshotter, r.Tagged(i), dir)
				defer d.Minictr("images", "unmount", "--rm", "--snapshotter", snapshotter, dir)
				sameTree(t, dir, recipe(t, i))
			})
		}
	}
}

func odd(repo string) bool {
	return slices.Contains([]string{"whiteouts", "hardlinks", "xattrs", "names", "special", "sparse"}, repo)
}

// sameBytes reads the manifest, the config and the layers back.
func sameBytes(t *testing.T, d *testenv.DaemonProcess, i testenv.ImageInfo) {
	t.Helper()
	m := manifestOf(t, i)
	for _, digest := range []string{i.Digest, m.Config.Digest.String(), m.Layers[len(m.Layers)-1].Digest.String()} {
		if got := d.Minictr("content", "get", digest); got != string(testenv.Blob(t, digest)) {
			t.Errorf("blob %s is not what was pushed", digest)
		}
	}
}

// recipe applies the layers of an image to a map of names.
func recipe(t *testing.T, i testenv.ImageInfo) map[string]entry {
	t.Helper()
	tree := map[string]entry{}
	for _, l := range manifestOf(t, i).Layers {
		layer := map[string]entry{}
		in := tar.NewReader(unpacked(t, testenv.Blob(t, l.Digest.String())))
		for {
			h, err := in.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			name := path.Clean(h.Name)
			if base := path.Base(name); strings.HasPrefix(base, ".wh.") {
				hide(tree, path.Dir(name), base)
				continue
			}
			layer[name] = read(t, h, in, layer, tree)
		}
		for name, e := range layer {
			if old, ok := tree[name]; ok && old.mode.IsDir() && !e.mode.IsDir() {
				hide(tree, path.Dir(name), ".wh."+path.Base(name))
			}
			tree[name] = e
		}
	}
	return tree
}

// hide takes away what a whiteout or opaque marker of an upper layer hides.
func hide(tree map[string]entry, dir, marker string) {
	hidden := path.Join(dir, strings.TrimPrefix(marker, ".wh."))
	maps.DeleteFunc(tree, func(name string, _ entry) bool {
		if marker == ".wh..wh..opq" {
			return strings.HasPrefix(name, dir+"/")
		}
		return name == hidden || strings.HasPrefix(name, hidden+"/")
	})
}

func unpacked(t *testing.T, blob []byte) io.Reader {
	t.Helper()
	switch {
	case bytes.HasPrefix(blob, []byte{0x1f, 0x8b}):
		r, err := gzip.NewReader(bytes.NewReader(blob))
		if err != nil {
			t.Fatal(err)
		}
		return r
	case bytes.HasPrefix(blob, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		r, err := zstd.NewReader(bytes.NewReader(blob))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	return bytes.NewReader(blob)
}

// read makes an entry of a header and its data.
func read(t *testing.T, h *tar.Header, data io.Reader, layer, below map[string]entry) entry {
	t.Helper()
	if h.Typeflag == tar.TypeLink {
		first := path.Clean(h.Linkname)
		e, ok := layer[first]
		if !ok { // a link across layers may be a copy, and then the first name is one too
			for name, b := range below {
				if b.link == first {
					b.link = ""
					below[name] = b
				}
			}
			return below[first]
		}
		if e.link == "" {
			e.link = first
		}
		return e
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, data); err != nil {
		t.Fatal(err)
	}
	e := entry{
		mode: h.FileInfo().Mode(), uid: h.Uid, gid: h.Gid, size: h.Size, seconds: h.ModTime.Unix(),
		nanos: int64(h.ModTime.Nanosecond()), target: h.Linkname, xattrs: map[string]string{},
	}
	if h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeGNUSparse {
		e.sum = sum(hash.Sum(nil))
	}
	if e.mode&fs.ModeDevice != 0 {
		e.device = fmt.Sprintf("%d:%d", h.Devmajor, h.Devminor)
	}
	if e.mode&fs.ModeSymlink != 0 {
		e.mode = fs.ModeSymlink | 0o777
	}
	for k, v := range h.PAXRecords {
		if attr, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok {
			e.xattrs[attr] = v
		}
	}
	return e
}

// sameTree walks a directory and compares.
func sameTree(t *testing.T, root string, want map[string]entry) {
	t.Helper()
	inodes := map[string]uint64{}
	sums := map[uint64]sum{}
	seen := map[string]bool{}
	err := filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
		if err != nil || name == root {
			return err
		}
		rel, _ := filepath.Rel(root, name)
		seen[rel] = true
		got, inode := look(t, name, sums)
		inodes[rel] = inode
		w, ok := want[rel]
		if !ok {
			t.Errorf("%s: not in the recipe: %s", rel, got)
		} else if got.String() != w.String() {
			t.Errorf("%s:\n got %s\nwant %s", rel, got, w)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range want {
		if !seen[name] {
			t.Errorf("%s: missing, want %s", name, w)
		} else if w.link != "" && inodes[name] != inodes[w.link] {
			t.Errorf("%s is not the same file as %s", name, w.link)
		}
	}
}

// look reads a name of the host as an entry, and its inode number. A file of many names is read once.
func look(t *testing.T, name string, sums map[uint64]sum) (entry, uint64) {
	t.Helper()
	info, err := os.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	e := entry{
		mode: info.Mode(), uid: int(st.Uid), gid: int(st.Gid), seconds: st.Mtim.Sec, nanos: st.Mtim.Nsec, xattrs: xattrs(t, name),
	}
	switch {
	case info.Mode().IsRegular():
		if _, ok := sums[st.Ino]; !ok {
			sums[st.Ino] = sumOf(t, name)
		}
		e.size, e.sum = st.Size, sums[st.Ino]
	case info.Mode()&fs.ModeSymlink != 0:
		if e.target, err = os.Readlink(name); err != nil {
			t.Fatal(err)
		}
	case info.Mode()&fs.ModeDevice != 0:
		e.device = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	return e, st.Ino
}

func sumOf(t *testing.T, name string) sum {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return sum(h.Sum(nil))
}

func xattrs(t *testing.T, name string) map[string]string {
	t.Helper()
	attrs := map[string]string{}
	buf := make([]byte, 4096)
	n, err := unix.Llistxattr(name, buf)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for key := range strings.SplitSeq(strings.Trim(string(buf[:n]), "\x00"), "\x00") {
		if key == "" {
			continue
		}
		value := make([]byte, 4096)
		n, err := unix.Lgetxattr(name, key, value)
		if err != nil {
			t.Fatalf("%s: %s: %v", name, key, err)
		}
		attrs[key] = string(value[:n])
	}
	return attrs
}

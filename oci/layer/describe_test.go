package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func needRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
}

// describe is a tree as text, a line for each name: all that a layer carries. Files with several names are told by the
// first of them; the root's time is left out, because a layer need not describe the root.
func describe(t testing.TB, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	first, links := map[inode]string{}, map[string]string{}
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		var stat unix.Stat_t
		if err := unix.Lstat(path, &stat); err != nil {
			return err
		}
		text := fmt.Sprintf("%o %d:%d", stat.Mode, stat.Uid, stat.Gid)
		if path != root {
			text += fmt.Sprintf(" %d.%09d", stat.Mtim.Sec, stat.Mtim.Nsec)
		}
		switch stat.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" %d %x", len(data), sum(string(data)))
		case unix.S_IFLNK:
			target, _ := os.Readlink(path)
			text += " -> " + target
		case unix.S_IFCHR, unix.S_IFBLK:
			text += fmt.Sprintf(" device %d:%d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev))
		}
		if stat.Nlink > 1 && stat.Mode&unix.S_IFMT != unix.S_IFDIR {
			id := inode{stat.Dev, stat.Ino}
			if _, ok := first[id]; !ok {
				first[id] = name
			} else {
				links[name], links[first[id]] = first[id], first[id]
			}
		}
		attributes, err := readXattrs(path)
		for _, key := range slices.Sorted(maps.Keys(attributes)) {
			text += fmt.Sprintf(" %s=%q", key, attributes[key])
		}
		out[name] = text
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, other := range links {
		out[name] += " = " + other
	}
	return out
}

func compare(t testing.TB, got, want map[string]string) {
	t.Helper()
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s:\n got %q\nwant %q", name, got[name], want[name])
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: there, and should not be: %s", name, got[name])
		}
	}
}

// archive makes a tar of entries: Typeflag, Mode and ModTime have defaults, Size is that of contents[Name].
func archive(t testing.TB, contents map[string]string, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
			if strings.HasSuffix(h.Name, "/") {
				h.Typeflag = tar.TypeDir
			}
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1000, 5)
		}
		h.Format = tar.FormatPAX
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(contents[h.Name]))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(contents[h.Name])); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func apply(t testing.TB, root string, data []byte, o ApplyOptions) ApplyResult {
	t.Helper()
	r, err := Apply(context.Background(), root, bytes.NewReader(data), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// paths are the names in a tree, sorted, without ".".
func paths(t testing.TB, root string) string {
	t.Helper()
	all := slices.Sorted(maps.Keys(describe(t, root)))
	return strings.Join(slices.DeleteFunc(all, func(n string) bool { return n == "." }), " ")
}

func sum(s string) [sha256.Size]byte { return sha256.Sum256([]byte(s)) }

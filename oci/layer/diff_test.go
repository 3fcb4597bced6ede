package layer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// grow makes random files below root: of every kind, with odd attributes.
func grow(t testing.TB, r *rand.Rand, root string, n int) {
	t.Helper()
	for range n {
		name := filepath.Join(root, randomName(r))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			continue // something on the way is no directory
		}
		if info, err := os.Lstat(name); err == nil && info.IsDir() && r.IntN(3) > 0 {
			continue
		}
		must(t, os.RemoveAll(name))
		plant(t, r, root, name)
	}
}

func randomName(r *rand.Rand) string {
	parts := make([]string, 1+r.IntN(3))
	for i := range parts {
		parts[i] = []string{"a", "b", "c", "ä", "with space", strings.Repeat("n", 120)}[r.IntN(6)]
	}
	return strings.Join(parts, "/")
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func plant(t testing.TB, r *rand.Rand, root, name string) {
	t.Helper()
	mode := os.FileMode(r.IntN(0o1000))
	switch r.IntN(8) {
	case 0:
		must(t, os.Symlink(fmt.Sprint("to", r.IntN(9)), name))
	case 1:
		must(t, unix.Mknod(name, unix.S_IFCHR|uint32(mode), int(unix.Mkdev(uint32(r.IntN(9)+1), uint32(r.IntN(300))))))
	case 2:
		must(t, unix.Mkfifo(name, uint32(mode)))
	case 3:
		must(t, os.Mkdir(name, 0o700|mode))
	case 4:
		var others []string
		must(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				others = append(others, path)
			}
			return err
		}))
		if len(others) > 0 {
			must(t, os.Link(others[r.IntN(len(others))], name))
			return
		}
		fallthrough
	default:
		must(t, os.WriteFile(name, bytes.Repeat([]byte{byte(r.IntN(256))}, r.IntN(2000)), 0o600))
	}
	must(t, os.Lchown(name, r.IntN(3)*1000, r.IntN(3)))
	info, err := os.Lstat(name)
	must(t, err)
	if info.Mode().Type() != os.ModeSymlink {
		must(t, unix.Chmod(name, uint32(mode)|0o400|uint32(r.IntN(2))*unix.S_ISUID))
		if r.IntN(4) == 0 && (info.IsDir() || info.Mode().IsRegular()) {
			must(t, unix.Setxattr(name, "user.odd", []byte{byte(r.IntN(256)), 0, 1}, 0))
		}
	}
	touch(t, name, time.Unix(int64(r.IntN(1e9)), int64(r.IntN(1e9))))
}

func touch(t testing.TB, name string, mtime time.Time) {
	t.Helper()
	must(t, utimens(unix.AT_FDCWD, name, mtime))
}

// change removes some of what is there and grows more.
func change(t testing.TB, r *rand.Rand, root string) {
	t.Helper()
	var names []string
	must(t, filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		names = append(names, path)
		return err
	}))
	for _, name := range names[1:] {
		if r.IntN(5) == 0 {
			must(t, os.RemoveAll(name))
		}
	}
	grow(t, r, root, 10)
}

func diffBytes(t testing.TB, lower, upper string) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, Diff(context.Background(), &b, lower, upper, DiffOptions{}))
	return b.Bytes()
}

// TestRoundTrip: what Diff says of random trees, Apply makes of it; and the diff of what came out is the same bytes.
func TestRoundTrip(t *testing.T) {
	needRoot(t)
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		x, y := t.TempDir(), t.TempDir()
		grow(t, r, x, 25)
		base := diffBytes(t, "", x)
		apply(t, y, base, ApplyOptions{})
		compare(t, describe(t, y), describe(t, x))
		if again := diffBytes(t, "", y); !bytes.Equal(again, base) {
			t.Errorf("seed %d: the diff of the copy is different", seed)
		}
		lower := t.TempDir()
		apply(t, lower, base, ApplyOptions{})
		change(t, r, x)
		apply(t, y, diffBytes(t, lower, x), ApplyOptions{})
		compare(t, describe(t, y), describe(t, x))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestUpperRoundTrip changes trees through overlayfs; the diff of the upper directory must make the same of the base,
// whether it is applied to a copy or stacked.
func TestUpperRoundTrip(t *testing.T) {
	needRoot(t)
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 2))
		source, lower := t.TempDir(), t.TempDir()
		grow(t, r, source, 25)
		base := diffBytes(t, "", source)
		apply(t, lower, base, ApplyOptions{Whiteouts: Overlay})
		must(t, Inherit(lower, nil, false))
		upper, work, merged := t.TempDir(), t.TempDir(), t.TempDir()
		must(t, unix.Mount("overlay", merged, "overlay", 0, "lowerdir="+lower+",upperdir="+upper+",workdir="+work))
		t.Cleanup(func() { _ = unix.Unmount(merged, unix.MNT_DETACH) })
		change(t, r, merged)

		var b bytes.Buffer
		must(t, DiffUpper(context.Background(), &b, upper, lower, DiffOptions{}))
		want := describe(t, merged)
		told, err := ChangesUpper(context.Background(), upper, lower, DiffOptions{})
		must(t, err)
		compared, err := Changes(context.Background(), lower, merged, DiffOptions{})
		must(t, err)
		if !slices.Equal(told, compared) {
			t.Errorf("seed %d: changes by the upper directory\n%v\nby comparing\n%v", seed, told, compared)
		}
		applied, stacked := t.TempDir(), t.TempDir()
		apply(t, applied, base, ApplyOptions{})
		apply(t, applied, b.Bytes(), ApplyOptions{})
		compare(t, describe(t, applied), want)
		apply(t, stacked, b.Bytes(), ApplyOptions{Whiteouts: Overlay})
		must(t, Inherit(stacked, []string{lower}, false))
		overlaid(t, []string{stacked, lower}, false, func(root string) { compare(t, describe(t, root), want) })
		if t.Failed() {
			t.Fatalf("seed %d: %s", seed, entryNames(t, b.Bytes()))
		}
	}
}

func TestDiffEntries(t *testing.T) {
	needRoot(t)
	make := func(headers ...string) string {
		root := t.TempDir()
		for _, h := range headers {
			name, text, _ := strings.Cut(h, "=")
			must(t, os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755))
			if strings.HasSuffix(name, "/") {
				must(t, os.MkdirAll(filepath.Join(root, name), 0o755))
			} else {
				must(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o644))
			}
		}
		must(t, filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
			touch(t, path, time.Unix(5, 0))
			return err
		}))
		must(t, os.Chmod(root, 0o755))
		return root
	}
	for _, test := range []struct {
		name         string
		lower, upper string
		want         string
	}{
		{"nothing", make("a/b=1"), make("a/b=1"), ""},
		{"from nothing", "", make("a/b=1", "c="), "a/ a/b c"},
		{"same time and size, other bytes", make("a/b=1", "x/y="), make("a/b=2", "x/y="), "a/ a/b"},
		{"removed", make("a/b/c=1", "d="), make("a/b/"), "a/ a/b/ a/b/.wh.c .wh.d"},
		{"removed tree", make("a/b/c=1"), make(), ".wh.a"},
		{"directory for file", make("a=1"), make("a/b="), "a/ a/b"},
		{"file for directory", make("a/b=1"), make("a=1"), "a"},
		{"order is of bytes in a directory", "", make("a-b=", "a/x=", "B="), "B a/ a/x a-b"},
	} {
		got := entryNames(t, diffBytes(t, test.lower, test.upper))
		if got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestDiffOptions(t *testing.T) {
	needRoot(t)
	upper := t.TempDir()
	must(t, os.WriteFile(upper+"/f", []byte("x"), 0o644))
	must(t, os.Chown(upper+"/f", 100005, 200001))
	var b bytes.Buffer
	date := time.Unix(12345, 0)
	must(t, Diff(context.Background(), &b, "", upper, DiffOptions{SourceDate: date,
		UIDMap: []IDMap{{0, 100000, 10}}, GIDMap: []IDMap{{1, 200000, 10}}}))
	root := t.TempDir()
	apply(t, root, b.Bytes(), ApplyOptions{})
	if got, want := describe(t, root)["f"], fmt.Sprintf("100644 5:2 12345.000000000 1 %x", sum("x")); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestDiffUpperRefuses(t *testing.T) {
	needRoot(t)
	upper := t.TempDir()
	must(t, os.Mkdir(upper+"/d", 0o755))
	must(t, unix.Setxattr(upper+"/d", trustedOverlay+xattrRedirect, []byte("/x"), 0))
	if err := DiffUpper(context.Background(), &bytes.Buffer{}, upper, "", DiffOptions{}); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("redirect: %v", err)
	}
}

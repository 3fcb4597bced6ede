package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func packed(t testing.TB, root, name string, o PackOptions) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, Pack(context.Background(), &b, root, name, o))
	return b.Bytes()
}

func extract(t testing.TB, root string, data []byte, o ExtractOptions) error {
	t.Helper()
	_, err := Extract(context.Background(), root, bytes.NewReader(data), o)
	return err
}

func TestPackAndExtract(t *testing.T) {
	needRoot(t)
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 3))
		x, y := t.TempDir(), t.TempDir()
		grow(t, r, x, 25)
		must(t, os.Mkdir(y+"/at", 0o755))
		must(t, extract(t, y, packed(t, x, "", PackOptions{As: "."}), ExtractOptions{Below: "/at"}))
		want, got := describe(t, x), describe(t, y+"/at")
		delete(want, ".")
		delete(got, ".")
		compare(t, got, want)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestPackNames(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(root+"/d/e", 0o755))
	must(t, os.WriteFile(root+"/d/.wh.f", []byte("x"), 0o644))
	must(t, os.Symlink("d", root+"/l"))
	for _, test := range []struct{ name, as, want string }{
		{"d", "d", "d/ d/.wh.f d/e/"},
		{"d", "new", "new/ new/.wh.f new/e/"},
		{"/d/", ".", "./ ./.wh.f ./e/"},
		{"d", "", ".wh.f e/"},
		{"", "/", "/ /d/ /d/.wh.f /d/e/ /l"},
		{"../../d/.wh.f", "g", "g"},
		{"l", "l", "l"},
	} {
		if got := entryNames(t, packed(t, root, test.name, PackOptions{As: test.as})); got != test.want {
			t.Errorf("%s as %q: %s, want %s", test.name, test.as, got, test.want)
		}
	}
	for _, name := range []string{"nothing", "l/e", "d/.wh.f/x"} {
		if err := Pack(context.Background(), io.Discard, root, name, PackOptions{As: "x"}); !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ELOOP) && !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPackWhileItChanges swaps a directory for a link that leads out, again and again, and removes and makes files.
func TestPackWhileItChanges(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(outside+"/secret", []byte("secret"), 0o644))
	must(t, os.MkdirAll(root+"/d/in", 0o755))
	must(t, os.WriteFile(root+"/d/in/open", []byte("open"), 0o644))
	must(t, os.Symlink(outside, root+"/link"))
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
			}
			_ = unix.Renameat2(unix.AT_FDCWD, root+"/d/in", unix.AT_FDCWD, root+"/link", unix.RENAME_EXCHANGE)
			_ = os.WriteFile(root+"/d/comes", []byte("x"), 0o644)
			_ = os.Remove(root + "/d/comes")
			_ = unix.Mkfifo(root+"/d/comes", 0o644)
			_ = os.Remove(root + "/d/comes")
		}
	}()
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); {
		var b bytes.Buffer
		if err := Pack(context.Background(), &b, root, "d", PackOptions{As: "d"}); err != nil && !errdefs.IsUnavailable(err) {
			t.Error(err)
			break
		}
		if strings.Contains(b.String(), "secret") {
			t.Error("a link led out of the root")
			break
		}
	}
	close(stop)
	<-ended
}

func TestExtractKeepsWhatIsThere(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(root+"/dir/sub", 0o700))
	must(t, os.WriteFile(root+"/file", []byte("old"), 0o600))
	must(t, os.Symlink("/etc", root+"/link"))
	o := ExtractOptions{NoChown: true}
	for want, data := range map[string][]byte{
		`cannot overwrite directory "/dir" with non-directory`:  archive(t, nil, tar.Header{Name: "dir"}),
		`cannot overwrite directory "/dir/sub" with non-direc`:  archive(t, nil, tar.Header{Name: "dir/sub", Typeflag: tar.TypeSymlink, Linkname: "x"}),
		`cannot overwrite non-directory "/file" with directory`: archive(t, nil, tar.Header{Name: "file/"}),
		`cannot overwrite non-directory "/link" with directory`: archive(t, nil, tar.Header{Name: "link/"}),
	} {
		if err := extract(t, root, data, o); err == nil || !strings.Contains(err.Error(), want) || !errdefs.IsAlreadyExists(err) {
			t.Errorf("%v; want %s", err, want)
		}
	}
	must(t, extract(t, root, archive(t, map[string]string{"file": "new", ".wh.file": "w", "a/b": "implied"},
		tar.Header{Name: "./", Mode: 0o111}, tar.Header{Name: "file"}, tar.Header{Name: ".wh.file"}, tar.Header{Name: "a/b"}), o))
	if data, err := os.ReadFile(root + "/file"); err != nil || string(data) != "new" {
		t.Errorf("%q, %v", data, err)
	}
	if info, err := os.Stat(root); err != nil || info.Mode().Perm()&0o700 != 0o700 {
		t.Errorf("the directory itself: %v, %v", info, err)
	}
	if got := paths(t, root); got != ".wh.file a a/b dir dir/sub file link" {
		t.Errorf("there are %s", got)
	}
}

// TestExtractWholeFiles ends in the middle of a file: the old one is still there, and nothing else.
func TestExtractWholeFiles(t *testing.T) {
	root := t.TempDir()
	must(t, os.WriteFile(root+"/file", []byte("old"), 0o600))
	data := archive(t, map[string]string{"file": strings.Repeat("new", 1<<20), "more": "x"}, tar.Header{Name: "file"}, tar.Header{Name: "more"})
	if err := extract(t, root, data[:1<<20], ExtractOptions{NoChown: true}); err == nil {
		t.Error("half an archive was unpacked")
	}
	if got, err := os.ReadFile(root + "/file"); err != nil || string(got) != "old" || paths(t, root) != "file" {
		t.Errorf("%q, %v, %s", got, err, paths(t, root))
	}
}

func TestExtractSparse(t *testing.T) {
	x, y := t.TempDir(), t.TempDir()
	f, err := os.Create(x + "/big")
	must(t, err)
	const size = 256 << 20
	_, err = f.WriteAt([]byte("end"), size-3)
	must(t, errors.Join(err, f.Close()))
	r, w := io.Pipe()
	go func() { w.CloseWithError(Pack(context.Background(), w, x, "big", PackOptions{As: "big"})) }()
	_, err = Extract(context.Background(), y, r, ExtractOptions{NoChown: true})
	must(t, err)
	var stat unix.Stat_t
	must(t, unix.Stat(y+"/big", &stat))
	if stat.Size != size || stat.Blocks*512 > 1<<20 {
		t.Errorf("%d bytes in %d blocks", stat.Size, stat.Blocks)
	}
}

func TestExtractOwners(t *testing.T) {
	needRoot(t)
	data := archive(t, nil, tar.Header{Name: "d/", Uid: 7, Gid: 8}, tar.Header{Name: "d/f", Uid: 5, Gid: 0}, tar.Header{Name: "implied/g", Uid: 5})
	shift := []IDMap{{Inside: 0, Outside: 100000, Size: 1000}}
	for _, test := range []struct {
		o    ExtractOptions
		want string
	}{
		{ExtractOptions{}, "7:8 5:0 0:0 5:0"},
		{ExtractOptions{NoChown: true}, "0:0 0:0 0:0 0:0"},
		{ExtractOptions{Owner: &Owner{3, 4}}, "3:4 3:4 3:4 3:4"},
		{ExtractOptions{UIDMap: shift, GIDMap: shift}, "100007:100008 100005:100000 100000:100000 100005:100000"},
	} {
		root := t.TempDir()
		must(t, extract(t, root, data, test.o))
		var got []string
		for _, name := range []string{"d", "d/f", "implied", "implied/g"} {
			var stat unix.Stat_t
			must(t, unix.Lstat(root+"/"+name, &stat))
			got = append(got, fmt.Sprintf("%d:%d", stat.Uid, stat.Gid))
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%+v: %v, want %s", test.o, got, test.want)
		}
		back := t.TempDir()
		must(t, extract(t, back, packed(t, root, "", PackOptions{As: ".", UIDMap: test.o.UIDMap, GIDMap: test.o.GIDMap}), ExtractOptions{}))
		var stat unix.Stat_t
		must(t, unix.Lstat(back+"/d", &stat))
		if test.o.UIDMap != nil && (stat.Uid != 7 || stat.Gid != 8) {
			t.Errorf("back: %d:%d", stat.Uid, stat.Gid)
		}
	}
}

// TestExtractFollowsInsideTheRoot: links of the tree on the way are those of the root, wherever the entries go.
func TestExtractFollowsInsideTheRoot(t *testing.T) {
	root := t.TempDir()
	must(t, os.MkdirAll(root+"/data", 0o755))
	must(t, os.MkdirAll(root+"/etc", 0o755))
	must(t, os.Symlink("/etc", root+"/data/abs"))
	must(t, os.Symlink("../../../../etc", root+"/data/rel"))
	data := archive(t, nil, tar.Header{Name: "abs/a"}, tar.Header{Name: "rel/b"}, tar.Header{Name: "../c"})
	must(t, extract(t, root, data, ExtractOptions{Below: "data", NoChown: true}))
	if got := paths(t, root); got != "data data/abs data/c data/rel etc etc/a etc/b" {
		t.Errorf("there are %s", got)
	}
}

// FuzzExtract unpacks hostile archives of files beside a directory that must not change.
func FuzzExtract(f *testing.F) {
	f.Add([]byte("\x02a\x00../outside\x00\x00a/new\x00\x00\x01h\x00a/secret\x00\x05d\x00\x00\x00.wh.d\x00\x00"))
	f.Add([]byte("\x05d\x00\x00\x02d/l\x00/\x00\x00d/l/outside/x\x00\x00\x01y\x00d/l/outside/secret\x00"))
	f.Add([]byte("\x00at\x00\x00\x02../at\x00../../outside\x00\x00secret\x00\x00"))
	f.Fuzz(func(t *testing.T, script []byte) {
		base := t.TempDir()
		root, outside := base+"/root", base+"/outside"
		must(t, os.MkdirAll(root+"/at", 0o755))
		must(t, os.Mkdir(outside, 0o755))
		must(t, os.WriteFile(outside+"/secret", []byte("s"), 0o600))
		touch(t, outside, time.Unix(1, 1))
		before := describe(t, outside)
		_ = extract(t, root, scripted(script), ExtractOptions{Below: "at", NoChown: os.Getuid() != 0})
		compare(t, describe(t, outside), before)
		if entries, err := os.ReadDir(base); err != nil || len(entries) != 2 {
			t.Errorf("beside the root: %v, %v", entries, err)
		}
	})
}

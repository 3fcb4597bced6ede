package files

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParsePlace(t *testing.T) {
	for text, want := range map[string]Place{
		"abc:/etc": {"abc", "/etc"}, "abc:": {"abc", ""}, "/a:b": {"", "/a:b"}, "./a:b": {"", "./a:b"}, "dir/x:y": {"", "dir/x:y"}, "file": {"", "file"}, ":x": {"", ":x"},
	} {
		if got := ParsePlace(text); got != want {
			t.Errorf("%s: %+v, want %+v", text, got, want)
		}
	}
	for text, want := range map[string]string{"/a/b": "/a b false", "/a/b/": "/a b false", "/a/b/.": "/a b true", "/": "/ . true", ".": ". . true", "b": ". b false", "": ". . true", "../..": "../.. . true"} {
		dir, name, contents := split(text)
		if got := fmt.Sprint(dir, " ", name, " ", contents); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// TestCopyStaysInside copies trees in which links lead out.
func TestCopyStaysInside(t *testing.T) {
	root, out := t.TempDir(), t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	write(root+"/etc/inside", "in")
	write(root+"/tree/sub/f", "f")
	write(out+"/secret", "s")
	write(out+"/upload", "u")
	for link, to := range map[string]string{"/out": out, "/abs": "/etc", "/tree/link": "sub/f", "/tree/up": "../../../.."} {
		if err := os.Symlink(to, root+link); err != nil {
			t.Fatal(err)
		}
	}
	k := Copier{Skipped: func(string) {}}
	dest := t.TempDir()
	if err := k.CopyPath(root, "/abs/inside", "", dest); err != nil {
		t.Errorf("through a link that is absolute in the container: %v", err)
	}
	if data, err := os.ReadFile(dest + "/inside"); err != nil || string(data) != "in" {
		t.Errorf("%q, %v", data, err)
	}
	if err := k.CopyPath(root, "/out/secret", "", dest); err == nil {
		t.Error("a link led out of the container")
	}
	if err := k.CopyPath("", out+"/upload", root, "/out/upload"); err == nil {
		t.Error("a link led out of the container for writing")
	}
	if err := k.CopyPath(root, "/tree", "", dest+"/renamed"); err != nil {
		t.Fatal(err)
	}
	if text, err := os.Readlink(dest + "/renamed/link"); err != nil || text != "sub/f" {
		t.Errorf("link %q, %v", text, err)
	}
	if err := k.CopyPath("", dest+"/renamed/.", root, "/etc"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(root + "/etc/sub/f"); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("contents: %v, %v", info, err)
	}
	for want, err := range map[string]error{
		"no such file": k.CopyPath(root, "/nosuch", "", dest), "no directory": k.CopyPath(root, "/etc/inside", "", dest+"/new/"),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

package files

import (
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
}

func TestPlan(t *testing.T) {
	file, dir, contents := source{path: "/s/f"}, source{path: "/s/d", isDir: true}, source{path: "/s/d/.", isDir: true}
	for _, test := range []struct {
		s    source
		t    target
		want string
	}{
		{file, target{"/t/x", false, false}, "/t x"},
		{file, target{"/t/x/", false, false}, "no such directory"},
		{file, target{"/t/x/.", false, false}, "no such directory"},
		{file, target{"", false, false}, "no such directory"},
		{file, target{"/t/x", true, false}, "/t x"},
		{file, target{"/t/x", true, true}, "/t/x f"},
		{file, target{"/t/x/", true, true}, "/t/x/ f"},
		{dir, target{"/t/x", false, false}, "/t x"},
		{dir, target{"/t/x/", false, false}, "/t x"},
		{dir, target{"/t/x", true, false}, "cannot copy directory"},
		{dir, target{"/t/x", true, true}, "/t/x d"},
		{contents, target{"/t/x", false, false}, "/t x"},
		{contents, target{"/t/x", true, false}, "cannot copy directory"},
		{contents, target{"/t/x", true, true}, "/t/x ."},
		{source{path: "/s/leads", as: "link", isDir: true}, target{"/t", true, true}, "/t link"},
		{source{path: "/s/leads", as: "link"}, target{"/t/new", false, false}, "/t new"},
	} {
		dir, as, err := plan(test.s, test.t)
		got := dir + " " + as
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%+v to %+v: %s, want %s", test.s, test.t, got, test.want)
		}
	}
}

func TestLocalPlaces(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"/d/e", "/other"} {
		if err := os.MkdirAll(dir+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(dir+"/f", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"ld": "d", "lf": "f", "dangling": "none/x", "lnew": "new", "loop": "loop"} {
		if err := os.Symlink(to, dir+"/"+link); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	for _, test := range []struct {
		path   string
		follow bool
		want   string
	}{
		{"f", false, "/f as= dir=false"}, {"d", false, "/d as= dir=true"}, {"d/.", false, "/d as= dir=true"}, {"ld", false, "/ld as= dir=false"},
		{"lf", true, "/f as=lf dir=false"}, {"ld", true, "/d as=ld dir=true"}, {"ld/e", false, "/d/e as= dir=true"},
		{"f/", false, "not a directory"}, {"none", false, "no such file"}, {"dangling", true, "no such file"}, {"loop", true, "too many"},
	} {
		s, err := localSource(test.path, test.follow)
		got := fmt.Sprintf("%s as=%s dir=%t", strings.TrimPrefix(s.inside, dir), s.as, s.isDir)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, test.want) {
			t.Errorf("source %s: %s, want %s", test.path, got, test.want)
		}
	}
	for path, want := range map[string]string{
		"new": "/new false false", "new/": "/new/ false false", "f": "/f true false", "lf": "/f true false", "ld": "/d true true", "lnew": "/new false false",
		"none/x": "no such file", "dangling": "no such file", "loop": "too many symlinks", "f/x": "not a directory",
	} {
		got, err := localTarget(path)
		text := fmt.Sprint(strings.TrimPrefix(got.path, dir), " ", got.exists, " ", got.isDir)
		if err != nil {
			text = err.Error()
		}
		if !strings.Contains(text, want) {
			t.Errorf("target %s: %s, want %s", path, text, want)
		}
	}
	for path, want := range map[string]string{"x": "", "none/x": "does not exist", "/dev/null": "got a device", "f": ""} {
		if err := CheckOutput(path); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("output %s: %v", path, err)
		}
	}
}

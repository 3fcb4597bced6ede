package engine

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go/features"

	"github.com/minirt/mini/oci/spec"
)

// TestRuntimes asks a real runtime (runc 1.1, which has no idmapped mounts), and some that are not.
func TestRuntimes(t *testing.T) {
	dir := t.TempDir()
	script := func(name, text string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
		return file
	}
	all := `{"mountOptions":["ro","rro"],"linux":{"namespaces":["user"],"mountExtensions":{"idmap":{"enabled":true}}}}`
	runtimes := map[string]string{
		"all": script("all", "echo x >>"+dir+"/calls; echo '"+all+"'"), "old": script("old", "echo unknown verb >&2; exit 1"),
		"none": filepath.Join(dir, "none"), "odd": script("odd", "echo hello"), "little": script("little", "echo '{}'"),
	}
	var err error
	if runtimes["runc"], err = exec.LookPath("runc"); err != nil {
		t.Fatal(err)
	}
	e := &Engine{Deps: Deps{Host: spec.Host{Kernel: "6.8.0"}, Config: Config{SupervisorPath: runtimes["all"], Runtimes: Runtimes{Paths: runtimes}}}}
	check := func(want map[string]string) {
		t.Helper()
		got := map[string]string{}
		for _, i := range e.Runtimes(t.Context()) {
			switch {
			case i.Error != "":
				got[i.Name] = "error"
			default:
				var can []string
				for what, is := range map[string]bool{"rro": i.RecursiveReadOnly, "user": i.UserNamespaces, "idmap": i.IDMappedMounts} {
					if is {
						can = append(can, what)
					}
				}
				slices.Sort(can)
				got[i.Name] = strings.Join(can, " ")
			}
			if (i.Features == nil) != (i.Error != "") {
				t.Errorf("%s: features %v with error %q", i.Name, i.Features, i.Error)
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("runtimes %q; want %q", got, want)
		}
	}
	want := map[string]string{"": "idmap rro user", "all": "idmap rro user", "old": "error", "none": "error", "odd": "error", "little": "", "runc": "rro"}
	check(want)
	e.Host.Kernel = "6.1.0"
	for _, name := range []string{"", "all"} {
		want[name] = strings.TrimSuffix(want[name], " user")
	}
	check(want)
	e.Host.Kernel = "5.10.0"
	for _, name := range []string{"", "all", "runc"} {
		want[name] = ""
	}
	check(want)
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	if n := strings.Count(string(calls), "x"); err != nil || n > 2 { // under two names at once
		t.Errorf("the binary was asked %d times, error %v", n, err)
	}
	script("old", "echo '{}'") // installed anew
	want["old"] = ""
	check(want)
}

func TestPassed(t *testing.T) {
	own, pod := map[string]string{"a.b/c": "own"}, map[string]string{"a.b/c": "pod", "a.b/d": "1", "x": "2"}
	for _, c := range []struct {
		patterns []string
		want     map[string]string
	}{
		{nil, own},
		{[]string{"x"}, map[string]string{"a.b/c": "own", "x": "2"}},
		{[]string{"a.b/*", "["}, map[string]string{"a.b/c": "own", "a.b/d": "1"}},
	} {
		if got := passed(own, pod, c.patterns); !maps.Equal(got, c.want) {
			t.Errorf("%q: %v; want %v", c.patterns, got, c.want)
		}
	}
	if got := passed(nil, pod, []string{"x"}); len(got) != 1 || len(own) != 1 {
		t.Errorf("%v, and the container's own are %v", got, own)
	}
}

func TestVersionFor(t *testing.T) {
	for _, c := range []struct{ own, newest, want string }{
		{"1.3.0", "-", "1.0.2"}, {"1.0.0", "-", "1.0.0"}, {"1.3.0", "", "1.0.2"}, {"1.3.0", "latest", "1.0.2"},
		{"1.3.0", "1.0.2-dev", "1.0.2-dev"}, {"1.3.0", "1.3.0", "1.3.0"}, {"1.1.0", "1.3.0", "1.1.0"}, {"1.10.0", "1.9.0", "1.9.0"},
	} {
		var said *features.Features
		if c.newest != "-" {
			said = &features.Features{OCIVersionMax: c.newest}
		}
		if got := versionFor(c.own, said); got != c.want {
			t.Errorf("a document of %s for a runtime that knows %q: %q, want %q", c.own, c.newest, got, c.want)
		}
	}
}

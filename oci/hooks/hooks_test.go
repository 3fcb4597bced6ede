package hooks

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestParse(t *testing.T) {
	for name, c := range map[string]struct{ text, bad string }{
		"whole":       {`{"version":"1.0.0","hook":{"path":"/bin/true","args":["true"],"timeout":3},"when":{"always":true},"stages":["prestart","poststop"]}`, ""},
		"no json":     {`{"version"`, "JSON"},
		"old":         {`{"version":"0.1.0","hook":{"path":"/bin/true"},"when":{"always":true},"stages":["prestart"]}`, "version"},
		"relative":    {`{"version":"1.0.0","hook":{"path":"true"},"when":{"always":true},"stages":["prestart"]}`, "hook.path"},
		"no hook":     {`{"version":"1.0.0","when":{"always":true},"stages":["prestart"]}`, "hook.path"},
		"timeout":     {`{"version":"1.0.0","hook":{"path":"/a","timeout":0},"when":{"always":true},"stages":["prestart"]}`, "hook.timeout"},
		"no stage":    {`{"version":"1.0.0","hook":{"path":"/a"},"when":{"always":true}}`, "stages"},
		"wrong stage": {`{"version":"1.0.0","hook":{"path":"/a"},"when":{"always":true},"stages":["precreate"]}`, "precreate"},
		"no when":     {`{"version":"1.0.0","hook":{"path":"/a"},"stages":["prestart"]}`, "when"},
		"expression":  {`{"version":"1.0.0","hook":{"path":"/a"},"when":{"commands":["("]},"stages":["prestart"]}`, "when.commands"},
		"key":         {`{"version":"1.0.0","hook":{"path":"/a"},"when":{"annotations":{"(":"."}},"stages":["prestart"]}`, "when.annotations"},
		"too long":    {strings.Repeat(" ", maxFile+1), "bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(c.text))
			if c.bad == "" && err != nil {
				t.Fatal(err)
			}
			if c.bad != "" && (!errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.bad)) {
				t.Fatalf("error %v; want one about %s", err, c.bad)
			}
		})
	}
}

func TestMatch(t *testing.T) {
	s := &specs.Spec{Annotations: map[string]string{"io.x/gpu": "yes"}, Process: &specs.Process{Args: []string{"/usr/bin/python3", "x"}}}
	for when, want := range map[string]bool{
		`{"always":true}`:                          true,
		`{"always":false}`:                         false,
		`{"always":false,"commands":["python"]}`:   false,
		`{"annotations":{"^io\\.x/":"^yes$"}}`:     true,
		`{"annotations":{"^io\\.x/":"^no$"}}`:      false,
		`{"annotations":{"gpu":"yes","cpu":"."}}`:  false,
		`{"commands":["^/bin/sh$","/python3?$"]}`:  true,
		`{"commands":["^python"]}`:                 false,
		`{"hasBindMounts":true}`:                   false,
		`{"hasBindMounts":false}`:                  false,
		`{"always":true,"commands":["^/bin/sh$"]}`: false,
	} {
		h, err := Parse([]byte(`{"version":"1.0.0","hook":{"path":"/a"},"stages":["prestart"],"when":` + when + `}`))
		if err != nil {
			t.Fatal(when, err)
		}
		if got := h.When.Match(s, false); got != want {
			t.Errorf("%s: %v; want %v", when, got, want)
		}
		if got := h.When.Match(&specs.Spec{}, true); got != (when == `{"hasBindMounts":true}` || when == `{"always":true}`) {
			t.Errorf("%s matches %v a container with binds and nothing else", when, got)
		}
	}
}

func TestDirectories(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	write := func(dir, name, program, stages string) {
		t.Helper()
		text := `{"version":"1.0.0","hook":{"path":"` + program + `"},"when":{"always":true},"stages":` + stages + `}`
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d := Open([]string{one, filepath.Join(one, "none"), two})
	check := func(want string, warnings int) {
		t.Helper()
		s := &specs.Spec{Hooks: &specs.Hooks{Poststop: []specs.Hook{{Path: "/own"}}}}
		if w := d.Add(s, false); len(w) != warnings {
			t.Errorf("warnings %q; want %d", w, warnings)
		}
		got, err := json.Marshal(s.Hooks)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("hooks %s; want %s", got, want)
		}
	}
	own := `{"path":"/own"}`
	check(`{"poststop":[`+own+`]}`, 0)
	write(one, "b.json", "/bin/true", `["poststop"]`)
	write(one, "A.json", "/bin/false", `["poststop","createRuntime"]`)
	write(one, "c.txt", "/bin/sh", `["poststop"]`)
	check(`{"createRuntime":[{"path":"/bin/false"}],"poststop":[`+own+`,{"path":"/bin/false"},{"path":"/bin/true"}]}`, 0)
	write(two, "A.json", "/bin/cat", `["poststop"]`) // stands for the first one's
	write(two, "z.json", "/no/such/program", `["poststop"]`)
	check(`{"poststop":[`+own+`,{"path":"/bin/cat"},{"path":"/bin/true"}]}`, 1)
	write(two, "z.json", "/bin/tee", `["poststop"]`)
	check(`{"poststop":[`+own+`,{"path":"/bin/cat"},{"path":"/bin/true"},{"path":"/bin/tee"}]}`, 0)
	// Changed in place, of the same length, a moment later.
	write(two, "z.json", "/bin/sed", `["poststop"]`)
	later := time.Now().Add(time.Second)
	if err := os.Chtimes(filepath.Join(two, "z.json"), later, later); err != nil {
		t.Fatal(err)
	}
	check(`{"poststop":[`+own+`,{"path":"/bin/cat"},{"path":"/bin/true"},{"path":"/bin/sed"}]}`, 0)
	for _, f := range []string{one + "/b.json", one + "/A.json", two + "/A.json", two + "/z.json"} {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	check(`{"poststop":[`+own+`]}`, 0)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":"1.0.0","hook":{"path":"/a"},"when":{"annotations":{"a":"b"},"commands":["c"]},"stages":["poststop","poststop"]}`))
	f.Add([]byte(`{"version":"1.0.0","hook":{"path":"/a"},"when":{"hasBindMounts":true},"stages":["createContainer"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := Parse(data)
		if err != nil {
			return
		}
		s := &specs.Spec{Process: &specs.Process{Args: []string{"a"}}, Annotations: map[string]string{"a": "b"}}
		h.When.Match(s, true)
		h.Add(s)
		if s.Hooks == nil || len(h.Stages) == 0 {
			t.Fatal("a hook that runs at no stage")
		}
	})
}

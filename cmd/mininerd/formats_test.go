package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDockerFile has docker's config.json say how things are shown and run.
func TestDockerFile(t *testing.T) {
	f := newFake()
	socket := f.serve(t)
	t.Setenv("MININERD_TOML", os.DevNull)
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"psFormat":"{{.Names}}!","detachKeys":"ctrl-?","proxies":{"default":{"httpProxy":"http://p","noProxy":"a"},"unix:///other":{"httpProxy":"x"}}}`)
	for line, want := range map[string]string{
		"ps":                        "web!\n",
		"ps -q":                     "aaaaaaaaaaaa\n",
		"ps -q --format raw":        "container_id: aaaaaaaaaaaa\n",
		"ps --format {{.State}}":    "running\n",
		"run -d -e NO_PROXY= nginx": "made\n",
	} {
		if strings.HasPrefix(line, "run") {
			line = "run --detach-keys= " + strings.TrimPrefix(line, "run ")
		}
		if o := callPlain(t, append([]string{"-H", socket}, strings.Fields(line)...)...); o.code != 0 || o.out != want {
			t.Errorf("%s: %+v", line, o)
		}
	}
	if request := string(f.created[0].Request); !strings.Contains(request, `"env":["NO_PROXY=","HTTP_PROXY=http://p","http_proxy=http://p","no_proxy=a"]`) {
		t.Errorf("%s", request)
	}
	if o := callPlain(t, "-H", socket, "run", "-d", "nginx"); o.code != 125 || !strings.Contains(o.errs, "detach keys") {
		t.Errorf("%+v", o)
	}
	write("{")
	if o := callPlain(t, "-H", socket, "ps"); o.code != 0 || !strings.Contains(o.errs, "WARNING: configuration "+dir) || !strings.Contains(o.out, "NAMES") {
		t.Errorf("%+v", o)
	}
}

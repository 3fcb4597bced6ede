package engine

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/network"
)

// TestFindInTree resolves paths of a tree as docker does.
func TestFindInTree(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"/a/b", "/etc"} {
		if err := os.MkdirAll(root+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"/ld": "a", "/out": "../../../..", "/abs": "/etc", "/loop": "loop", "/dangling": "/none/x", "/lf": "/a/f"} {
		if err := os.Symlink(to, root+link); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(root+"/a/f", []byte("f"), 0o644); err != nil {
		t.Fatal(err)
	}
	top, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer top.Close()
	tr := &tree{File: top}
	for path, want := range map[string]string{
		"/a/f": "f -", "a/f": "f -", "/a": "a d", "/a/": "a d", "/a/.": ". d", "/": "/ d", "/.": ". d", ".": ". d", "/a/b/..": "a d",
		"/ld": "ld l /a", "/ld/": "ld d", "/ld/f": "f -", "/out": "out l /", "/out/etc": "etc d", "/abs/": "abs d", "/lf": "lf l /a/f", "/dangling": "dangling l /none/x",
		"": "!cannot be empty", "/none": "!could not find the file /none", "/a/f/": "!not a directory", "/a/f/x": "!not a directory", "/loop/": "!too many", "/dangling/": "!could not find",
	} {
		got := ""
		s, err := tr.find(path)
		if err == nil {
			var i PathInfo
			i, err = tr.info(path, s)
			got = strings.TrimSpace(i.Name + " " + map[uint32]string{0o040000: "d", 0o100000: "-", 0o120000: "l"}[i.Mode&0o170000] + " " + strings.TrimPrefix(i.LinkTarget, root))
			s.dir.Close()
			if strings.HasSuffix(want, " l /") && i.LinkTarget == root {
				got += " /"
			}
		}
		if fails, no := strings.CutPrefix(want, "!"); no {
			if err == nil || !strings.Contains(err.Error(), fails) {
				t.Errorf("%q: %v, want %s", path, err, fails)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", path, got, err, want)
		}
	}
}

// TestCopyAndCommit puts files into a container that has not run, gets them out, and makes an image of it.
func TestCopyAndCommit(t *testing.T) {
	dir := t.TempDir()
	s := openSandboxes(t, filepath.Join(dir, "sandboxes"))
	w := open(t, dir, s)
	t.Cleanup(func() { unmountBelow(t, dir) })
	w.recover()
	ctx := t.Context()
	o := w.imaged("copies")
	o.Request.Mounts = []spec.Mount{{Type: "bind", Source: dir, Target: "/in/host", Options: []string{"rbind", "ro"}}}
	w.create(o)
	var up bytes.Buffer
	out := tar.NewWriter(&up)
	w.ok(out.WriteHeader(&tar.Header{Name: "new/file", Mode: 0o640, Size: 4, Uid: 3}))
	_, err := out.Write([]byte("text"))
	w.ok(errors.Join(err, out.Close()))
	w.ok(w.CopyTo(ctx, ns, "copies", "/", bytes.NewReader(up.Bytes()), CopyToOptions{}))
	var down bytes.Buffer
	var begun PathInfo
	w.ok(w.CopyFrom(ctx, ns, "copies", "/new", "", func(i PathInfo) error { begun = i; return nil }, &down))
	if begun.Name != "new" || !strings.Contains(down.String(), "text") {
		t.Errorf("%+v, %d bytes", begun, down.Len())
	}
	for path, is := range map[string]func(error) bool{"/none": errdefs.IsNotFound, "/new/file": errdefs.IsInvalidArgument, "/in/host": errdefs.IsFailedPrecondition, "": errdefs.IsInvalidArgument} {
		if err := w.CopyTo(ctx, ns, "copies", path, bytes.NewReader(up.Bytes()), CopyToOptions{}); !is(err) {
			t.Errorf("to %q: %v", path, err)
		}
	}
	if err := w.CopyTo(ctx, ns, "none", "/", bytes.NewReader(nil), CopyToOptions{}); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	broken, cancel := context.WithCancel(ctx)
	cancel()
	if err := w.CopyFrom(broken, ns, "copies", "/", "", func(PathInfo) error { return nil }, &down); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	changes, err := w.Changes(ctx, ns, "copies")
	w.ok(err)
	text, _ := json.Marshal(changes)
	if string(text) != `[{"Path":"/in","Kind":"A"},{"Path":"/in/host","Kind":"A"},{"Path":"/new","Kind":"A"},{"Path":"/new/file","Kind":"A"}]` {
		t.Errorf("%s", text)
	}
	if _, err := w.Commit(ctx, ns, "copies", CommitOptions{Name: "x", Changes: []string{"FROM y"}}); !errdefs.IsInvalidArgument(err) || w.images.layer.Len() > 0 {
		t.Errorf("%v", err)
	}
	_, err = w.Commit(ctx, ns, "copies", CommitOptions{Name: "x", Comment: "c", Changes: []string{"ENV A=b"}})
	w.ok(err)
	if !strings.Contains(w.images.layer.String(), "new/file") || w.images.history.Comment != "c" || strings.Join(w.images.committed.Env, " ") != "OF=image A=b" {
		t.Errorf("%+v, %+v", w.images.committed, w.images.history)
	}
	_, err = w.Delete(ctx, ns, "copies", DeleteOptions{})
	w.ok(err)
	w.shut()
}

// TestOfContainer lays what a container was asked to be over what its image says.
func TestOfContainer(t *testing.T) {
	image := ocispec.ImageConfig{
		Cmd: []string{"old"}, Entrypoint: []string{"entry"}, Env: []string{"A=1", "B=2"}, User: "u", WorkingDir: "/w", Labels: map[string]string{"i": "1"},
		ExposedPorts: map[string]struct{}{"80/tcp": {}}, StopSignal: "SIGINT",
	}
	for want, request := range map[string]spec.Request{
		`"Cmd":["old"]|"Entrypoint":["entry"]|"Env":["A=1","B=2"]|"User":"u"|"WorkingDir":"/w"|"Labels":{"c":"2","i":"1"}|{"53/udp":{},"80/tcp":{},"90/tcp":{}}|-OnBuild|"Healthcheck":{"Test":["CMD","x"]`: {},
		`"Cmd":["new"]|"Entrypoint":["entry"]`:                 {Args: []string{"new"}},
		`-"Cmd"|"Entrypoint":["e"]`:                            {Entrypoint: &[]string{"e"}},
		`"Cmd":["new"]|-"Entrypoint"`:                          {Entrypoint: &[]string{}, Args: []string{"new"}},
		`"Env":["B=3","C=4"]`:                                  {Env: []string{"B=3", "A", "C=4"}},
		`"User":"me"|"WorkingDir":"/x"|"StopSignal":"SIGTERM"`: {User: "me", Cwd: "/x", StopSignal: "SIGTERM"},
	} {
		config := oci.Config{OnBuild: []string{"RUN x"}}
		ofContainer(&config, Container{
			ImageConfig: image, Request: &request, Labels: map[string]string{"c": "2"}, HealthCheck: &HealthCheck{Test: []string{"CMD", "x"}},
			Net: NetworkOptions{Expose: []string{"53/udp"}, Ports: []network.Port{{ContainerPort: 90}}},
		}, nil)
		data, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range strings.Split(want, "|") {
			absent, no := strings.CutPrefix(w, "-")
			if strings.Contains(string(data), absent) == no {
				t.Errorf("%+v: %s, want %s", request, data, w)
			}
		}
	}
	if len(image.Labels) != 1 || len(image.ExposedPorts) != 1 {
		t.Error("the image's own maps were changed")
	}
}

package snapshottest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/runtime/snapshot"
)

// bench is one snapshotter under test.
type bench struct {
	snapshot.Snapshotter
	Suite
	ctx     context.Context
	root    string
	records *Memory
}

func key(name string) snapshot.Key { return snapshot.Key{Namespace: "test", Name: name} }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wants(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// with mounts and calls do.
func with(t *testing.T, mounts []mount.Mount, do func(root string)) {
	t.Helper()
	must(t, mount.Temp(context.Background(), mounts, func(root string) error { do(root); return nil }))
}

// write puts files into an active snapshot: "name=text", or "name" to remove, "name/" for a directory.
func (b *bench) write(t *testing.T, name, parent string, files ...string) {
	t.Helper()
	mounts, err := b.Prepare(b.ctx, key(name), parent, snapshot.Options{})
	must(t, err)
	with(t, mounts, func(root string) { edit(t, root, files...) })
}

func edit(t *testing.T, root string, files ...string) {
	t.Helper()
	for _, f := range files {
		name, text, isFile := strings.Cut(f, "=")
		path := filepath.Join(root, name)
		switch {
		case isFile:
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, os.WriteFile(path, []byte(text), 0o644))
		case strings.HasSuffix(name, "/"):
			must(t, os.MkdirAll(path, 0o755))
		default:
			must(t, os.RemoveAll(path))
		}
	}
}

// layer makes a committed snapshot.
func (b *bench) layer(t *testing.T, name, parent string, files ...string) {
	t.Helper()
	b.write(t, "making-"+name, parent, files...)
	must(t, b.Commit(b.ctx, "test", name, "making-"+name, nil))
}

// look is what a snapshot's tree has, through a view of the parent: "name=text" and "dir/", sorted.
func (b *bench) look(t *testing.T, parent string) string {
	t.Helper()
	mounts, err := b.View(b.ctx, key("look"), parent, snapshot.Options{})
	must(t, err)
	var out string
	with(t, mounts, func(root string) { out = contents(t, root) })
	must(t, b.Remove(b.ctx, key("look")))
	return out
}

func contents(t *testing.T, root string) string {
	t.Helper()
	var out []string
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, root)
		if err != nil || name == "" {
			return err
		}
		name = name[1:]
		if d.IsDir() {
			out = append(out, name+"/")
			return nil
		}
		data, err := os.ReadFile(path)
		out = append(out, name+"="+string(data))
		return err
	}))
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (b *bench) reopen(t *testing.T) {
	t.Helper()
	must(t, b.Close())
	b.Snapshotter = b.Suite.Open(t, b.root, b.records)
}

// dirs are the names of what belongs to snapshots.
func (b *bench) dirs(t *testing.T) []string {
	t.Helper()
	if b.Held != nil {
		return b.Held(t, b.root)
	}
	entries, err := os.ReadDir(filepath.Join(b.root, "snapshots"))
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/oci/spec"
)

func TestCreateTakesAnIDOnce(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		first := w.create(w.options("c"))
		_, err := w.Create(t.Context(), ns, w.options("c"))
		w.is(err, errdefs.ErrAlreadyExists)
		if c, err := w.Get(t.Context(), ns, "c"); err != nil || !c.CreatedAt.Equal(first.CreatedAt) || c.State != Created {
			t.Errorf("the first is %v, %v", c, err)
		}
		_, err = w.Create(t.Context(), "other", w.options("c"))
		w.ok(err)
		w.events.want(t, "create c (created)", "create c (created)")
		if k := w.Counts(); k.Containers != 2 || k.Running != 0 {
			t.Errorf("counts %v", k)
		}
		made := w.create(w.options(""))
		if len(made.ID) != 64 {
			t.Errorf("the id made is %q", made.ID)
		}
	})
}

func TestCreateRefuses(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		for name, change := range map[string]func(*CreateOptions){
			"a bad id":               func(o *CreateOptions) { o.ID = "../c" },
			"a long id":              func(o *CreateOptions) { o.ID = string(make([]byte, 200)) },
			"an unknown snapshotter": func(o *CreateOptions) { o.Snapshotter = "zfs" },
			"an unknown runtime":     func(o *CreateOptions) { o.Runtime = "kata" },
			"request and spec":       func(o *CreateOptions) { o.Spec = &specs.Spec{} },
			"neither":                func(o *CreateOptions) { o.Request = nil },
			"no root filesystem":     func(o *CreateOptions) { o.Request = &spec.Request{} },
			"a bad spec":             func(o *CreateOptions) { o.Request, o.Spec = nil, &specs.Spec{Version: "9.9"} },
		} {
			o := w.options("c")
			change(&o)
			if _, err := w.Create(t.Context(), ns, o); !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		w.events.want(t)
		w.clean()
	})
}

// TestCreateFails fails at each step. Nothing is left, nobody hears of it, and the id is free.
func TestCreateFails(t *testing.T) {
	for name, broken := range map[string]func(w *world, o *CreateOptions){
		"resolve":  func(w *world, _ *CreateOptions) { w.images.resolve = errBroken },
		"unpack":   func(w *world, _ *CreateOptions) { w.images.unpack = errBroken },
		"prepare":  func(w *world, _ *CreateOptions) { w.snapshots.prepare = errBroken },
		"mount":    func(w *world, _ *CreateOptions) { w.snapshots.mounts = errBroken },
		"the spec": func(_ *world, o *CreateOptions) { o.Request.User = "nobody-of-this-name" },
		"the sources": func(_ *world, o *CreateOptions) {
			o.Request.Mounts = []spec.Mount{{Type: "bind", Source: "/proc/not/there", Target: "/m", CreateSource: true}}
		},
		"a namespace of another": func(_ *world, o *CreateOptions) {
			o.Request.Namespaces = map[string]string{"network": "container:not-there"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				o := w.imaged("c")
				broken(w, &o)
				if _, err := w.Create(t.Context(), ns, o); err == nil {
					t.Fatal("it is created all the same")
				}
				w.events.want(t)
				w.clean()
				w.images.resolve, w.images.unpack, w.snapshots.prepare, w.snapshots.mounts = nil, nil, nil, nil
				w.create(w.imaged("c"))
				_, err := w.Delete(t.Context(), ns, "c", DeleteOptions{})
				w.ok(err)
				w.clean()
			})
		})
	}
}

// TestCreateCannotWriteItsBundle leaves what is not the container's alone.
func TestCreateCannotWriteItsBundle(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		o := w.imaged("c")
		w.ok(os.MkdirAll(filepath.Join(w.State, "containers"), 0o755))
		file := filepath.Join(w.State, "containers", ns)
		w.ok(os.WriteFile(file, nil, 0o644))
		if _, err := w.Create(t.Context(), ns, o); err == nil {
			t.Fatal("it is created all the same")
		}
		// The undo finds a file where its directory should be, and says so by staying.
		if s := w.state("c"); s != "-" && s != Creating {
			t.Errorf("it is %s", s)
		}
		w.ok(os.Remove(file))
		if _, err := w.Delete(t.Context(), ns, "c", DeleteOptions{}); err != nil && !errdefs.IsNotFound(err) {
			t.Error(err)
		}
		w.clean()
	})
}

// TestCreateOnAStoreThatFails leaves a record that the next engine removes with all it announces.
func TestCreateOnAStoreThatFails(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		o := w.imaged("c")
		w.snapshots.mounting = func() { w.ok(w.store.Close()) }
		_, err := w.Create(t.Context(), ns, o)
		w.is(err, errdefs.ErrUnavailable)
		w.events.want(t)
		w.again()
		if s := w.state("c"); s != Creating {
			t.Fatalf("it is %s", s)
		}
		w.recover()
		w.background.Wait()
		w.clean()
		w.events.want(t)
	})
}

// TestCreateIsUndoneForACallerWhoLeft needs no patience of the caller.
func TestCreateIsUndoneForACallerWhoLeft(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		o := w.imaged("c")
		ctx, leave := context.WithCancel(t.Context())
		w.snapshots.preparing = leave
		w.snapshots.mounts = errBroken
		_, err := w.Create(ctx, ns, o)
		if err == nil || !errors.Is(err, errBroken) && !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		w.clean()
	})
}

func TestCreateFromAnImage(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		o := w.imaged("c")
		o.SnapshotLabels = map[string]string{"a": "b"}
		c := w.create(o)
		if c.Image != "docker.io/library/busybox:latest" || c.ChainID != base || c.Snapshot != "c" || c.Log.Driver != "json-file" {
			t.Errorf("record %+v", c)
		}
		if data, err := os.ReadFile(filepath.Join(w.Bundle(c), "rootfs/file")); err != nil || string(data) != "1" {
			t.Errorf("its root filesystem: %q, %v", data, err)
		}
		s, err := w.Spec(t.Context(), ns, "c")
		w.ok(err)
		if s.Root.Path != filepath.Join(w.Bundle(c), "rootfs") || s.Process.Args[0] != "sleep" {
			t.Errorf("root %v, args %v", s.Root, s.Process.Args)
		}
		_, err = w.Delete(t.Context(), ns, "c", DeleteOptions{KeepSnapshot: true})
		w.ok(err)
		infos, err := w.snapshots.List(t.Context(), ns)
		if err != nil || len(infos) != 2 || infos[0].Name != "c" || infos[0].Labels["a"] != "b" {
			t.Errorf("snapshots %v, %v", infos, err)
		}
	})
}

func TestFind(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		for _, id := range []string{"ab", "abc", "abd", "x"} {
			w.create(w.options(id))
		}
		for _, row := range []struct {
			id, found string
			err       error
		}{
			{"ab", "ab", nil}, // itself, though others begin so
			{"abc", "abc", nil},
			{"x", "x", nil},
			{"a", "", errdefs.ErrInvalidArgument},
			{"", "", errdefs.ErrInvalidArgument},
			{"abcd", "", errdefs.ErrNotFound},
		} {
			c, err := w.Get(t.Context(), ns, row.id)
			if c.ID != row.found || !errors.Is(err, row.err) {
				t.Errorf("%q: %q, %v; want %q, %v", row.id, c.ID, err, row.found, row.err)
			}
		}
		_, err := w.Get(t.Context(), "other", "ab")
		w.is(err, errdefs.ErrNotFound)
		list, err := w.List(t.Context(), "")
		if err != nil || len(list) != 4 || list[0].ID != "ab" {
			t.Errorf("list %v, %v", list, err)
		}
	})
}

func TestLabels(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		o := w.options("c")
		o.Labels = map[string]string{"a": "1", "b": "2"}
		w.create(o)
		c, err := w.SetLabels(t.Context(), ns, "c", map[string]string{"a": "", "c": "3"}, false)
		if err != nil || len(c.Labels) != 2 || c.Labels["b"] != "2" || c.Labels["c"] != "3" {
			t.Errorf("changed: %v, %v", c.Labels, err)
		}
		c, err = w.SetLabels(t.Context(), ns, "c", map[string]string{"d": "4"}, true)
		if err != nil || len(c.Labels) != 1 || c.Labels["d"] != "4" {
			t.Errorf("replaced: %v, %v", c.Labels, err)
		}
		if len(o.Labels) != 2 {
			t.Errorf("the caller's labels became %v", o.Labels)
		}
		w.again()
		w.recover()
		if c, err := w.Get(t.Context(), ns, "c"); err != nil || c.Labels["d"] != "4" {
			t.Errorf("after a restart: %v, %v", c.Labels, err)
		}
	})
}

// TestSpecAfterAReboot builds it again, but mounts nothing for a container that is being removed.
func TestSpecAfterAReboot(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		c := w.create(w.imaged("c"))
		unmountBelow(t, w.dir)
		w.ok(os.RemoveAll(w.Bundle(c)))
		s, err := w.Spec(t.Context(), ns, "c")
		if err != nil || s.Root.Path != filepath.Join(w.Bundle(c), "rootfs") {
			t.Errorf("spec %v, %v", s, err)
		}
		l, err := w.find(ns, "c")
		w.ok(err)
		w.ok(w.save(l, func(c *Container) { c.State = Removing }))
		unmountBelow(t, w.dir)
		w.ok(os.RemoveAll(w.Bundle(c)))
		_, err = w.Spec(t.Context(), ns, "c")
		w.is(err, errdefs.ErrFailedPrecondition)
		if _, err := os.Stat(w.Bundle(c)); !os.IsNotExist(err) {
			t.Errorf("the bundle is there again: %v", err)
		}
		_, err = w.Delete(t.Context(), ns, "c", DeleteOptions{})
		w.ok(err)
		w.clean()
	})
}

// TestCreateAfterHalf asks again for a container that was left half made.
func TestCreateAfterHalf(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		o := w.imaged("one")
		o.Key = "web"
		w.snapshots.prepare, w.snapshots.remove = errBroken, errBroken
		_, err := w.Create(t.Context(), ns, o)
		w.is(err, errBroken)
		if s := w.state("one"); s != Creating {
			t.Fatalf("left as %s", s)
		}
		w.snapshots.prepare, w.snapshots.remove = nil, nil
		o.ID = "two"
		if c := w.create(o); c.ID != "two" {
			t.Errorf("made as %s", c.ID)
		}
		if s := w.state("one"); s != "-" {
			t.Errorf("the half is left as %s", s)
		}
		_, err = w.Delete(t.Context(), ns, "two", DeleteOptions{})
		w.ok(err)
		w.clean()
	})
}

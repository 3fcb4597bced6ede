package engine

import (
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
)

func (w *world) named(id, name string) CreateOptions {
	o := w.options(id)
	o.Name = name
	return o
}

func TestNames(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.create(w.named("aaa1", "web"))
		w.create(w.named("aaa2", "db"))
		for name, want := range map[string]string{"web": "aaa1", "aaa1": "aaa1", "db": "aaa2", "aaa2": "aaa2"} {
			if c, err := w.Get(t.Context(), ns, name); err != nil || c.ID != want {
				t.Errorf("%s: %s, %v; want %s", name, c.ID, err, want)
			}
		}
		_, err := w.Get(t.Context(), ns, "aaa")
		if w.is(err, errdefs.ErrInvalidArgument); !strings.Contains(err.Error(), "aaa1, aaa2") {
			t.Errorf("%v", err)
		}
		_, err = w.Get(t.Context(), "other", "web")
		w.is(err, errdefs.ErrNotFound)

		_, err = w.Create(t.Context(), ns, w.named("bbb", "web"))
		if w.is(err, errdefs.ErrAlreadyExists); !strings.Contains(err.Error(), "name web is taken by container aaa1: remove it or choose another") {
			t.Errorf("%v", err)
		}
		_, err = w.Create(t.Context(), ns, w.named("bbb", "aaa1"))
		w.is(err, errdefs.ErrAlreadyExists)
		_, err = w.Create(t.Context(), ns, w.named("bbb", "/no"))
		w.is(err, errdefs.ErrInvalidArgument)
		_, err = w.Create(t.Context(), "other", w.named("bbb", "web"))
		w.ok(err)

		t.Log("renamed, the old name is free")
		c, err := w.Rename(t.Context(), ns, "web", "front")
		if w.ok(err); c.Name != "front" {
			t.Errorf("%s", c.Name)
		}
		_, err = w.Rename(t.Context(), ns, "front", "db")
		w.is(err, errdefs.ErrAlreadyExists)
		_, err = w.Rename(t.Context(), ns, "front", "")
		w.is(err, errdefs.ErrInvalidArgument)
		_, err = w.Get(t.Context(), ns, "web")
		w.is(err, errdefs.ErrNotFound)
		w.create(w.named("ccc", "web"))

		t.Log("the next daemon knows them")
		w.again()
		w.recover()
		for name, want := range map[string]string{"front": "aaa1", "db": "aaa2", "web": "ccc"} {
			if c, err := w.Get(t.Context(), ns, name); err != nil || c.ID != want {
				t.Errorf("%s: %s, %v; want %s", name, c.ID, err, want)
			}
		}
		t.Log("removed, its name is free")
		for _, name := range []string{"front", "db", "web"} {
			_, err := w.Delete(t.Context(), ns, name, DeleteOptions{})
			w.ok(err)
		}
		_, err = w.Delete(t.Context(), "other", "web", DeleteOptions{})
		w.ok(err)
		w.create(w.named("ddd", "web"))
		_, err = w.Delete(t.Context(), ns, "web", DeleteOptions{})
		w.ok(err)
		w.settled()
		w.clean()
		if len(w.names) > 0 {
			t.Errorf("names %v", w.names)
		}
	})
}

func TestGeneratedNames(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		var all sync.WaitGroup
		for _, id := range []string{"a", "b", "c", "d"} {
			all.Go(func() {
				o := w.options(id)
				o.GenerateName = true
				c, err := w.Create(t.Context(), ns, o)
				if err != nil || !strings.Contains(c.Name, "_") {
					t.Errorf("%q, %v", c.Name, err)
				}
			})
		}
		all.Wait()
		if len(w.names) != 4 {
			t.Errorf("%v", w.names)
		}
	})
}

// TestOneNameAtOnce has many who want the same.
func TestOneNameAtOnce(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		var all sync.WaitGroup
		made := make(chan string, 10)
		for _, id := range strings.Split("abcdefghij", "") {
			all.Go(func() {
				if _, err := w.Create(t.Context(), ns, w.named(id, "web")); err == nil {
					made <- id
				} else if !errdefs.IsAlreadyExists(err) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if len(made) != 1 {
			t.Errorf("%d have the name", len(made))
		}
	})
}

package image

import (
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/store"
)

// table is one of records in memory.
type table map[[2]string]Image

func (t table) Get(ns, key string) (Image, error) {
	if img, ok := t[[2]string{ns, key}]; ok {
		return img, nil
	}
	return Image{}, errdefs.ErrNotFound
}
func (t table) Create(ns, key string, v Image) error { return t.Put(ns, key, v) }
func (t table) Put(ns, key string, v Image) error    { t[[2]string{ns, key}] = v; return nil }
func (t table) Delete(ns, key string) error          { delete(t, [2]string{ns, key}); return nil }
func (t table) Update(ns, key string, change func(*Image) error) (Image, error) {
	img, err := t.Get(ns, key)
	if err == nil {
		err = change(&img)
	}
	return img, err
}

func (t table) List(ns string) (list []store.Entry[Image], err error) {
	for k, img := range t {
		if ns == "" || ns == k[0] {
			list = append(list, store.Entry[Image]{Namespace: k[0], Key: k[1], Value: img})
		}
	}
	return list, nil
}

func TestWithAdditional(t *testing.T) {
	own := table{{"a", "both"}: {Name: "both"}, {"a", "own"}: {Name: "own"}}
	r := WithAdditional(own, []store.Entry[Image]{
		{Namespace: "a", Key: "both", Value: Image{Name: "both", Store: "/first"}}, {Namespace: "a", Key: "theirs", Value: Image{Name: "theirs", Store: "/first"}},
		{Namespace: "a", Key: "theirs", Value: Image{Name: "theirs", Store: "/second"}}, {Namespace: "b", Key: "theirs", Value: Image{Name: "theirs", Store: "/second"}},
	})
	for ns, want := range map[string]string{"": "both own theirs/first theirs/second", "a": "both own theirs/first", "b": "theirs/second", "c": ""} {
		list, err := r.List(ns)
		var got []string
		for _, e := range list {
			got = append(got, e.Key+e.Value.Store)
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("images of %q: %v, %v, want %s", ns, got, err, want)
		}
		if !slices.IsSortedFunc(list, func(x, y store.Entry[Image]) int {
			return strings.Compare(x.Namespace+"/"+x.Key, y.Namespace+"/"+y.Key)
		}) {
			t.Errorf("images of %q are not in order: %v", ns, got)
		}
	}
	if img, err := r.Get("a", "both"); err != nil || img.Store != "" {
		t.Errorf("a name of both: %v, %v", img, err)
	}
	if err := r.Delete("a", "theirs"); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "/first") {
		t.Errorf("delete: %v", err)
	}
	if _, err := r.Update("b", "theirs", func(*Image) error { return nil }); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("update: %v", err)
	}
	if _, err := r.Update("b", "none", func(*Image) error { return nil }); !errdefs.IsNotFound(err) {
		t.Errorf("update of none: %v", err)
	}
	if err := r.Delete("a", "both"); err != nil {
		t.Errorf("delete of an own one: %v", err)
	}
	if img, err := r.Get("a", "both"); err != nil || img.Store != "/first" {
		t.Errorf("what was behind it: %v, %v", img, err)
	}
}

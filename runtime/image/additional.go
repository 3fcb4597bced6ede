package image

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/store"
)

// WithAdditional shows the images of stores that are only read behind those of the table: a name of its own goes before,
// and what is changed is its own alone.
func WithAdditional(own Records, others []store.Entry[Image]) Records {
	if len(others) == 0 {
		return own
	}
	a := additional{own, map[string]map[string]Image{}}
	for _, e := range others {
		if a.others[e.Namespace] == nil {
			a.others[e.Namespace] = map[string]Image{}
		}
		if _, shadowed := a.others[e.Namespace][e.Key]; !shadowed { // the store that is named first goes before
			a.others[e.Namespace][e.Key] = e.Value
		}
	}
	return a
}

type additional struct {
	Records
	others map[string]map[string]Image // by namespace and name
}

// Get implements Records.
func (a additional) Get(ns, key string) (Image, error) {
	img, err := a.Records.Get(ns, key)
	if other, ok := a.others[ns][key]; ok && errdefs.IsNotFound(err) {
		return other, nil
	}
	return img, err
}

// List implements Records.
func (a additional) List(ns string) ([]store.Entry[Image], error) {
	list, err := a.Records.List(ns)
	own := map[[2]string]bool{}
	for _, e := range list {
		own[[2]string{e.Namespace, e.Key}] = true
	}
	for in, images := range a.others {
		for name, img := range images {
			if (ns == "" || ns == in) && !own[[2]string{in, name}] {
				list = append(list, store.Entry[Image]{Namespace: in, Key: name, Value: img})
			}
		}
	}
	slices.SortFunc(list, func(x, y store.Entry[Image]) int {
		return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Key, y.Key))
	})
	return list, err
}

// Update implements Records.
func (a additional) Update(ns, key string, change func(*Image) error) (Image, error) {
	img, err := a.Records.Update(ns, key, change)
	if errdefs.IsNotFound(err) {
		err = a.readOnly(ns, key, err)
	}
	return img, err
}

// Delete implements Records.
func (a additional) Delete(ns, key string) error {
	if _, err := a.Records.Get(ns, key); errdefs.IsNotFound(err) {
		if err := a.readOnly(ns, key, nil); err != nil {
			return err
		}
	}
	return a.Records.Delete(ns, key)
}

// readOnly is the error for an image that is in an additional store, and otherwise for the others.
func (a additional) readOnly(ns, key string, otherwise error) error {
	img, ok := a.others[ns][key]
	if !ok {
		return otherwise
	}
	return fmt.Errorf("image %s is in the additional store %s, which is only read: take the store out of image.additional_stores, or tag the image and work with that: %w",
		key, img.Store, errdefs.ErrFailedPrecondition)
}

package engine

// keyed finds what clients have asked for under a key, so that asking again is answered without looking at everything
// that there is. The lock of the engine's tables is held for each call.
type keyed[T comparable] map[key]T

// put makes v the one of its key; that of an earlier one, which is being removed, is forgotten.
func (k keyed[T]) put(ns, name string, v T) {
	if name != "" {
		k[key{ns, name}] = v
	}
}

// drop forgets v, unless its key belongs to a later one.
func (k keyed[T]) drop(ns, name string, v T) {
	if k[key{ns, name}] == v {
		delete(k, key{ns, name})
	}
}

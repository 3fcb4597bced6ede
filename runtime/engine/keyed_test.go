package engine

import "testing"

func TestKeyed(t *testing.T) {
	older, newer, k := &live{}, &live{}, keyed[*live]{}
	is := func(ns, name string, want *live) {
		t.Helper()
		if got := k[key{ns, name}]; got != want {
			t.Errorf("%s/%s is %p, want %p", ns, name, got, want)
		}
	}
	k.put("a", "", older)
	if len(k) != 0 {
		t.Error("one without a key is found by it")
	}
	k.put("a", "k", older)
	is("b", "k", nil)
	k.put("a", "k", newer) // the older one is being removed
	k.drop("a", "k", older)
	is("a", "k", newer)
	k.drop("a", "k", newer)
	is("a", "k", nil)
}

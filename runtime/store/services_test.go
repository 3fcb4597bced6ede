package store

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

func TestNamespaces(t *testing.T) {
	s := tempStore(t)
	n, pets := NewNamespaces(s), NewTable[pet](s, "pet", 1, nil)
	if _, err := n.Create("work", map[string]string{"a": "1", "b": "2"}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Create("work", nil); !errdefs.IsAlreadyExists(err) {
		t.Errorf("second Create: %v", err)
	}
	for range 2 {
		if err := n.Ensure(DefaultNamespace); err != nil {
			t.Errorf("Ensure: %v", err)
		}
	}
	if l, err := n.List(); err != nil || len(l) != 2 || l[0].Name != "default" || l[1].Name != "work" {
		t.Errorf("List: %v, %v", l, err)
	}
	v, err := n.SetLabels("work", map[string]string{"a": "", "c": "3"}, false)
	if err != nil || !maps.Equal(v.Labels, map[string]string{"b": "2", "c": "3"}) {
		t.Errorf("SetLabels: %v, %v", v, err)
	}
	v, err = n.SetLabels("work", map[string]string{"d": "4"}, true)
	if err != nil || !maps.Equal(v.Labels, map[string]string{"d": "4"}) {
		t.Errorf("SetLabels with replace: %v, %v", v, err)
	}
	if _, err := n.SetLabels("none", nil, false); !errdefs.IsNotFound(err) {
		t.Errorf("SetLabels of nothing: %v", err)
	}

	if err := pets.Create("work", "cat", pet{}); err != nil {
		t.Fatal(err)
	}
	if err := n.Delete("work"); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "pet (1)") {
		t.Errorf("Delete of a namespace in use: %v", err)
	}
	if err := pets.Delete("work", "cat"); err != nil {
		t.Fatal(err)
	}
	if err := n.Delete("work"); err != nil {
		t.Errorf("Delete: %v", err)
	}
	if err := n.Delete("work"); !errdefs.IsNotFound(err) {
		t.Errorf("second Delete: %v", err)
	}
}

func TestValidName(t *testing.T) {
	for name, ok := range map[string]bool{
		"default": true, "k8s.io": true, "a-b_c.d": true, "A1": true, strings.Repeat("a", 76): true,
		"": false, "-a": false, "a-": false, "a--b": false, "a b": false, "ä": false, "a/b": false, "a\n": false, strings.Repeat("a", 77): false,
	} {
		if err := ValidName(name); (err == nil) != ok || err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("ValidName(%q): %v", name, err)
		}
	}
}

func TestValidLabels(t *testing.T) {
	for _, c := range []struct {
		labels map[string]string
		ok     bool
	}{
		{nil, true},
		{map[string]string{"a": strings.Repeat("x", 4095)}, true},
		{map[string]string{"a": strings.Repeat("x", 4096)}, false},
		{map[string]string{"": "x"}, false},
	} {
		if err := ValidLabels(c.labels); (err == nil) != c.ok {
			t.Errorf("%v: %v", c.labels, err)
		}
	}
}

func TestLeases(t *testing.T) {
	s := tempStore(t)
	l := NewLeases(s)
	now := time.Unix(1000, 0)
	l.now = func() time.Time { return now }
	if _, err := l.Create("a", "short", nil, time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Create("a", "short", nil, 0); !errdefs.IsAlreadyExists(err) {
		t.Errorf("second Create: %v", err)
	}
	forever, err := l.Create("b", "", map[string]string{"x": "y"}, 0)
	if err != nil || len(forever.ID) != 64 || !forever.ExpiresAt.IsZero() {
		t.Fatalf("Create: %v, %v", forever, err)
	}
	blob, layer := Resource{"content", "sha256:1"}, Resource{"snapshot/overlay", "sha256:2"}
	for range 2 {
		if v, err := l.Add("a", "short", blob); err != nil || len(v.Resources) != 1 {
			t.Errorf("Add: %v, %v", v, err)
		}
	}
	if _, err := l.Add("b", forever.ID, layer); err != nil {
		t.Errorf("Add: %v", err)
	}
	if _, err := l.Add("b", forever.ID, Resource{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("Add of nothing: %v", err)
	}
	if h, err := l.Resources(); err != nil || len(h) != 2 || h[0] != (Held{"a", blob}) || h[1] != (Held{"b", layer}) {
		t.Errorf("Resources: %v, %v", h, err)
	}

	now = now.Add(time.Minute)
	if _, err := l.Get("a", "short"); !errdefs.IsNotFound(err) {
		t.Errorf("Get of an expired lease: %v", err)
	}
	if _, err := l.Add("a", "short", layer); !errdefs.IsNotFound(err) {
		t.Errorf("Add to an expired lease: %v", err)
	}
	if all, err := l.List(""); err != nil || len(all) != 1 || all[0].ID != forever.ID {
		t.Errorf("List: %v, %v", all, err)
	}
	if h, err := l.Resources(); err != nil || len(h) != 1 {
		t.Errorf("Resources: %v, %v", h, err)
	}
	if n, err := l.Expire(); err != nil || n != 1 {
		t.Errorf("Expire: %d, %v", n, err)
	}
	if n, err := l.Expire(); err != nil || n != 0 {
		t.Errorf("second Expire: %d, %v", n, err)
	}
	if v, err := l.Create("a", "short", nil, 0); err != nil || len(v.Resources) != 0 {
		t.Errorf("Create after expiry: %v, %v", v, err)
	}
	if err := l.Delete("b", forever.ID); err != nil {
		t.Errorf("Delete: %v", err)
	}
	if _, err := l.Create("a", "x", nil, -time.Second); !errdefs.IsInvalidArgument(err) {
		t.Errorf("Create in the past: %v", err)
	}
	sound(t, s)
}

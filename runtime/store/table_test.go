package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestTable(t *testing.T) {
	s := tempStore(t)
	pets := NewTable[pet](s, "pet", 1, nil)
	if _, err := pets.Get("a", "cat"); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "pet cat in namespace a") {
		t.Errorf("Get of nothing: %v", err)
	}
	if err := pets.Create("a", "cat", pet{"cat", 4}); err != nil {
		t.Fatal(err)
	}
	if err := pets.Create("a", "cat", pet{}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("second Create: %v", err)
	}
	if v, err := pets.Get("a", "cat"); err != nil || v != (pet{"cat", 4}) {
		t.Errorf("Get: %v, %v", v, err)
	}
	if _, err := pets.Get("b", "cat"); !errdefs.IsNotFound(err) {
		t.Errorf("Get from another namespace: %v", err)
	}
	if v, err := pets.Update("a", "cat", func(p *pet) error { p.Legs--; return nil }); err != nil || v.Legs != 3 {
		t.Errorf("Update: %v, %v", v, err)
	}
	no := errors.New("no")
	if v, err := pets.Update("a", "cat", func(p *pet) error { p.Legs = 9; return no }); err != no || v != (pet{}) {
		t.Errorf("refused Update: %v, %v", v, err)
	}
	if v, _ := pets.Get("a", "cat"); v.Legs != 3 {
		t.Errorf("a refused Update was saved: %v", v)
	}
	if _, err := pets.Update("a", "dog", func(*pet) error { return nil }); !errdefs.IsNotFound(err) {
		t.Errorf("Update of nothing: %v", err)
	}
	for range 2 {
		if err := pets.Delete("a", "cat"); err != nil {
			t.Errorf("Delete: %v", err)
		}
	}
	if _, err := pets.Get("a", "cat"); !errdefs.IsNotFound(err) {
		t.Errorf("Get after Delete: %v", err)
	}
	sound(t, s)
}

func TestBadKeys(t *testing.T) {
	pets := NewTable[pet](tempStore(t), "pet", 1, nil)
	for _, k := range [][2]string{{"a", ""}, {"a", "x\x00y"}, {"a\x00", "x"}, {"a", strings.Repeat("x", 40000)}} {
		if err := pets.Create(k[0], k[1], pet{}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("Create(%.10q, %.10q): %v", k[0], k[1], err)
		}
	}
}

func TestListAndFind(t *testing.T) {
	pets := NewTable[pet](tempStore(t), "pet", 1, nil)
	for _, name := range []string{"b/ab", "a/b", "a/ab", "ab/a", "a/abc", "/x"} {
		ns, key, _ := strings.Cut(name, "/")
		if err := pets.Put(ns, key, pet{Name: key}); err != nil {
			t.Fatal(err)
		}
	}
	names := func(l []Entry[pet], err error) string {
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, e := range l {
			if e.Value.Name != e.Key {
				t.Errorf("entry %v has another's value", e)
			}
			all = append(all, e.Namespace+"/"+e.Key)
		}
		return strings.Join(all, " ")
	}
	for _, c := range []struct{ got, want string }{
		{names(pets.List("")), "/x a/ab a/abc a/b ab/a b/ab"},
		{names(pets.List("a")), "a/ab a/abc a/b"},
		{names(pets.List("c")), ""},
		{names(pets.Find("a", "ab")), "a/ab a/abc"},
		{names(pets.Find("", "")), "/x"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

// TestOlderRecords saves with the first version of a table and reads with the third.
func TestOlderRecords(t *testing.T) {
	s := tempStore(t)
	type old struct{ Feet string }
	first := NewTable[old](s, "pet", 1, nil)
	if err := first.Create("a", "cat", old{"four"}); err != nil {
		t.Fatal(err)
	}
	delete(s.tables, "pet")
	var from []int
	third := NewTable[pet](s, "pet", 3, func(v int, raw []byte) ([]byte, error) {
		from = append(from, v)
		var o old
		if err := json.Unmarshal(raw, &o); err != nil {
			return nil, err
		}
		if o.Feet != "four" {
			return nil, fmt.Errorf("feet %q", o.Feet)
		}
		return json.Marshal(pet{"cat", 4})
	})
	if v, err := third.Update("a", "cat", func(p *pet) error { p.Legs--; return nil }); err != nil || v != (pet{"cat", 3}) {
		t.Fatalf("Update of an old record: %v, %v", v, err)
	}
	if v, err := third.Get("a", "cat"); err != nil || v != (pet{"cat", 3}) {
		t.Fatalf("Get of a record that was saved again: %v, %v", v, err)
	}
	if !reflect.DeepEqual(from, []int{1}) {
		t.Errorf("migrated from %v, want once from 1", from)
	}
	_, err := first.Get("a", "cat")
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "version 3") || !strings.Contains(err.Error(), "up to 1") {
		t.Errorf("a newer record: %v", err)
	}
	sound(t, s)
}

func TestListReturnsWhatItCan(t *testing.T) {
	s := tempStore(t)
	pets := NewTable[pet](s, "pet", 1, nil)
	if err := pets.Create("a", "cat", pet{"cat", 4}); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(func(tx *Tx) error { tx.put(row{"pet", join("a", "bad")}, []byte("{")); return nil }); err != nil {
		t.Fatal(err)
	}
	l, err := pets.List("a")
	if !errdefs.IsDataLoss(err) || !strings.Contains(err.Error(), "pet bad") || len(l) != 1 {
		t.Fatalf("List: %v, %v", l, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"v":1,"data":{"Name":"cat","Legs":4}}`))
	f.Add([]byte(`{"v":0,"data":null}`))
	f.Add([]byte(`{"v":1}`))
	f.Add([]byte(``))
	t := &Table[pet]{kind: "pet", version: 1}
	f.Fuzz(func(tt *testing.T, data []byte) {
		v, err := t.decode(data)
		if err != nil {
			if !errdefs.IsDataLoss(err) && !errdefs.IsFailedPrecondition(err) {
				tt.Fatalf("error without a class: %v", err)
			}
			return
		}
		again, err := t.encode(v)
		if err != nil {
			tt.Fatal(err)
		}
		if w, err := t.decode(again); err != nil || w != v {
			tt.Fatalf("%v became %v: %v", v, w, err)
		}
	})
}

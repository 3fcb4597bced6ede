package engine

import (
	"os"
	"reflect"
	"testing"
)

func TestParentOf(t *testing.T) {
	for stat, want := range map[string]int{
		"12 (sh) S 7 12 12 0": 7, "12 (a) b) c) S 9 1": 9, "12 (sh": 0, "": 0, "12 (sh) S": 0, "12 (sh) S x 1": 0,
	} {
		if got := parentOf(stat); got != want {
			t.Errorf("%q: %d, want %d", stat, got, want)
		}
	}
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	if got := parentOf(string(stat)); got != os.Getppid() {
		t.Errorf("this process: %d, want %d", got, os.Getppid())
	}
}

func TestFamily(t *testing.T) {
	parents := map[int]int{1: 0, 5: 1, 6: 5, 9: 6, 7: 1, 2: 9}
	for first, want := range map[[2]int][]int{{5, 5}: {2, 5, 6, 9}, {7, 9}: {2, 7, 9}, {8, 8}: {}, {1, 8}: {1, 2, 5, 6, 7, 9}} {
		if got := family(parents, first[0], first[1]); !reflect.DeepEqual(got, want) {
			t.Errorf("%d: %v, want %v", first, got, want)
		}
	}
}

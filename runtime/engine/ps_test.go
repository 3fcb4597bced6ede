package engine

import (
	"reflect"
	"testing"

	"github.com/containerd/errdefs"
)

func TestProcessTable(t *testing.T) {
	const out = "UID          PID CMD\nroot          12 sh -c a  b\nroot          13 other\n65534         14\n"
	got, err := processTable(out, []int{12, 14})
	want := ProcessTable{Titles: []string{"UID", "PID", "CMD"}, Rows: [][]string{{"root", "12", "sh -c a b"}, {"65534", "14", ""}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v, not %v", got, err, want)
	}
	for _, bad := range []string{"", "UID CMD\n1 2\n", "PID CMD\nx y\n"} {
		if _, err := processTable(bad, nil); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for option, want := range map[string]bool{"-o": false, "pid,cmd": false, "pid=": true, "cmd,pid=X": true, "-opid=x": true, "ppid=parent": true, "cmd=x": false, "-ef": false} {
		if renamesPID(option) != want {
			t.Errorf("%s renames: %t", option, !want)
		}
	}
}

func FuzzProcessTable(f *testing.F) {
	f.Add("PID CMD\n1 init\n 2  sh -c x\n")
	f.Add("A PID\n\nx 1\n")
	f.Fuzz(func(t *testing.T, out string) {
		table, err := processTable(out, []int{1, 2})
		if err != nil && !errdefs.IsInvalidArgument(err) {
			t.Fatal(err)
		}
		for _, row := range table.Rows {
			if len(row) != len(table.Titles) {
				t.Fatalf("%q: a row of %d, %d titles", out, len(row), len(table.Titles))
			}
		}
	})
}

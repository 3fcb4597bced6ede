package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestDependencies holds the supervisor small: every package that is linked into it stands in deps.txt, so that adding
// one is a decision.
func TestDependencies(t *testing.T) {
	data, err := os.ReadFile("deps.txt")
	if err != nil {
		t.Fatal(err)
	}
	list := exec.Command("go", "list", "-tags", "seccomp", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	want, got := strings.Fields(string(data)), strings.Fields(string(out))
	slices.Sort(got)
	for _, p := range got {
		if !slices.Contains(want, p) {
			t.Errorf("%s is linked into the supervisor and not in deps.txt", p)
		}
	}
	for _, p := range want {
		if !slices.Contains(got, p) {
			t.Errorf("%s is in deps.txt and no longer linked", p)
		}
	}
	if t.Failed() {
		t.Log("when that is meant: go list -tags seccomp -deps -f '{{if not .Standard}}{{.ImportPath}}{{end}}' . | sort > deps.txt")
	}
}

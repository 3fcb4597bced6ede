package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestCommittedCode makes the API's code anew and compares it with what is committed.
func TestCommittedCode(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the plugins")
	}
	const api = "../../runtime/api"
	dir := t.TempDir()
	sources, err := filepath.Glob(filepath.Join(api, "*.proto"))
	if err != nil || len(sources) == 0 {
		t.Fatal(sources, err)
	}
	var files []string
	for _, source := range sources {
		files = append(files, filepath.Base(source))
		data, err := os.ReadFile(source)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(source)), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := generate(t.Context(), dir, files); err != nil {
		t.Fatal(err)
	}
	made, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(made) < 3*len(sources) {
		t.Fatal(made, err)
	}
	for _, name := range made {
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(api, filepath.Base(name)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the .proto files make: run `go generate ./runtime/api`", filepath.Base(name))
		}
	}
}

func TestErrorsNameTheLine(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "bad.proto"), []byte("syntax = \"proto3\";\nmessage {"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := generate(t.Context(), dir, []string{"bad.proto"})
	if err == nil || !bytes.Contains([]byte(err.Error()), []byte("bad.proto:2:9")) {
		t.Fatalf("error is %v, want one that names bad.proto:2:9", err)
	}
}

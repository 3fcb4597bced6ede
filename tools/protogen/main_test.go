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
	source, err := os.ReadFile(filepath.Join(api, "minid.proto"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "minid.proto"), source, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := generate(t.Context(), dir, []string{"minid.proto"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"minid.pb.go", "minid_grpc.pb.go"} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(api, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what minid.proto makes: run `go generate ./runtime/api`", name)
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

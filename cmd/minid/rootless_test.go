package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHasRange(t *testing.T) {
	const text = "root:1:65536\nalice:100000:65536\n1001:165536:65536\n"
	for who, want := range map[[2]string]bool{{"alice", "1000"}: true, {"bob", "1001"}: true, {"bob", "1002"}: false, {"ali", "100000"}: false} {
		if got := hasRange(text, who[0], who[1]); got != want {
			t.Errorf("%v: %v", who, got)
		}
	}
}

func TestHomes(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv("XDG_CONFIG_HOME", "")
	data, config, err := homes()
	if err != nil || data != filepath.Join(home, ".local/share/minid") || config != "" {
		t.Errorf("%s, %s, %v", data, config, err)
	}
	t.Setenv("XDG_DATA_HOME", "/data")
	t.Setenv("XDG_CONFIG_HOME", home)
	file := filepath.Join(home, "minid/config.toml")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if data, config, err = homes(); err != nil || data != "/data/minid" || config != file {
		t.Errorf("%s, %s, %v", data, config, err)
	}
}

func TestNeeded(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := needed()
	if err == nil || !strings.Contains(err.Error(), "rootlesskit (package rootlesskit)") || !strings.Contains(err.Error(), "newuidmap (package uidmap)") {
		t.Errorf("%v", err)
	}
}

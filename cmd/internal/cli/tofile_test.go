package cli

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestToFile(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	say := func(text string) func(io.Writer) error {
		return func(w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		}
	}
	failed := errors.New("it failed")
	fail := func(w io.Writer) error { return errors.Join(say("half")(w), failed) }
	if err := ToFile(file, fail); !errors.Is(err, failed) {
		t.Error(err)
	}
	if names, _ := os.ReadDir(dir); len(names) != 0 {
		t.Errorf("left: %v", names)
	}
	if err := os.Symlink("file", link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, file, link} {
		if err := ToFile(name, say(name)); err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(file); err != nil || string(data) != name {
			t.Errorf("%q, %v", data, err)
		}
		if err := ToFile(name, fail); !errors.Is(err, failed) {
			t.Error(err)
		}
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().IsRegular() {
		t.Errorf("the link: %v, %v", info, err)
	}
	if names, _ := os.ReadDir(dir); len(names) != 2 {
		t.Errorf("left: %v", names)
	}
	if err := ToFile(os.DevNull, say("x")); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(os.DevNull); err != nil || info.Mode()&os.ModeDevice == 0 {
		t.Errorf("%s is none any more: %v, %v", os.DevNull, info, err)
	}
	if err := ToFile(filepath.Join(dir, "none", "x"), say("x")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// Command images builds the images that the tests use, of Debian's own packages and of made-up layers, straight into the
// storage directory of a registry (distribution's filesystem layout), which testenv.Registry serves. It builds only when
// the recipes here or the packages have changed.
//
//	go run ./test/images -o .cache/images
package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// built describes an image for the tests; testenv reads it.
type built struct {
	Repo      string   `json:"repo"`
	Tag       string   `json:"tag"`
	Digest    string   `json:"digest"`
	MediaType string   `json:"mediaType"`
	Size      int64    `json:"size"` // bytes of all blobs
	Layers    int      `json:"layers"`
	DiffIDs   []string `json:"diffIDs,omitempty"`

	manifestSize int64
}

// catalog is images.json, written last: it marks a directory as whole.
type catalog struct {
	Recipe string  `json:"recipe"`
	Images []built `json:"images"`
}

func main() {
	out := flag.String("o", ".cache/images", "`directory` to build in")
	force := flag.Bool("f", false, "build even when nothing has changed")
	flag.Parse()
	if err := run(*out, *force); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(out string, force bool) error {
	want, err := recipe()
	if err != nil {
		return err
	}
	list := filepath.Join(out, "images.json")
	if have, err := read(list); err == nil && have.Recipe == want && !force {
		fmt.Printf("%s: %d images, up to date\n", out, len(have.Images))
		return nil
	}
	began := time.Now()
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	store := &storage{root: filepath.Join(out, "registry")}
	images, err := build(store)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(catalog{Recipe: want, Images: images}, "", "  ")
	if err != nil {
		return err
	}
	fmt.Printf("%s: %d images in %s\n", out, len(images), time.Since(began).Round(time.Second))
	return os.WriteFile(list, data, 0o644)
}

func read(list string) (catalog, error) {
	var c catalog
	data, err := os.ReadFile(list)
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(data, &c)
}

// recipe is the digest of everything that the images depend on: this program and the packages' versions.
func recipe() (string, error) {
	sources, err := filepath.Glob("test/images/*.go")
	programs, programsErr := filepath.Glob("test/images/*/*.go")
	if sources = append(sources, programs...); errors.Join(err, programsErr) != nil || len(sources) == 0 {
		return "", fmt.Errorf("no test/images/*.go here; run it in the repository's root")
	}
	h := sha256.New()
	for _, name := range sources {
		data, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		h.Write(data)
	}
	// A package that is not installed has no version, and its image is left out.
	versions, _ := exec.Command("dpkg-query", append([]string{"-W", "-f", "${Package} ${Version}\n"}, packages()...)...).Output()
	h.Write(versions)
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

func packages() []string {
	return []string{"busybox-static", "procps", "util-linux", "nginx-light", "redis-server"}
}

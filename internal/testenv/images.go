package testenv

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// ImageInfo describes a test image as "make images" built it.
type ImageInfo struct {
	Repo      string   `json:"repo"`
	Tag       string   `json:"tag"`
	Digest    string   `json:"digest"` // of the manifest or the index
	MediaType string   `json:"mediaType"`
	Size      int64    `json:"size"` // bytes of all blobs
	Layers    int      `json:"layers"`
	DiffIDs   []string `json:"diffIDs"`
}

// Images lists the test images; test/images/recipes.go says what is in them.
func Images(t testing.TB) []ImageInfo {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(imagesDir(t), "images.json"))
	if err != nil {
		t.Skip("needs the test images, which are not built (make images)")
	}
	var c struct{ Images []ImageInfo }
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatalf("images.json: %v", err)
	}
	return c.Images
}

// Image finds one by its repository's name.
func Image(t testing.TB, repo string) ImageInfo {
	t.Helper()
	for _, i := range Images(t) {
		if i.Repo == repo {
			return i
		}
	}
	t.Skipf("needs the test image %s, which was left out of the build (make deps-test, make images)", repo)
	return ImageInfo{}
}

// Blob reads a blob of the test images.
func Blob(t testing.TB, digest string) []byte {
	t.Helper()
	hex := digest[len("sha256:"):]
	data, err := os.ReadFile(filepath.Join(imagesDir(t), "registry/docker/registry/v2/blobs/sha256", hex[:2], hex, "data"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func imagesDir(t testing.TB) string { return filepath.Join(Repository(t), ".cache/images") }

package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
)

// storage is a registry's directory as distribution's filesystem driver lays it out (docs: storage paths, v2).
type storage struct {
	root string
}

func digestOf(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

func (s *storage) write(data []byte, elements ...string) error {
	name := filepath.Join(append([]string{s.root, "docker/registry/v2"}, elements...)...)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o644)
}

// blob stores a layer or a config and makes it known to the repository.
func (s *storage) blob(repo string, data []byte) (string, error) {
	digest := digestOf(data)
	hex := digest[len("sha256:"):]
	if err := s.write(data, "blobs/sha256", hex[:2], hex, "data"); err != nil {
		return "", err
	}
	return digest, s.write([]byte(digest), "repositories", repo, "_layers/sha256", hex, "link")
}

// manifest stores a manifest or an index, under a tag unless that is empty.
func (s *storage) manifest(repo, tag string, data []byte) (string, error) {
	digest := digestOf(data)
	hex := digest[len("sha256:"):]
	link := []byte(digest)
	if err := s.write(data, "blobs/sha256", hex[:2], hex, "data"); err != nil {
		return "", err
	}
	if err := s.write(link, "repositories", repo, "_manifests/revisions/sha256", hex, "link"); err != nil || tag == "" {
		return digest, err
	}
	tags := filepath.Join("repositories", repo, "_manifests/tags", tag)
	if err := s.write(link, tags, "index/sha256", hex, "link"); err != nil {
		return "", err
	}
	return digest, s.write(link, tags, "current/link")
}

// Package bundle writes, reads and checks OCI bundles: a directory with a config.json. What goes into the document is
// oci/spec's business; the root filesystem beside it is the daemon's.
//
// https://github.com/opencontainers/runtime-spec/blob/v1.3.0/bundle.md
package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Config is the document's name in the bundle.
const Config = "config.json"

// maxConfig bounds a document, in bytes; one with a thousand mounts has about 200,000.
const maxConfig = 16 << 20

// Write puts the document into the bundle's directory, which must exist. A reader sees the old one or the new one,
// never a part. It is not synced: bundles live in /run and do not outlast the machine's run.
func Write(dir string, s *specs.Spec) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("bundle %s: %w", dir, err)
	}
	f, err := os.CreateTemp(dir, "."+Config+"-*")
	if err != nil {
		return fmt.Errorf("bundle %s: %w", dir, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o600) // environment variables are often secrets
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, Config))
	}
	if err != nil {
		return fmt.Errorf("bundle %s: %w", dir, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// Load reads the document of a bundle. Fields that this version of the runtime spec does not know are ignored, as the
// specification demands. Errors: ErrNotFound, ErrInvalidArgument.
func Load(dir string) (*specs.Spec, error) {
	file := filepath.Join(dir, Config)
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("bundle %s has no %s: %w", dir, Config, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", dir, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", dir, err)
	}
	s, err := Decode(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

// Decode reads a document. Errors: ErrInvalidArgument.
func Decode(data []byte) (*specs.Spec, error) {
	if len(data) > maxConfig {
		return nil, fmt.Errorf("the document has more than %d bytes: %w", maxConfig, errdefs.ErrInvalidArgument)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	s := &specs.Spec{}
	if err := d.Decode(s); err != nil {
		return nil, fmt.Errorf("the document isn't a runtime-spec one: %v: %w", err, errdefs.ErrInvalidArgument)
	}
	if d.More() {
		return nil, fmt.Errorf("there is something after the document: %w", errdefs.ErrInvalidArgument)
	}
	return s, nil
}

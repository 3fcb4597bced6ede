package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
)

// partly begins the name of a directory whose checkpoint is being written. No checkpoint has such a name.
const partly = "."

// checkpoints is the directory that named checkpoints of a container are in, each in one of its own: dir, or with an
// empty one the container's.
func (e *Engine) checkpoints(c Container, dir string) (string, error) {
	if dir == "" {
		return filepath.Join(e.home(c), "checkpoints"), nil
	}
	if !filepath.IsAbs(dir) {
		return "", fmt.Errorf("directory of checkpoints %q: write an absolute path: %w", dir, errdefs.ErrInvalidArgument)
	}
	return filepath.Clean(dir), nil
}

// checkpointPath is where a named checkpoint of a container is.
func (e *Engine) checkpointPath(c Container, name, dir string) (string, error) {
	if !validID.MatchString(name) {
		return "", fmt.Errorf("name of a checkpoint %q: use letters, digits, _ . - and begin with a letter or digit: %w", name, errdefs.ErrInvalidArgument)
	}
	all, err := e.checkpoints(c, dir)
	return filepath.Join(all, name), err
}

// CheckpointNamed is Checkpoint into a directory that ListCheckpoints tells. It is there whole or not at all.
func (e *Engine) CheckpointNamed(ctx context.Context, ns, id, name, dir string, o CheckpointOptions) (string, error) {
	c, err := e.Get(ctx, ns, id)
	if err != nil {
		return "", err
	}
	path, err := e.checkpointPath(c, name, dir)
	if err != nil {
		return "", err
	}
	if _, err := os.Lstat(path); err == nil {
		return "", fmt.Errorf("checkpoint with name %s already exists for container %s: %w", name, c.Name, errdefs.ErrAlreadyExists)
	}
	o.Path = filepath.Join(filepath.Dir(path), partly+name)
	if err := os.RemoveAll(o.Path); err != nil { // of one that a crash has cut short
		return "", fmt.Errorf("checkpoint container %s: %w", c.ID, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("checkpoint container %s: %w", c.ID, err)
	}
	err = e.Checkpoint(ctx, ns, c.ID, o)
	if err == nil {
		err = os.Rename(o.Path, path)
	}
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(o.Path))
	}
	return path, nil
}

// ListCheckpoints tells the named checkpoints of a container, in the order of their names.
func (e *Engine) ListCheckpoints(ctx context.Context, ns, id, dir string) ([]string, error) {
	c, err := e.Get(ctx, ns, id)
	if err != nil {
		return nil, err
	}
	all, err := e.checkpoints(c, dir)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(all)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoints of container %s: %w", c.ID, err)
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() && !strings.HasPrefix(entry.Name(), partly) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// CheckpointPath is the directory of a named checkpoint that is there.
func (e *Engine) CheckpointPath(ctx context.Context, ns, id, name, dir string) (string, error) {
	c, err := e.Get(ctx, ns, id)
	if err != nil {
		return "", err
	}
	path, err := e.checkpointPath(c, name, dir)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("checkpoint %s does not exist for container %s: %w", name, c.Name, errdefs.ErrNotFound)
	} else if err != nil {
		return "", fmt.Errorf("checkpoint %s of container %s: %w", name, c.ID, err)
	}
	return path, nil
}

// RemoveCheckpoint removes a named checkpoint of a container.
func (e *Engine) RemoveCheckpoint(ctx context.Context, ns, id, name, dir string) error {
	path, err := e.CheckpointPath(ctx, ns, id, name, dir)
	if err != nil {
		return err
	}
	// No longer one, even if its removal is cut short.
	going := filepath.Join(filepath.Dir(path), partly+name)
	if err := errors.Join(os.RemoveAll(going), os.Rename(path, going)); err != nil {
		return fmt.Errorf("remove checkpoint %s: %w", name, err)
	}
	return os.RemoveAll(going)
}

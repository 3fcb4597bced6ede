package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"github.com/minirt/mini/internal/atomicfile"
	"github.com/minirt/mini/internal/flock"
)

// lockDirectories makes the root and the state directory and takes a lock in each, so that no two daemons work in the
// same one. unlock gives both back.
func lockDirectories(root, state string) (unlock func(context.Context) error, err error) {
	var locks []*flock.Lock
	unlock = func(context.Context) error {
		var err error
		for _, l := range locks {
			err = errors.Join(err, l.Unlock())
		}
		return err
	}
	for _, dir := range []struct {
		key, path string
		mode      fs.FileMode
	}{{"root", root, 0o711}, {"state", state, 0o711}} {
		if err := os.MkdirAll(dir.path, dir.mode); err != nil {
			return nil, errors.Join(fmt.Errorf("make the %s directory: %w", dir.key, err), unlock(context.Background()))
		}
		l, err := flock.TryLock(filepath.Join(dir.path, "minid.lock"))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("another daemon has the %s directory %s: give this one its own with --%s, or stop the other: %w",
				dir.key, dir.path, dir.key, err), unlock(context.Background()))
		}
		locks = append(locks, l)
	}
	return unlock, nil
}

// identity is the daemon's UUID, made at the first start in this root.
func identity(root string) (string, error) {
	path := filepath.Join(root, "uuid")
	data, err := os.ReadFile(path)
	if err == nil {
		if id, err := uuid.Parse(strings.TrimSpace(string(data))); err == nil {
			return id.String(), nil
		}
		return "", fmt.Errorf("%s does not have a UUID: remove it to get a new one", path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	id := uuid.NewString()
	return id, atomicfile.Write(path, []byte(id+"\n"), 0o644)
}

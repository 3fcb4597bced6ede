package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/treecopy"
	"github.com/minirt/mini/runtime/image"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/snapshot/overlay"
	"github.com/minirt/mini/runtime/store"
)

// recordsFile has the records, in the root directory; its journal is beside it.
const recordsFile = "meta.db"

// additionalStores are what other daemons have left, which is only read.
type additionalStores struct {
	images  []store.Entry[image.Image]
	content []string // roots
	layers  []snapshot.Elsewhere
}

// readAdditional reads the records of the additional stores. One that is not there, or in use, is left out with a warning:
// what is not in it goes on.
func (d *Daemon) readAdditional(ctx context.Context) (all additionalStores) {
	for _, root := range d.Config.Image.AdditionalStores {
		if err := all.read(ctx, root, d); err != nil {
			d.Log.Warn("an additional store is left out", "store", root, "error", err)
		}
	}
	return all
}

func (a *additionalStores) read(ctx context.Context, root string, d *Daemon) (err error) {
	dir, err := copyRecords(root, d.Config.State)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := store.Open(ctx, store.Options{Path: filepath.Join(dir, recordsFile), Logger: d.Log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	images, err := store.NewTable[image.Image](s, "images", 1, nil).List("")
	if err != nil {
		return err
	}
	layers, err := snapshot.NewRecords(s, overlay.Name).List("")
	if err != nil {
		return err
	}
	for i := range images {
		images[i].Value.Store = root
	}
	a.images = append(a.images, images...)
	a.content = append(a.content, filepath.Join(root, "content"))
	a.layers = append(a.layers, snapshot.NewElsewhere(filepath.Join(root, "snapshots", overlay.Name), layers))
	return nil
}

// copyRecords copies the records of a store, which may be where nothing can be written, into a new directory. They must
// not change meanwhile.
func copyRecords(root, state string) (dir string, err error) {
	records, err := os.Open(filepath.Join(root, recordsFile))
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("%s is no root directory of a minid, or not mounted: %w", root, errdefs.ErrNotFound)
	}
	if err != nil {
		return "", err
	}
	defer records.Close()
	if err := unix.Flock(int(records.Fd()), unix.LOCK_SH|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return "", fmt.Errorf("another daemon uses it: only what nobody changes can be read: %w", errdefs.ErrUnavailable)
	}
	if dir, err = os.MkdirTemp(state, "additional-"); err != nil {
		return "", err
	}
	files, err := filepath.Glob(filepath.Join(root, recordsFile+"*")) // the journal beside it
	for _, name := range files {
		info, statErr := os.Stat(name)
		if err = errors.Join(err, statErr); err == nil {
			err = treecopy.CopyFile(name, filepath.Join(dir, filepath.Base(name)), info.Size())
		}
	}
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}

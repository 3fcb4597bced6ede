// Package erofs keeps each committed layer as one file, an image of the read-only filesystem EROFS, and puts overlays on
// them. A layer takes one inode however many files it has, is written in one stream, cannot be changed by accident, and
// the memory of what is read of it is shared by all containers.
//
// The directory of a committed snapshot has "layer.erofs", and "layer", where that is mounted as soon as a snapshot on it
// is made. Those mounts end with the layer, and with the daemon; overlays go on without them. What is not committed is as
// the overlay snapshotter has it. Images are made by mkfs.erofs, of erofs-utils 1.5 or later.
package erofs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/snapshot/overlay"
)

// Name of the snapshotter, and of the filesystem.
const Name = "erofs"

// program makes the images.
const program = "mkfs.erofs"

// Options of Open.
type Options struct {
	Name    string           // of the snapshotter; empty: Name
	Root    string           // absolute; made if it is not there
	Records snapshot.Records // see snapshot.NewRecords
	Log     *slog.Logger
}

// Open opens the store and clears away what a crash has left. ErrNotImplemented when the kernel cannot mount images that
// are files (it can since Linux 6.12), or mkfs.erofs is not installed.
func Open(ctx context.Context, o Options) (*overlay.Store, error) {
	p := &packer{name: o.Name}
	if p.name == "" {
		p.name = Name
	}
	var err error
	if p.mkfs, err = exec.LookPath(program); err != nil {
		return nil, fmt.Errorf("%w: install erofs-utils: %w", err, errdefs.ErrNotImplemented)
	}
	if err := p.probe(ctx, o.Root); err != nil {
		return nil, fmt.Errorf("images of erofs cannot be mounted from files here (Linux 6.12 can): %w: %w", err, errdefs.ErrNotImplemented)
	}
	return overlay.Open(ctx, overlay.Options{Root: o.Root, Records: o.Records, Log: o.Log, Packer: p})
}

type packer struct {
	name, mkfs string
	showing    sync.Mutex // one mounts at a time
}

// probe makes an image of nothing and builds its mount, detached.
func (p *packer) probe(ctx context.Context, root string) (err error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(root, "probe-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Mkdir(filepath.Join(dir, "fs"), 0o755); err != nil {
		return err
	}
	if err := p.make(ctx, filepath.Join(dir, "fs"), image(dir)); err != nil {
		return err
	}
	tree, err := mount.Tree(mountOf(dir))
	if err != nil {
		return err
	}
	return tree.Close()
}

// Name implements overlay.Packer.
func (p *packer) Name() string { return p.name }

func image(dir string) string { return filepath.Join(dir, "layer.erofs") }

func shown(dir string) string { return filepath.Join(dir, "layer") }

func mountOf(dir string) mount.Mount {
	return mount.Mount{Type: Name, Source: image(dir), Options: []string{"ro", "nodev", "private"}}
}

// Pack implements overlay.Packer. The image is whole when it has its name. The files are deleted after that: should a
// crash come before the record says that the snapshot is committed, they are found in the image.
func (p *packer) Pack(ctx context.Context, dir string) error {
	provisional := image(dir) + ".new"
	if err := os.RemoveAll(provisional); err != nil {
		return err
	}
	if err := p.make(ctx, filepath.Join(dir, "fs"), provisional); err != nil {
		return errors.Join(err, os.Remove(provisional))
	}
	if err := failpoint.Hit("snapshot-packed"); err != nil {
		return err
	}
	if err := syncFile(provisional); err != nil {
		return err
	}
	if err := os.MkdirAll(shown(dir), 0o700); err != nil {
		return err
	}
	if err := os.Rename(provisional, image(dir)); err != nil {
		return err
	}
	return syncFile(dir)
}

// make runs mkfs.erofs. Every inode keeps its own times to the nanosecond, which only the extended form has.
func (p *packer) make(ctx context.Context, from, to string) error {
	cmd := exec.CommandContext(ctx, p.mkfs, "--quiet", "--preserve-mtime", "-Eforce-inode-extended", to, from)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, bytes.TrimSpace(out))
	}
	return nil
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Show implements overlay.Packer.
func (p *packer) Show(dir string) (string, error) {
	p.showing.Lock()
	defer p.showing.Unlock()
	at := shown(dir)
	mounted, err := mount.Mounted(at)
	if mounted {
		return at, nil
	}
	if err == nil {
		err = mount.All([]mount.Mount{mountOf(dir)}, at)
	}
	if errors.Is(err, unix.ENOENT) || errdefs.IsNotFound(err) {
		err = fmt.Errorf("%w: %w", err, errdefs.ErrDataLoss)
	}
	if err != nil {
		return "", fmt.Errorf("packed layer: %w", err)
	}
	// What a crash has left of those that were packed.
	return at, errors.Join(os.RemoveAll(filepath.Join(dir, "fs")), os.RemoveAll(filepath.Join(dir, "work")))
}

// Hide implements overlay.Packer.
func (p *packer) Hide(dir string) error {
	p.showing.Lock()
	defer p.showing.Unlock()
	return mount.Unmount(shown(dir))
}

// Usage implements overlay.Packer: the image, and the directory that it is mounted on.
func (p *packer) Usage(dir string) (snapshot.Usage, error) {
	info, err := os.Stat(image(dir))
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%w: %w", err, errdefs.ErrDataLoss)
	}
	if err != nil {
		return snapshot.Usage{}, err
	}
	stat := info.Sys().(*syscall.Stat_t)
	return snapshot.Usage{Size: stat.Blocks * 512, Inodes: 2}, nil
}

// Package erofs keeps each committed layer as one file, an image of the read-only filesystem EROFS, and puts overlays on
// them. A layer takes one inode however many files it has, is written in one stream, cannot be changed by accident, and
// the memory of what is read of it is shared by all containers. With verity it has a hash tree, and the kernel compares
// each block that is read with it (dm-verity): what was changed behind the daemon's back cannot be read.
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
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/snapshot/dmsetup"
	"github.com/minirt/mini/runtime/snapshot/overlay"
)

// Name of the snapshotter, and of the filesystem.
const Name = "erofs"

// program makes the images.
const program = "mkfs.erofs"

// patience is for dmsetup, which answers in milliseconds.
const patience = 30 * time.Second

// Options of Open.
type Options struct {
	Name    string           // of the snapshotter; empty: Name
	Root    string           // absolute; made if it is not there
	Records snapshot.Records // see snapshot.NewRecords
	Log     *slog.Logger
	Verity  bool // layers that are packed from now on are verified as they are read; those with a hash tree always are
}

// Open opens the store and clears away what a crash has left. ErrNotImplemented when the kernel cannot mount images (those
// that are files since Linux 6.12, before that by loop devices), or mkfs.erofs is not installed; with verity, when dmsetup
// or the kernel's dm-verity are missing.
func Open(ctx context.Context, o Options) (*overlay.Store, error) {
	p := &packer{name: o.Name, verity: o.Verity, mapper: dmsetup.New()}
	if p.name == "" {
		p.name = Name
	}
	var err error
	if p.mkfs, err = exec.LookPath(program); err != nil {
		return nil, fmt.Errorf("%w: install erofs-utils: %w", err, errdefs.ErrNotImplemented)
	}
	if err := p.probe(ctx, o.Root); err != nil {
		return nil, fmt.Errorf("images of erofs cannot be mounted here: %w: %w", err, errdefs.ErrNotImplemented)
	}
	return overlay.Open(ctx, overlay.Options{Root: o.Root, Records: o.Records, Log: o.Log, Packer: p})
}

type packer struct {
	name, mkfs string
	loop       bool // the kernel mounts images by loop devices alone
	verity     bool
	mapper     dmsetup.Mapper
	showing    sync.Mutex // one mounts at a time
}

// probe packs nothing and builds its mount, detached: from the file, or else by a loop device.
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
	if err := p.Pack(ctx, dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.conceal(dir)) }()
	if err = p.try(dir); err != nil && !p.verity {
		p.loop = true
		err = p.try(dir)
	}
	return err
}

// try builds the mount of a packed layer, detached.
func (p *packer) try(dir string) error {
	m, err := p.mountOf(dir)
	if err != nil {
		return err
	}
	tree, err := mount.Tree(m)
	if err != nil {
		return err
	}
	return tree.Close()
}

// Name implements overlay.Packer.
func (p *packer) Name() string { return p.name }

func image(dir string) string { return filepath.Join(dir, "layer.erofs") }

func shown(dir string) string { return filepath.Join(dir, "layer") }

// mountOf is how a packed layer is mounted. Its device, if it is one that is verified, is there then.
func (p *packer) mountOf(dir string) (mount.Mount, error) {
	m := mount.Mount{Type: Name, Source: image(dir), Options: []string{"ro", "nodev", "private"}}
	t, verified, err := readTree(dir)
	switch {
	case err != nil:
		return m, err
	case verified:
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		m.Source, err = t.activate(ctx, p.mapper, dir)
	case p.loop:
		m.Options = append(m.Options, "loop")
	}
	return m, err
}

// conceal takes away what mountOf has made.
func (p *packer) conceal(dir string) error {
	t, verified, err := readTree(dir)
	if err != nil || !verified {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return p.mapper.Remove(ctx, t.device(dir))
}

// Pack implements overlay.Packer. The image is whole when it has its name. The files are deleted after that: should a
// crash come before the record says that the snapshot is committed, they are found in the image.
func (p *packer) Pack(ctx context.Context, dir string) error {
	provisional := image(dir) + ".new"
	if err := errors.Join(os.RemoveAll(provisional), os.RemoveAll(hashed(dir))); err != nil {
		return err
	}
	if err := p.make(ctx, filepath.Join(dir, "fs"), provisional); err != nil {
		return errors.Join(err, os.Remove(provisional))
	}
	if p.verity {
		t, err := appendTree(provisional)
		if err == nil {
			err = writeTree(dir, t)
		}
		if err != nil {
			return fmt.Errorf("hash tree: %w", err)
		}
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
		err = p.mount(dir, at)
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

func (p *packer) mount(dir, at string) error {
	m, err := p.mountOf(dir)
	if err != nil {
		return err
	}
	return mount.All([]mount.Mount{m}, at)
}

// Hide implements overlay.Packer. Overlays on the layer keep its device.
func (p *packer) Hide(dir string) error {
	p.showing.Lock()
	defer p.showing.Unlock()
	return errors.Join(mount.Unmount(shown(dir)), p.conceal(dir))
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

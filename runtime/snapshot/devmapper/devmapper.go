// Package devmapper keeps each snapshot as a thin volume of a device-mapper pool (dm-thin), with an ext4 in it. A new
// snapshot shares all blocks with its parent until they are written. It bounds what a container can write, and is what
// virtual machines take as a disk without a file in between.
//
// The pool is the administrator's, and this daemon's alone: the volumes have the numbers of the snapshots. A directory for
// each says that there is one, and how large it is.
package devmapper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/snapshot/disks"
	"github.com/minirt/mini/runtime/snapshot/dmsetup"
)

// Name of the snapshotter.
const Name = "devmapper"

// sector is what the kernel counts disks in, in bytes.
const sector = 512

// maxDevice is the last number that a volume can have (dm-thin: 24 bits).
const maxDevice = 1<<24 - 1

// Open opens the store, whose pool is called as dmsetup(8) has it, and clears away what a crash has left. ErrNotImplemented
// without dmsetup or the kernel's device mapper; ErrFailedPrecondition when there is no such pool.
func Open(ctx context.Context, name string, o disks.Options) (*disks.Store, error) {
	o, err := o.Complete(Name)
	if err != nil {
		return nil, err
	}
	p := pool{mapper: dmsetup.New(), name: name, sectors: o.Size / sector}
	if err := p.check(ctx); err != nil {
		return nil, err
	}
	clear := func(dir string) error { return p.remove(context.WithoutCancel(ctx), dir) }
	directories, err := snapshot.OpenDirectories(ctx, o.Root, o.Records, o.Log, clear)
	if err != nil {
		return nil, err
	}
	return disks.New(o.Name, directories, p), nil
}

// pool is the device of disks.
type pool struct {
	mapper  dmsetup.Mapper
	name    string
	sectors int64 // of disks without a parent
}

func (p pool) check(ctx context.Context) error {
	status, err := p.mapper.Status(ctx, p.name)
	switch {
	case errdefs.IsNotFound(err):
		return fmt.Errorf("there is no pool %s: make one with dmsetup or lvm (see dm-thin): %w", p.name, errdefs.ErrFailedPrecondition)
	case err != nil:
		return err
	case status.Target != "thin-pool":
		return fmt.Errorf("%s is no pool, but %s: %w", p.name, status.Target, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// volume is the device's name of a disk.
func (p pool) volume(n uint64) string { return fmt.Sprintf("%s-snap-%d", p.name, n) }

// sizeFile holds a disk's sectors.
func sizeFile(dir string) string { return filepath.Join(dir, "sectors") }

func writeSize(dir string, sectors int64) error {
	return os.WriteFile(sizeFile(dir), []byte(strconv.FormatInt(sectors, 10)+"\n"), 0o600)
}

func readSize(dir string) (int64, error) {
	text, err := os.ReadFile(sizeFile(dir))
	if err != nil {
		return 0, fmt.Errorf("%w: %w", err, errdefs.ErrDataLoss)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%s holds %.20q: %w", sizeFile(dir), text, errdefs.ErrDataLoss)
	}
	return n, nil
}

// Make implements disks.Device.
func (p pool) Make(ctx context.Context, d disks.Disk, from *disks.Disk) (err error) {
	if d.Number > maxDevice {
		return fmt.Errorf("a pool has %d volumes at most, and their numbers are used up: begin with a new root and pool: %w", maxDevice, errdefs.ErrResourceExhausted)
	}
	sectors, command := p.sectors, fmt.Sprintf("create_thin %d", d.Number)
	if from != nil {
		if sectors, err = readSize(from.Dir); err != nil {
			return err
		}
		command = fmt.Sprintf("create_snap %d %d", d.Number, from.Number)
	}
	if err := writeSize(d.Dir, sectors); err != nil {
		return err
	}
	if err := p.fork(ctx, from, command); err != nil {
		return err
	}
	if from != nil {
		return nil
	}
	source, _, err := p.Source(ctx, d)
	if err != nil {
		return err
	}
	return disks.Format(ctx, source)
}

// fork gives the pool a command. A volume that is in use must not be written while it is copied.
func (p pool) fork(ctx context.Context, from *disks.Disk, command string) (err error) {
	if from != nil {
		origin := p.volume(from.Number)
		switch _, statusErr := p.mapper.Status(ctx, origin); {
		case statusErr == nil:
			if err := p.mapper.Run(ctx, "suspend", origin); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, p.mapper.Run(context.WithoutCancel(ctx), "resume", origin)) }()
		case !errdefs.IsNotFound(statusErr):
			return statusErr
		}
	}
	return p.mapper.Run(ctx, "message", p.name, "0", command)
}

// Grow implements disks.Device. The volume has no device yet, but where it was just formatted.
func (p pool) Grow(ctx context.Context, d disks.Disk, size int64) error {
	has, err := readSize(d.Dir)
	if err != nil {
		return err
	}
	if size/sector < has {
		return disks.TooSmall(size, has*sector)
	}
	if err := p.deactivate(ctx, d.Number); err != nil {
		return err
	}
	return writeSize(d.Dir, size/sector)
}

// Source implements disks.Device.
func (p pool) Source(ctx context.Context, d disks.Disk) (string, []string, error) {
	name := p.volume(d.Number)
	path := "/dev/mapper/" + name
	_, err := p.mapper.Status(ctx, name)
	if err == nil {
		return path, nil, nil
	}
	if !errdefs.IsNotFound(err) {
		return "", nil, err
	}
	sectors, err := readSize(d.Dir)
	if err != nil {
		return "", nil, err
	}
	table := fmt.Sprintf("0 %d thin /dev/mapper/%s %d", sectors, p.name, d.Number)
	err = p.mapper.Run(ctx, "create", name, "--table", table)
	if errdefs.IsAlreadyExists(err) { // by another call
		err = nil
	}
	return path, nil, err
}

// Rest implements disks.Device: the volume needs no device until it is looked at.
func (p pool) Rest(ctx context.Context, d disks.Disk) error {
	if _, err := readSize(d.Dir); err != nil {
		return err
	}
	return p.deactivate(ctx, d.Number)
}

// deactivate takes the device of a volume away. One that somebody still has goes with the last user.
func (p pool) deactivate(ctx context.Context, n uint64) error {
	return p.mapper.Remove(ctx, p.volume(n))
}

// remove deletes the volume that a directory stands for, whatever the directory's state.
func (p pool) remove(ctx context.Context, dir string) error {
	number, _, _ := strings.Cut(filepath.Base(dir), ".")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return fmt.Errorf("directory %s is that of no volume: %w", dir, errdefs.ErrInvalidArgument)
	}
	if err := p.deactivate(ctx, n); err != nil {
		return err
	}
	err = p.mapper.Run(ctx, "message", p.name, "0", fmt.Sprintf("delete %d", n))
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// Usage implements disks.Device: what the pool has given, blocks that are shared with the parent too.
func (p pool) Usage(ctx context.Context, d disks.Disk) (snapshot.Usage, error) {
	if _, _, err := p.Source(ctx, d); err != nil {
		return snapshot.Usage{}, err
	}
	status, err := p.mapper.Status(ctx, p.volume(d.Number))
	if err != nil {
		return snapshot.Usage{}, err
	}
	mapped, err := status.Mapped()
	return snapshot.Usage{Size: mapped * sector, Inodes: 1}, err
}

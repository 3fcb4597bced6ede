package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/snapshot/blockfile"
	"github.com/minirt/mini/runtime/snapshot/btrfs"
	"github.com/minirt/mini/runtime/snapshot/devmapper"
	"github.com/minirt/mini/runtime/snapshot/disks"
	"github.com/minirt/mini/runtime/snapshot/erofs"
	"github.com/minirt/mini/runtime/snapshot/native"
	"github.com/minirt/mini/runtime/snapshot/overlay"
	"github.com/minirt/mini/runtime/snapshot/proxy"
	"github.com/minirt/mini/runtime/store"
)

// Snapshotter is one that the configuration adds to overlay and native, which are always there.
type Snapshotter struct {
	Type    string `toml:"type" comment:"proxy: a program that serves containerd's snapshots service at address, as those for lazy pulling do; erofs: each layer is one file; btrfs: snapshots of that filesystem; blockfile: each snapshot is a file with a filesystem; devmapper: each is a thin volume of a pool."`
	Address string `toml:"address" comment:"Of a proxy: its Unix socket."`
	Pool    string `toml:"pool" comment:"Of devmapper: the thin pool, as dmsetup has it, which nobody else uses."`
	Verity  bool   `toml:"verity" comment:"Of erofs: layers get a hash tree, and every block that is read of them is compared with it (dm-verity, by dmsetup)."`
	Size    Size   `toml:"size" comment:"Of blockfile and devmapper: how large the filesystems are; 0: 10GiB. Files have holes where nothing was written. Layers keep the size that they were made with."`
	Root    string `toml:"root" comment:"Where its files are. Empty: in the root of the daemon. Of a proxy: where the program has them, which is all that it is needed for, so that a kubelet is told of that filesystem."`
}

// openers make snapshotters by their types.
func openers() map[string]func(ctx context.Context, name, root string, s Snapshotter, o opening) (snapshot.Snapshotter, error) {
	return map[string]func(ctx context.Context, name, root string, s Snapshotter, o opening) (snapshot.Snapshotter, error){
		typeProxy: func(ctx context.Context, name, _ string, s Snapshotter, o opening) (snapshot.Snapshotter, error) {
			return opened(proxy.Open(ctx, proxy.Options{Name: name, Address: s.Address, Owner: o.owner, Records: snapshot.NewRecords(o.store, name), Log: o.log}))
		},
		erofs.Name: func(ctx context.Context, name, root string, s Snapshotter, o opening) (snapshot.Snapshotter, error) {
			return opened(erofs.Open(ctx, erofs.Options{Name: name, Root: root, Verity: s.Verity, Records: snapshot.NewRecords(o.store, name), Log: o.log}))
		},
		blockfile.Name: func(ctx context.Context, name, root string, s Snapshotter, o opening) (snapshot.Snapshotter, error) {
			return opened(blockfile.Open(ctx, o.disks(name, root, s)))
		},
		devmapper.Name: func(ctx context.Context, name, root string, s Snapshotter, o opening) (snapshot.Snapshotter, error) {
			return opened(devmapper.Open(ctx, s.Pool, o.disks(name, root, s)))
		},
		btrfs.Name: func(ctx context.Context, name, root string, _ Snapshotter, o opening) (snapshot.Snapshotter, error) {
			return opened(btrfs.Open(ctx, btrfs.Options{Name: name, Root: root, Records: snapshot.NewRecords(o.store, name), Log: o.log}))
		},
	}
}

const typeProxy = "proxy"

// opened is a snapshotter, which is not there after an error.
func opened[S snapshot.Snapshotter](s S, err error) (snapshot.Snapshotter, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// opening is what all snapshotters are opened with.
type opening struct {
	store     *store.Store
	owner     string               // the daemon's identity
	elsewhere []snapshot.Elsewhere // layers of other daemons
	log       *slog.Logger
}

func (o opening) disks(name, root string, s Snapshotter) disks.Options {
	return disks.Options{Name: name, Root: root, Size: int64(s.Size), Records: snapshot.NewRecords(o.store, name), Log: o.log}
}

// snapshotters are those that there are, and why those that are configured and not usable are not there.
type snapshotters struct {
	all      map[string]snapshot.Snapshotter
	fallback string // the default one's name
	roots    map[string]string
	unusable map[string]error
}

// openSnapshotters opens those that are always there and those of the configuration, and chooses the default one: what the
// configuration says, else overlay where it works. One that is not usable here, and is not the default, is left out: the
// containers of the others must be there. On an error it returns those that were opened.
func openSnapshotters(ctx context.Context, c Config, o opening) (snapshotters, error) {
	s := snapshotters{all: map[string]snapshot.Snapshotter{}, roots: map[string]string{}, unusable: map[string]error{}}
	n, err := native.Open(ctx, native.Options{Root: c.snapshotRoot(native.Name), Records: snapshot.NewRecords(o.store, native.Name), Log: o.log})
	if err != nil {
		return s, err
	}
	s.all[native.Name] = n
	over, err := overlay.Open(ctx, overlay.Options{Root: c.snapshotRoot(overlay.Name), Records: snapshot.NewRecords(o.store, overlay.Name), Elsewhere: o.elsewhere, Log: o.log})
	switch {
	case err == nil:
		s.all[overlay.Name], s.fallback = over, overlay.Name
	case errdefs.IsNotImplemented(err) && c.Snapshot.Default != overlay.Name:
		o.log.Warn("no overlays here: root filesystems are copied, which is slow and needs space", "error", err)
		s.fallback = native.Name
	default:
		return s, err
	}
	for _, name := range slices.Sorted(maps.Keys(c.Snapshotters)) {
		configured := c.Snapshotters[name]
		sn, err := openers()[configured.Type](ctx, name, c.snapshotRoot(name), configured, o)
		switch {
		case err == nil:
			s.all[name] = sn
			s.roots[name] = configured.Root
		case name == c.Snapshot.Default:
			return s, err
		default:
			s.unusable[name] = err
			o.log.Error("a snapshotter cannot be used", "snapshotter", name, "error", err)
		}
	}
	s.fallback = cmp.Or(c.Snapshot.Default, s.fallback)
	return s, nil
}

// snapshotRoot is where a snapshotter keeps its files.
func (c Config) snapshotRoot(name string) string {
	if s, ok := c.Snapshotters[name]; ok && s.Root != "" {
		return s.Root
	}
	return filepath.Join(c.Root, "snapshots", name)
}

// validSnapshotter is what a snapshotter may be called: its name is part of paths and of a table's name.
var validSnapshotter = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// checkSnapshotters complains of what cannot be meant of snapshotters.
func (c Config) checkSnapshotters(bad func(key, format string, args ...any), absolute func(key, path string)) {
	known := []string{native.Name, overlay.Name}
	types := slices.Sorted(maps.Keys(openers()))
	for name, s := range c.Snapshotters {
		key := "snapshotters." + name
		switch {
		case slices.Contains(known, name):
			bad(key, "this one is always there: choose another name")
		case !validSnapshotter.MatchString(name):
			bad(key, "use lower-case letters, digits, _ and -, at most 63")
		}
		if !slices.Contains(types, s.Type) {
			bad(key+".type", "%q is not %s", s.Type, strings.Join(types, " or "))
		}
		if (s.Type == typeProxy) != (s.Address != "") {
			bad(key+".address", "it is the socket of a proxy, which needs it, and of nothing else")
		}
		if s.Size != 0 && (s.Type != blockfile.Name && s.Type != devmapper.Name || s.Size < disks.MinSize) {
			bad(key+".size", "it is of a blockfile or of devmapper, and at least %d bytes", disks.MinSize)
		}
		if (s.Type == devmapper.Name) != (s.Pool != "") || strings.ContainsAny(s.Pool, "/ ") {
			bad(key+".pool", "it is the name of a thin pool, as dmsetup ls prints it, which devmapper needs, and nothing else")
		}
		if s.Verity && s.Type != erofs.Name {
			bad(key+".verity", "it is of erofs alone")
		}
		absolute(key+".address", s.Address)
		absolute(key+".root", s.Root)
	}
	all := slices.Concat(known, slices.Sorted(maps.Keys(c.Snapshotters)))
	if d := c.Snapshot.Default; d != "" && !slices.Contains(all, d) {
		bad("snapshot.default", "%q is not %s: others are added as [snapshotters.%s]", d, strings.Join(all, " or "), d)
	}
	for name, r := range c.allRuntimes() {
		if r.Snapshotter != "" && !slices.Contains(all, r.Snapshotter) {
			bad(runtimeTable(name)+".snapshotter", "%q is not %s", r.Snapshotter, strings.Join(all, " or "))
		}
	}
}

// missing says why a snapshotter is not there.
func (s snapshotters) missing(name string) error {
	if err := s.unusable[name]; err != nil {
		return fmt.Errorf("snapshotter %s cannot be used: %w", name, err)
	}
	return errors.New("snapshotter " + name + " is not configured any more")
}

// check says why a snapshotter cannot be used now.
func (s snapshotters) check(ctx context.Context, name string) error {
	if err := s.unusable[name]; err != nil {
		return err
	}
	if answers, ok := s.all[name].(interface {
		Check(ctx context.Context) error
	}); ok {
		return answers.Check(ctx)
	}
	return nil
}

// root is the directory whose filesystem has a snapshotter's files: one of its own, or the daemon's.
func (s snapshotters) root(name, daemon string) string { return cmp.Or(s.roots[name], daemon) }

package engine

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/oci/bundle"
	"github.com/minirt/mini/runtime/snapshot"
)

// makeDeclared makes the directories of the volumes that an image declares in the root filesystem of a container, for its
// process's user, where they are not there and nothing is mounted.
func (e *Engine) makeDeclared(c Container) error {
	s, err := bundle.Load(e.Bundle(c))
	if err != nil || c.Snapshot == "" {
		return err
	}
	uid, gid := int(s.Process.User.UID), int(s.Process.User.GID)
	if s.Linux != nil && len(s.Linux.UIDMappings) > 0 {
		uid = int(snapshot.HostID(s.Process.User.UID, idMap(s.Linux.UIDMappings)))
		gid = int(snapshot.HostID(s.Process.User.GID, idMap(s.Linux.GIDMappings)))
	}
	for _, target := range slices.Sorted(maps.Keys(c.ImageConfig.Volumes)) {
		target = path.Join("/", target)
		if slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return path.Clean(m.Destination) == target }) {
			continue
		}
		if err := makeIn(s.Root.Path, target, uid, gid); err != nil {
			return fmt.Errorf("make the directory %s of the image's volume: %w", target, err)
		}
	}
	return nil
}

// makeIn makes a directory in a root, and those above it, which nobody writes to meanwhile. Links are followed, and never
// out of the root.
func makeIn(root, target string, uid, gid int) error {
	parent, at := root, "/"
	for part := range strings.SplitSeq(strings.Trim(target, "/"), "/") {
		at = path.Join(at, part)
		found, err := resolveIn(root, at)
		if errors.Is(err, unix.ENOENT) {
			found = filepath.Join(parent, part)
			if err = os.Mkdir(found, 0o755); err == nil { // one of a link that leads nowhere exists
				err = os.Chown(found, uid, gid)
			}
		}
		if err != nil {
			return err
		}
		parent = found
	}
	return nil
}

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
)

// joined are the controllers of v1 whose groups a process joins: those that bound what it uses. In one of cpuset it could not
// run before somebody has given that processors.
var joined = []string{"memory", "cpu", "cpuacct", "blkio", "pids"} // a constant

// CheckGroup says whether a path can be that of a group: absolute, and not the root. ErrInvalidArgument.
func CheckGroup(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) == "/" || escapes(path) || strings.ContainsRune(path, 0) {
		return fmt.Errorf("cgroup %q: write an absolute path below the root of the hierarchies, like /pulls: %w", path, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Join puts this process into a group, which is made if it isn't there: in the hierarchies of v1 that bound memory,
// processors, disks and processes, and in the unified one where that has controllers. There, the groups above are asked to
// let theirs be used; where they refuse, the process is counted in them alone.
func Join(path string) error {
	if err := CheckGroup(path); err != nil {
		return err
	}
	mounts, err := readMounts("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	dirs := map[string]bool{}
	for _, name := range joined {
		if m, ok := mounts.controllers[name]; ok {
			dirs[m.dir] = true
		}
	}
	if len(dirs) == 0 && len(mounts.unified) > 0 {
		dirs[mounts.unified[0].dir] = true
		delegate(mounts.unified[0].dir, path)
	}
	var errs []error
	for dir := range dirs {
		group := filepath.Join(dir, path)
		err := os.MkdirAll(group, 0o755)
		if err == nil {
			err = os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte("0"), 0)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("join cgroup %s: %w", path, err)
	}
	return nil
}

// End kills the processes in the group of this path, in every hierarchy that has one, and removes it. Errors are Kill's.
func End(path string) error {
	if err := CheckGroup(path); err != nil {
		return err
	}
	groups := map[string]string{}
	add := func(name, root string) {
		if dir := filepath.Join(root, path); isThere(dir) {
			groups[name] = dir
		}
	}
	add("", Root)
	roots, _ := filepath.Glob(filepath.Join(Root, "*")) // the pattern is well formed
	for _, root := range roots {
		add(filepath.Base(root), root)
	}
	err := Kill(groups)
	RemoveEmpty(path)
	return err
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// delegate has the groups above a path pass on their controllers (cgroup.subtree_control), as far as they do.
func delegate(root, path string) {
	above := root
	for part := range strings.SplitSeq(strings.TrimPrefix(filepath.Clean(path), "/"), "/") {
		for _, controller := range []string{"+memory", "+cpu", "+io", "+pids"} {
			_ = os.WriteFile(filepath.Join(above, "cgroup.subtree_control"), []byte(controller), 0) // see Join
		}
		above = filepath.Join(above, part)
		_ = os.Mkdir(above, 0o755) // Join says what is wrong
	}
}

// Package selinux chooses the labels of containers on a host with SELinux, and labels files for them.
//
// A container's processes have one label and its files another, by the policy's own words for containers (lxc_contexts);
// both have a pair of categories that no other container has, so that the kernel keeps them apart (MCS).
package selinux

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/selinux/go-selinux"
	"github.com/opencontainers/selinux/go-selinux/label"
	"golang.org/x/sys/unix"
)

// Host is a machine whose kernel has SELinux and a policy. It keeps in mind which categories are taken.
type Host struct{}

// ThisHost is the machine that the program runs on; nil when it has no SELinux. Pairs are made of so many categories.
func ThisHost(categories uint32) *Host {
	if !selinux.GetEnabled() {
		return nil
	}
	if err := selinux.SetCategoryRange(categories); err != nil {
		return nil // it is 0 or more than any policy has, which the configuration does not take
	}
	return &Host{}
}

// Choose makes the labels of a container's processes and of its files. Options are as Docker's --security-opt label=:
// user:U, role:R, type:T, level:L, filetype:T, or disable, which leaves the processes with the daemon's label. They are
// empty where the policy knows nothing of containers.
func (*Host) Choose(options []string) (process, files string, err error) {
	process, files, err = label.InitLabels(options)
	if err != nil {
		return "", "", fmt.Errorf("selinux label: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return process, files, nil
}

// Level is the level of a label, as it is given to another container that shares files with it; empty when there is none.
func Level(of string) string {
	c, err := selinux.NewContext(of)
	if err != nil {
		return ""
	}
	return c["level"]
}

// Reserve keeps others from the categories of a label that was chosen before.
func (*Host) Reserve(of string) {
	if of != "" {
		_ = selinux.ReserveLabelV2(of) // those of a pod share theirs
	}
}

// Release gives the categories back.
func (*Host) Release(of string) {
	if of != "" {
		selinux.ReleaseLabel(of)
	}
}

// Relabel gives a file, or a tree, a label; shared leaves out the categories, so that every container can use it. A
// directory of the system (/, /etc, /usr, …) is refused as an invalid argument; a filesystem without labels is none.
func (*Host) Relabel(path, to string, shared bool) error {
	if to == "" {
		return nil
	}
	err := label.Relabel(path, to, shared)
	if err == nil || errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if resolved, e := filepath.EvalSymlinks(path); e == nil {
		path = resolved
	}
	var failed *os.PathError
	if errors.As(err, &failed) && !errors.Is(err, unix.EROFS) {
		return fmt.Errorf("label %s: %w", path, err)
	}
	return fmt.Errorf("label %s: %w: %w", path, err, errdefs.ErrInvalidArgument)
}

// Label gives a label to one file or directory, not to what is in it.
func (*Host) Label(path, to string) error {
	if err := selinux.SetFileLabel(path, to); err != nil && !errors.Is(err, unix.ENOTSUP) {
		return fmt.Errorf("label %s: %w", path, err)
	}
	return nil
}

// Once is Relabel for one container, unless the top of the tree has the label already.
func (h *Host) Once(path, to string) error {
	if has, err := selinux.FileLabel(path); err == nil && has == to {
		return nil
	}
	return h.Relabel(path, to, false)
}

// Fit is Relabel for every container, unless the tree has the type already: one that has grown is not walked again.
func (h *Host) Fit(path, to string) error {
	has, err := selinux.FileLabel(path)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err == nil {
		a, errA := selinux.NewContext(has)
		b, errB := selinux.NewContext(to)
		if errA == nil && errB == nil && a["type"] == b["type"] {
			return nil
		}
	}
	return h.Relabel(path, to, true)
}

// Package pin keeps namespaces without a process in them: each is bound to a file, and lives as long as the mount does.
// The namespaces that the containers of a pod share are kept so. The network namespaces of runtime/network are pinned
// the same way, but made there; one that a user namespace of the pod's owns has to be made together with it, here.
package pin

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/internal/osthread"
)

// Kinds of namespaces, as /proc/PID/ns names them; they are the names of the files too.
const (
	Network = "net"
	IPC     = "ipc"
	UTS     = "uts"
	User    = "user"
)

// Options say which namespaces are made, and how they are set up.
type Options struct {
	Dir   string   // where the files are; made
	Kinds []string // of those above; without id maps, Network is made by the caller before, at Path(Dir, Network)
	// UIDMap and GIDMap make a user namespace, which owns the others.
	UIDMap, GIDMap []mount.IDMap
	Hostname       string            // of the UTS namespace; empty: as the host's
	Sysctls        map[string]string // of the namespaces of Kinds, and of the network at Path(Dir, Network) when it is there
}

// Path is the file of a namespace.
func Path(dir, kind string) string { return filepath.Join(dir, kind) }

// Pinned says whether a namespace is pinned. After a reboot it is not.
func Pinned(dir, kind string) bool {
	var st unix.Statfs_t
	return unix.Statfs(Path(dir, kind), &st) == nil && st.Type == unix.NSFS_MAGIC
}

// Any says whether any namespace is pinned.
func Any(dir string) bool {
	for _, kind := range kinds() {
		if Pinned(dir, kind) {
			return true
		}
	}
	return false
}

func kinds() []string { return []string{Network, IPC, UTS, User} }

// Make makes the namespaces and pins them. When it fails, Remove takes away what it has made. Errors: ErrInvalidArgument
// for a sysctl that is not there or takes another value.
func Make(o Options) error {
	if err := os.MkdirAll(o.Dir, 0o711); err != nil {
		return err
	}
	if len(o.UIDMap) > 0 {
		if err := o.makeOwned(); err != nil {
			return err
		}
		return onThread(o.enterAndSet)
	}
	return onThread(func() error {
		if err := o.unshare(); err != nil {
			return err
		}
		return o.set()
	})
}

// Remove takes the namespaces away. It can be repeated.
func Remove(dir string) error {
	var errs []error
	for _, kind := range kinds() {
		path := Path(dir, kind)
		err := mount.Unmount(path)
		if err == nil {
			if err = os.Remove(path); errors.Is(err, os.ErrNotExist) {
				err = nil
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func flag(kind string) int {
	switch kind {
	case Network:
		return unix.CLONE_NEWNET
	case IPC:
		return unix.CLONE_NEWIPC
	case UTS:
		return unix.CLONE_NEWUTS
	}
	return 0
}

// bind pins the namespace that source names. The file is made first: a mount needs something to be on.
func bind(source, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	f.Close()
	if err := unix.Mount(source, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("pin a namespace at %s: %w", path, err)
	}
	return nil
}

// makeOwned makes the namespaces together with the user namespace that owns them.
func (o Options) makeOwned() error {
	flags := 0
	for _, kind := range o.Kinds {
		flags |= flag(kind)
	}
	kinds := append([]string{User}, o.Kinds...)
	files, err := mount.CloneNamespaces(o.UIDMap, o.GIDMap, uintptr(flags), kinds...)
	if err != nil {
		return err
	}
	var errs []error
	for i, f := range files {
		errs = append(errs, bind(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), Path(o.Dir, kinds[i])), f.Close())
	}
	return errors.Join(errs...)
}

// enterAndSet leaves its thread in the pinned namespaces.
func (o Options) enterAndSet() error {
	for _, kind := range o.Kinds {
		if err := enter(Path(o.Dir, kind), flag(kind)); err != nil {
			return err
		}
	}
	return o.set()
}

func enter(path string, flag int) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), flag); err != nil {
		return fmt.Errorf("enter the namespace %s: %w", path, err)
	}
	return nil
}

// unshare leaves its thread in new namespaces, and in the network's that is there already.
func (o Options) unshare() error {
	flags := 0
	for _, kind := range o.Kinds {
		if kind != Network {
			flags |= flag(kind)
		}
	}
	if flags != 0 {
		if err := unix.Unshare(flags); err != nil {
			return fmt.Errorf("make namespaces: %w", err)
		}
	}
	for _, kind := range o.Kinds {
		if kind == Network {
			continue
		}
		if err := bind("/proc/thread-self/ns/"+kind, Path(o.Dir, kind)); err != nil {
			return err
		}
	}
	if Pinned(o.Dir, Network) && len(o.Sysctls) > 0 {
		return enter(Path(o.Dir, Network), unix.CLONE_NEWNET)
	}
	return nil
}

// set writes the host name and the kernel parameters, which the kernel takes for the namespaces of the writing thread.
func (o Options) set() error {
	for _, kind := range o.Kinds {
		if kind == UTS && o.Hostname != "" {
			if err := unix.Sethostname([]byte(o.Hostname)); err != nil {
				return fmt.Errorf("host name %q: %w", o.Hostname, err)
			}
		}
	}
	for name, value := range o.Sysctls {
		path, err := SysctlPath(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join("/proc/sys", path), []byte(value), 0); err != nil {
			return fmt.Errorf("sysctl %s=%s: %w: check its name and value: %w", name, value, errors.Unwrap(err), errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// SysctlPath is where a parameter is below /proc/sys. sysctl(8): where the first separator is a slash, dots are part of
// names; where it is a dot, the two change places (net.ipv4.conf.eth0/1.forwarding is of the interface eth0.1). Errors:
// ErrInvalidArgument for what is no parameter's name, or would lead elsewhere.
func SysctlPath(name string) (string, error) {
	path := name
	if at := strings.IndexAny(name, "./"); at >= 0 && name[at] == '.' {
		path = strings.Map(func(r rune) rune {
			switch r {
			case '.':
				return '/'
			case '/':
				return '.'
			}
			return r
		}, name)
	}
	if path == "" || path[0] == '/' || path != filepath.Clean(path) || !filepath.IsLocal(path) || strings.ContainsAny(path, " \t\n\x00") {
		return "", fmt.Errorf("sysctl %q isn't a parameter's name: write it like net.ipv4.ip_forward: %w", name, errdefs.ErrInvalidArgument)
	}
	return path, nil
}

// onThread runs do on a thread that ends with it.
func onThread(do func() error) error {
	var err error
	osthread.Run(func() bool {
		err = do()
		return false
	})
	return err
}

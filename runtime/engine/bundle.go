package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/internal/apparmor"
	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/oci/bundle"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/pin"
	"github.com/minirt/mini/runtime/snapshot"
)

func rootfsDir(bundle string) string { return filepath.Join(bundle, "rootfs") }

// sharedDir is where the shared memory of another container is mounted, for one that joins its IPC namespace.
func sharedDir(bundle string) string { return filepath.Join(bundle, "shm") }

// unmountBundle takes away what is mounted in a bundle; only then may its files be deleted.
func unmountBundle(bundle string) error {
	return errors.Join(mount.Unmount(rootfsDir(bundle)), unmountBeside(bundle), pin.Remove(pinDir(bundle)))
}

// unmountBeside takes away what is mounted in a bundle beside the root filesystem.
func unmountBeside(bundle string) error {
	return errors.Join(mount.Unmount(sharedDir(bundle)), unmountIn(imagesDir(bundle)), unmountIn(volumesDir(bundle)))
}

// execDir is where a process executed in a container has its process.json, its named pipes and its exit file.
func execDir(bundle, execID string) string { return filepath.Join(bundle, "exec", execID) }

func (e *Engine) logPath(c Container) string { return filepath.Join(e.home(c), "container.log") }

// writeBundle mounts the root filesystem, builds the spec and writes config.json. It can be repeated: the bundle lives
// in the state directory, which a reboot empties.
func (e *Engine) writeBundle(ctx context.Context, c Container) ([]string, error) {
	s, warnings, err := e.document(ctx, c)
	if err != nil {
		return nil, err
	}
	return warnings, bundle.Write(e.Bundle(c), s)
}

func (e *Engine) buildSpec(ctx context.Context, c Container) (*specs.Spec, []string, error) {
	root := ""
	if c.Snapshot != "" {
		mounted, err := e.mountRootfs(ctx, c)
		if err != nil {
			return nil, nil, err
		}
		root = mounted
	} else if c.Request != nil {
		root = c.Request.Rootfs
	}
	if c.Spec != nil {
		return e.completeSpec(c, root)
	}
	request, err := e.asked(c)
	if err == nil {
		request, err = e.sharedMemory(c, request)
	}
	if err == nil {
		request, err = e.bindImages(ctx, c, request)
	}
	if err == nil {
		request = e.bindVolumes(c, request)
	}
	if err != nil {
		return nil, nil, err
	}
	defaults, unloaded := e.defaultsOf(ctx, request)
	s, warnings, err := spec.Build(spec.Input{
		ID: c.ID, Name: e.Name, Namespace: c.Namespace, Request: request, Image: c.ImageConfig, Rootfs: root, Host: e.Host,
		CDI: e.CDI, Defaults: defaults, CgroupDriver: e.Config.CgroupDriver, CgroupParent: e.Config.CgroupParent,
		NamespacePaths: func(id, kind string) (string, error) { return e.namespacePath(c.Namespace, id, kind) },
	})
	if err == nil {
		err = e.relabel(c)
	}
	if err == nil {
		s.Process.Args = initFirst(s.Process.Args, c)
		e.askAbout(c, s)
	}
	return s, append(unloaded, warnings...), err
}

// defaultsOf are what a container gets that its request does not say: what its front end wants, else what the daemon has.
// A machine that has AppArmor and no program to load profiles runs it without, and says so.
func (e *Engine) defaultsOf(ctx context.Context, r spec.Request) (d spec.Defaults, warnings []string) {
	if d.AppArmor = apparmor.Profile; r.Defaults != nil {
		d = *r.Defaults
	}
	if d.AppArmor != apparmor.Profile {
		return d, nil
	}
	if !e.Host.AppArmor || e.AppArmor == nil {
		d.AppArmor = ""
		return d, nil
	}
	if err := e.AppArmor.Ensure(ctx); err != nil {
		d.AppArmor = ""
		return d, []string{fmt.Sprintf("it runs without an AppArmor profile: %s", err)}
	}
	return d, nil
}

// sharedMemory gives a container that joins another's IPC namespace its POSIX shared memory too, which is a mount: a
// namespace of System V objects alone is not what people mean by sharing.
func (e *Engine) sharedMemory(c Container, request spec.Request) (spec.Request, error) {
	other, joins := strings.CutPrefix(request.Namespaces["ipc"], "container:")
	if !joins {
		return request, nil
	}
	pid, err := e.pidOf(c.Namespace, other, "ipc")
	if err != nil {
		return request, err
	}
	dir := sharedDir(e.Bundle(c))
	if err := errors.Join(mount.Unmount(dir), os.MkdirAll(dir, 0o700), mount.OfProcess(pid, "/dev/shm", dir)); err != nil {
		return request, fmt.Errorf("share the memory of container %s: %w", other, err)
	}
	shm := spec.Mount{Type: "bind", Source: dir, Target: "/dev/shm", Options: []string{"rbind", "rw"}}
	request.Mounts = append([]spec.Mount{shm}, request.Mounts...)
	return request, nil
}

// completeSpec gives a whole spec of the client what only the daemon knows: the root filesystem and the cgroup.
func (e *Engine) completeSpec(c Container, root string) (*specs.Spec, []string, error) {
	s := *c.Spec
	if root != "" {
		r := specs.Root{Path: root}
		if s.Root != nil {
			r.Readonly = s.Root.Readonly
		}
		s.Root = &r
	}
	if s.Root == nil || s.Root.Path == "" {
		return nil, nil, fmt.Errorf("spec of container %s has no root.path and there is no image: %w", c.ID, errdefs.ErrInvalidArgument)
	}
	if s.Linux == nil {
		s.Linux = &specs.Linux{}
	}
	if s.Linux.CgroupsPath == "" {
		l := *s.Linux
		l.CgroupsPath = spec.CgroupsPath(e.Config.CgroupDriver, e.cgroupParent(), c.Namespace, c.ID)
		s.Linux = &l
	}
	return &s, nil, nil
}

func (e *Engine) cgroupParent() string {
	if e.Config.CgroupParent != "" {
		return e.Config.CgroupParent
	}
	return e.Name
}

// namespacePath is the /proc path of a namespace of another container's first process.
func (e *Engine) namespacePath(ns, id, kind string) (string, error) {
	pid, err := e.pidOf(ns, id, kind)
	if err != nil {
		return "", err
	}
	file := map[string]string{"network": "net", "mount": "mnt"}[kind]
	if file == "" {
		file = kind
	}
	return fmt.Sprintf("/proc/%d/ns/%s", pid, file), nil
}

// pidOf is the first process of a container whose namespace of a kind is to be joined.
func (e *Engine) pidOf(ns, id, kind string) (int, error) {
	l, err := e.find(ns, id)
	if err != nil {
		return 0, err
	}
	c := l.record()
	if c.PID == 0 {
		return 0, fmt.Errorf("container %s is %s: its %s namespace can be joined only while it runs: start it first: %w",
			id, c.State, kind, errdefs.ErrFailedPrecondition)
	}
	return c.PID, nil
}

// Spec returns a container's runtime-spec document as its supervisor gets it.
func (e *Engine) Spec(ctx context.Context, ns, id string) (*specs.Spec, error) {
	l, err := e.find(ns, id)
	if err != nil {
		return nil, err
	}
	c := l.record()
	s, err := bundle.Load(e.Bundle(c))
	if err == nil {
		return s, nil
	}
	// After a reboot it is built, which mounts the root filesystem: not beside a removal.
	l, unlock, err := e.locked(ctx, ns, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := l.require("build the spec of", Created, Running, Paused, Exited); err != nil {
		return nil, err
	}
	s, _, err = e.buildSpec(ctx, l.record())
	return s, err
}

// Args is the command line of a container's first process, as asked for: without the init that may come before it, and
// without what plugins have made of it.
func Args(c Container) []string {
	switch {
	case c.Spec != nil && c.Spec.Process != nil:
		return c.Spec.Process.Args
	case c.Request != nil:
		return spec.CommandLine(c.ImageConfig, c.Request)
	}
	return nil
}

// terminal says whether the container's first process has a terminal.
func terminal(c Container) bool {
	if c.Spec != nil {
		return c.Spec.Process != nil && c.Spec.Process.Terminal
	}
	return c.Request != nil && c.Request.Terminal
}

func consoleSize(c Container) (w, h uint16) {
	var box *specs.Box
	switch {
	case c.Spec != nil && c.Spec.Process != nil:
		box = c.Spec.Process.ConsoleSize
	case c.Request != nil:
		box = c.Request.ConsoleSize
	}
	if box == nil {
		return 0, 0
	}
	return uint16(min(box.Width, 0xffff)), uint16(min(box.Height, 0xffff))
}

func idMap(in []specs.LinuxIDMapping) []snapshot.IDMap {
	out := make([]snapshot.IDMap, 0, len(in))
	for _, m := range in {
		out = append(out, snapshot.IDMap{ContainerID: m.ContainerID, HostID: m.HostID, Size: m.Size})
	}
	return out
}

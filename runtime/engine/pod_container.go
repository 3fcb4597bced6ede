package engine

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/pin"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// RolePause is the container that is the first process of a pod's shared PID namespace, and nothing else.
const RolePause = "pause"

// asked is what a container's client asks for, with what its pod says laid under it.
func (e *Engine) asked(c Container) (spec.Request, error) {
	if c.Pod == "" {
		return e.inNetwork(c, withInit(*c.Request, c, e.Config.Pause))
	}
	p, err := e.podOfContainer(c)
	if err != nil {
		return spec.Request{}, err
	}
	rec := p.record()
	c.Request = withAnnotations(*c.Request, rec, e.runtimes().Options[c.Runtime].PodAnnotations)
	return inPod(*c.Request, c.Role, rec, e.podDir(rec)), nil
}

// joinsOthers says whether a container joins a namespace of another's process, by its request or by its pod.
func (e *Engine) joinsOthers(c Container) bool {
	if c.Request == nil {
		return false
	}
	r, err := e.asked(c)
	return err != nil || joins(r.Namespaces)
}

// inPod gives a container of a pod the pod's namespaces, files and cgroup, where its request does not say otherwise.
func inPod(r spec.Request, role string, rec Pod, dir string) spec.Request {
	ns := maps.Clone(r.Namespaces)
	if ns == nil {
		ns = map[string]string{}
	}
	byDefault := func(kind, mode string) {
		if ns[kind] == "" {
			ns[kind] = mode
		}
	}
	shared := func(kind string) string { return sharedNamespace(dir, kind) }
	if rec.Network == ModeNode {
		byDefault("network", "host")
		byDefault("uts", "host")
	} else {
		byDefault("network", shared(pin.Network))
		byDefault("uts", shared(pin.UTS))
	}
	if rec.IPC == ModeNode {
		byDefault("ipc", "host")
	} else {
		byDefault("ipc", shared(pin.IPC))
	}
	switch {
	case role == RolePause || rec.PID == ModeContainer:
		byDefault("pid", "private")
	case rec.PID == ModePod:
		byDefault("pid", "container:"+rec.ID)
	default:
		byDefault("pid", "host")
	}
	if len(rec.UIDMap) > 0 {
		ns["user"], r.UIDMap, r.GIDMap = shared(pin.User), rec.UIDMap, rec.GIDMap
	}
	r.Namespaces = ns
	if r.CgroupParent == "" {
		r.CgroupParent = rec.Cgroup
	}
	if role != RolePause {
		r.Mounts = append(podMounts(r, rec, dir), r.Mounts...)
	}
	return r
}

func sharedNamespace(dir, kind string) string { return "path:" + pin.Path(pinDir(dir), kind) }

// podMounts are the pod's files and shared memory, but for those that the request mounts something else over.
func podMounts(r spec.Request, rec Pod, dir string) []spec.Mount {
	mounts := etcMounts(r, dir)
	if rec.IPC == ModePod && r.Namespaces["ipc"] == sharedNamespace(dir, pin.IPC) {
		mounts = addMount(mounts, r, podShm(dir), "/dev/shm", "rw", "nosuid", "nodev", "noexec")
	}
	return mounts
}

// etcMounts are the files of a directory that a container finds in /etc.
func etcMounts(r spec.Request, dir string) (mounts []spec.Mount) {
	access := "rw"
	if r.ReadOnly {
		access = "ro"
	}
	for _, name := range etcFiles() {
		mounts = addMount(mounts, r, podFile(dir, name), "/etc/"+name, access)
	}
	return mounts
}

func etcFiles() []string { return []string{"hosts", "hostname", "resolv.conf"} }

// addMount adds a mount, unless the request mounts something else there.
func addMount(mounts []spec.Mount, r spec.Request, source, target string, options ...string) []spec.Mount {
	if slices.ContainsFunc(r.Mounts, func(m spec.Mount) bool { return path.Clean(m.Target) == target }) {
		return mounts
	}
	return append(mounts, spec.Mount{Type: "bind", Source: source, Target: target, Options: append([]string{"rbind", "rprivate"}, options...)})
}

// holdPIDs starts the first process of the PID namespace that the pod's containers share, where they do, beside what
// else there is to be done. It is a container of its own: a crash, an exit and a removal are those of any other.
func (e *Engine) holdPIDs(ctx context.Context, p *livePod) <-chan error {
	done := make(chan error, 1)
	rec := p.record()
	if rec.PID != ModePod {
		done <- nil
		return done
	}
	go func() {
		_, err := e.create(ctx, rec.Namespace, CreateOptions{
			ID: rec.ID, Pod: rec.ID, Role: RolePause, Supervisor: rec.ID, Runtime: rec.Runtime, Log: wire.Log{Driver: "none"},
			Request: e.pauseRequest(rec),
		})
		if err == nil {
			_, err = e.Start(ctx, rec.Namespace, rec.ID, StartOptions{})
		}
		done <- err
	}()
	return done
}

// pauseRequest confines the holder to an empty root with nothing in it but its own program: others in the PID namespace
// can see it, and may be allowed to look into it.
func (e *Engine) pauseRequest(rec Pod) *spec.Request {
	none := []string{}
	return &spec.Request{
		Rootfs: podFile(e.podDir(rec), RolePause), ReadOnly: true, NoDefaultMounts: true, MaskedPaths: &none, ReadonlyPaths: &none,
		Args: []string{"/pause", "pause"}, CapDrop: []string{"ALL"}, Seccomp: rec.Seccomp,
		Mounts: []spec.Mount{
			{Type: "proc", Source: "proc", Target: "/proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Type: "tmpfs", Source: "tmpfs", Target: "/dev", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Type: "bind", Source: e.Config.Pause, Target: "/pause", Options: []string{"bind", "ro", "nosuid", "nodev"}},
		},
	}
}

// podOfContainer is the pod of a container. Its id is whole: another's may begin the same.
func (e *Engine) podOfContainer(c Container) (*livePod, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if p := e.pods[key{c.Namespace, c.Pod}]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("pod %s of container %s is gone: delete the container: %w", c.Pod, c.ID, errdefs.ErrNotFound)
}

// requirePod refuses to make or start a container whose pod is not ready. The holder of the pod's PID namespace comes
// before it is.
func (e *Engine) requirePod(c Container, what string) error {
	if c.Pod == "" {
		return nil
	}
	p, err := e.podOfContainer(c)
	if err != nil || c.Role == RolePause {
		return err
	}
	return e.requireReady(p, what)
}

// fromPod fills in what a container takes over from its pod.
func (e *Engine) fromPod(ns string, o *CreateOptions) error {
	if o.Pod == "" {
		return nil
	}
	p, err := e.findPod(ns, o.Pod)
	if err == nil && o.Role != RolePause {
		err = e.requireReady(p, "make a container in it")
	}
	if err != nil {
		return err
	}
	rec := p.record()
	o.Pod, o.Supervisor = rec.ID, rec.ID
	if o.Runtime == "" {
		o.Runtime = rec.Runtime
	}
	if o.Spec != nil {
		return fmt.Errorf("container %s: a whole spec cannot join pod %s: give a request: %w", o.ID, rec.ID, errdefs.ErrInvalidArgument)
	}
	return nil
}

// podSysctls are the kernel parameters of the pod's namespaces, with those that let its processes bind low ports and ping
// without privileges, as other runtimes for Kubernetes have it.
func podSysctls(rec Pod) map[string]string {
	set := map[string]string{}
	if rec.Network == ModePod {
		if !rec.PrivilegedPorts {
			set["net.ipv4.ip_unprivileged_port_start"] = "0"
		}
		if !rec.PrivilegedICMP && len(rec.UIDMap) == 0 { // in a user namespace, groups beyond its map are not valid
			set["net.ipv4.ping_group_range"] = pingGroups()
		}
	}
	maps.Copy(set, rec.Sysctls)
	return set
}

// checkPodSysctls refuses a parameter that belongs to a namespace which the pod shares with the host.
func checkPodSysctls(o PodOptions) error {
	for name := range o.Sysctls {
		path, err := pin.SysctlPath(name)
		if err != nil {
			return fmt.Errorf("pod %s: %w", o.Name, err)
		}
		kind, known := spec.SysctlNamespace(path)
		switch {
		case path == "kernel/hostname":
			return fmt.Errorf("pod %s: sysctl %s: use the hostname: %w", o.Name, name, errdefs.ErrInvalidArgument)
		case !known || kind == specs.UserNamespace: // those of a user namespace are written where it is entered, which nobody does
			return fmt.Errorf("pod %s: sysctl %s belongs to no namespace of a pod and would change the host: set it there: %w", o.Name, name, errdefs.ErrInvalidArgument)
		case kind == "network" && o.Network == ModeNode, kind == "uts" && o.Network == ModeNode, kind == "ipc" && o.IPC == ModeNode:
			return fmt.Errorf("pod %s: sysctl %s: the pod shares the host's %s namespace, and the host would change: give it its own, or set it on the host: %w", o.Name, name, kind, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

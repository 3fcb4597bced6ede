package nri

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/runtime-tools/generate"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/oci/hooks"
	"github.com/minirt/mini/oci/spec"
)

// adjust makes a plugin's changes in a document, by the library's own reading of them.
func adjust(s *specs.Spec, a *api.ContainerAdjustment, cdi spec.CDI) error {
	if s.Process == nil || s.Linux == nil {
		return fmt.Errorf("the document has no process or no linux section: %w", errdefs.ErrInvalidArgument)
	}
	inject := func(s *specs.Spec, devices []string) error {
		if cdi == nil {
			return fmt.Errorf("CDI devices %s: there is no CDI here: %w", strings.Join(devices, ", "), errdefs.ErrFailedPrecondition)
		}
		unresolved, err := cdi.Inject(s, devices)
		if len(unresolved) > 0 {
			return fmt.Errorf("CDI devices %s: no CDI file has them: %w", strings.Join(unresolved, ", "), errdefs.ErrNotFound)
		}
		return err
	}
	g := generate.SpecGenerator(&generator{spec: s}, generate.WithCDIDeviceInjector(inject))
	return g.Adjust(a)
}

// generator edits a document as the library asks for it. What it does not have are limits, which Create keeps apart.
type generator struct {
	generate.UnderlyingGenerator
	spec *specs.Spec
}

func (g *generator) Spec() *specs.Spec { return g.spec }

func (g *generator) AddAnnotation(key, value string) {
	if g.spec.Annotations == nil {
		g.spec.Annotations = map[string]string{}
	}
	g.spec.Annotations[key] = value
}

func (g *generator) RemoveAnnotation(key string) { delete(g.spec.Annotations, key) }

func (g *generator) AddProcessEnv(name, value string) {
	g.spec.Process.Env = append(g.spec.Process.Env, name+"="+value)
}

func (g *generator) ClearProcessEnv()             { g.spec.Process.Env = nil }
func (g *generator) SetProcessArgs(args []string) { g.spec.Process.Args = args }
func (g *generator) SetProcessOOMScoreAdj(n int)  { g.spec.Process.OOMScoreAdj = &n }

func (g *generator) AddMount(m specs.Mount) { g.spec.Mounts = append(g.spec.Mounts, m) }
func (g *generator) Mounts() []specs.Mount  { return g.spec.Mounts }
func (g *generator) ClearMounts()           { g.spec.Mounts = nil }

func (g *generator) RemoveMount(target string) {
	g.spec.Mounts = slices.DeleteFunc(slices.Clone(g.spec.Mounts), func(m specs.Mount) bool { return m.Destination == target })
}

func (g *generator) AddDevice(d specs.LinuxDevice) {
	g.RemoveDevice(d.Path)
	g.spec.Linux.Devices = append(g.spec.Linux.Devices, d)
}

func (g *generator) RemoveDevice(path string) {
	g.spec.Linux.Devices = slices.DeleteFunc(slices.Clone(g.spec.Linux.Devices), func(d specs.LinuxDevice) bool { return d.Path == path })
}

// AddLinuxResourcesDevice lets the container use a device that was added.
func (g *generator) AddLinuxResourcesDevice(allow bool, kind string, major, minor *int64, access string) {
	if g.spec.Linux.Resources == nil {
		g.spec.Linux.Resources = &specs.LinuxResources{}
	}
	rule := specs.LinuxDeviceCgroup{Allow: allow, Type: kind, Major: major, Minor: minor, Access: access}
	g.spec.Linux.Resources.Devices = append(slices.Clip(g.spec.Linux.Resources.Devices), rule)
}

func (g *generator) AddLinuxSysctl(key, value string) {
	if g.spec.Linux.Sysctl == nil {
		g.spec.Linux.Sysctl = map[string]string{}
	}
	g.spec.Linux.Sysctl[key] = value
}

func (g *generator) RemoveLinuxSysctl(key string)    { delete(g.spec.Linux.Sysctl, key) }
func (g *generator) SetLinuxCgroupsPath(path string) { g.spec.Linux.CgroupsPath = path }
func (g *generator) AddPreStartHook(h specs.Hook)    { g.hook("prestart", h) }
func (g *generator) AddPostStartHook(h specs.Hook)   { g.hook("poststart", h) }
func (g *generator) AddPostStopHook(h specs.Hook)    { g.hook("poststop", h) }
func (g *generator) hook(stage string, hook specs.Hook) {
	hooks.Hook{Hook: hook, Stages: []string{stage}}.Add(g.spec)
}

func (g *generator) SetLinuxRootPropagation(p string) error {
	g.spec.Linux.RootfsPropagation = p
	return nil
}

// AddOrReplaceLinuxNamespace takes the short names of namespaces that the runtime specification has.
func (g *generator) AddOrReplaceLinuxNamespace(kind, path string) error {
	if err := g.RemoveLinuxNamespace(kind); err != nil {
		return err
	}
	g.spec.Linux.Namespaces = append(g.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.LinuxNamespaceType(kind), Path: path})
	return nil
}

func (g *generator) RemoveLinuxNamespace(kind string) error {
	switch t := specs.LinuxNamespaceType(kind); t {
	case specs.PIDNamespace, specs.NetworkNamespace, specs.MountNamespace, specs.IPCNamespace, specs.UTSNamespace,
		specs.UserNamespace, specs.CgroupNamespace, specs.TimeNamespace:
		g.spec.Linux.Namespaces = slices.DeleteFunc(slices.Clone(g.spec.Linux.Namespaces), func(n specs.LinuxNamespace) bool { return n.Type == t })
		return nil
	}
	return fmt.Errorf("there is no namespace of type %q: %w", kind, errdefs.ErrInvalidArgument)
}

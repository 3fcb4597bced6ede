package nri

import (
	"time"

	"github.com/containerd/nri/pkg/api"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/runtime/plugin"
)

// pod is a pod in the library's words.
func pod(p plugin.Pod) *api.PodSandbox {
	return &api.PodSandbox{
		Id: p.ID, Name: p.Name, Uid: p.UID, Namespace: p.Namespace, Labels: p.Labels, Annotations: p.Annotations,
		RuntimeHandler: p.Runtime, Pid: uint32(p.PID), Ips: p.IPs,
		Linux: &api.LinuxPodSandbox{
			PodOverhead: limits(p.Overhead), PodResources: limits(p.Resources), CgroupParent: p.CgroupParent,
			Namespaces: api.FromOCILinuxNamespaces(p.Namespaces),
		},
	}
}

// container is a container in the library's words.
func container(c plugin.Container) *api.Container {
	s := c.Spec
	if s == nil {
		s = &specs.Spec{}
	}
	process := s.Process
	if process == nil {
		process = &specs.Process{}
	}
	of := &api.Container{
		Id: c.ID, PodSandboxId: c.Pod, Name: c.Name, State: state(c.State), Labels: c.Labels, Annotations: s.Annotations,
		Args: process.Args, Env: process.Env, Mounts: api.FromOCIMounts(s.Mounts), Hooks: api.FromOCIHooks(s.Hooks),
		Linux: linux(s, process), Pid: uint32(c.PID),
		CreatedAt: nanoseconds(c.CreatedAt), StartedAt: nanoseconds(c.StartedAt), FinishedAt: nanoseconds(c.FinishedAt),
		ExitCode: int32(c.ExitCode), StatusReason: c.Reason,
		User:  &api.User{Uid: process.User.UID, Gid: process.User.GID, AdditionalGids: process.User.AdditionalGids},
		Image: &api.Image{Name: c.Image, Digest: c.ImageDigest},
	}
	for _, l := range process.Rlimits {
		of.Rlimits = append(of.Rlimits, &api.POSIXRlimit{Type: l.Type, Hard: l.Hard, Soft: l.Soft})
	}
	return of
}

func linux(s *specs.Spec, process *specs.Process) *api.LinuxContainer {
	l := s.Linux
	if l == nil {
		l = &specs.Linux{}
	}
	out := &api.LinuxContainer{
		Namespaces: api.FromOCILinuxNamespaces(l.Namespaces), Devices: api.FromOCILinuxDevices(l.Devices), Resources: limits(l.Resources),
		OomScoreAdj: api.Int(process.OOMScoreAdj), CgroupsPath: l.CgroupsPath, IoPriority: api.FromOCILinuxIOPriority(process.IOPriority),
		SeccompProfile: seccomp(l.Seccomp), Sysctl: l.Sysctl,
		NetDevices: api.FromOCILinuxNetDevices(l.NetDevices), Scheduler: api.FromOCILinuxScheduler(process.Scheduler),
	}
	if l.Seccomp != nil { // which the library takes for granted
		out.SeccompPolicy = api.FromOCILinuxSeccomp(l.Seccomp)
	}
	return out
}

// seccomp says what the document still tells: whether there is a filter.
func seccomp(s *specs.LinuxSeccomp) *api.SecurityProfile {
	if s == nil {
		return &api.SecurityProfile{ProfileType: api.SecurityProfile_UNCONFINED}
	}
	return &api.SecurityProfile{ProfileType: api.SecurityProfile_RUNTIME_DEFAULT}
}

func state(s string) api.ContainerState {
	switch s {
	case "created":
		return api.ContainerState_CONTAINER_CREATED
	case "running":
		return api.ContainerState_CONTAINER_RUNNING
	case "paused":
		return api.ContainerState_CONTAINER_PAUSED
	case "exited":
		return api.ContainerState_CONTAINER_STOPPED
	}
	return api.ContainerState_CONTAINER_UNKNOWN
}

// nanoseconds since the epoch; 0 for never.
func nanoseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func limits(r *specs.LinuxResources) *api.LinuxResources { return api.FromOCILinuxResources(r, nil) }

// asked are limits that a plugin asks for. A limit of memory is one of memory and swap together, as with other runtimes.
func asked(r *api.LinuxResources) *specs.LinuxResources {
	o := r.Strip().ToOCI()
	if o == nil {
		return nil
	}
	if o.Memory.Limit != nil && o.Memory.Swap == nil {
		o.Memory.Swap = o.Memory.Limit
	}
	if *o.Memory == (specs.LinuxMemory{}) {
		o.Memory = nil
	}
	if *o.CPU == (specs.LinuxCPU{}) {
		o.CPU = nil
	}
	return o
}

func updates(list []*api.ContainerUpdate) []plugin.Update {
	var out []plugin.Update
	for _, u := range list {
		if u != nil {
			out = append(out, update(u))
		}
	}
	return out
}

func update(u *api.ContainerUpdate) plugin.Update {
	return plugin.Update{ID: u.GetContainerId(), Resources: asked(u.GetLinux().GetResources()), IgnoreFailure: u.GetIgnoreFailure()}
}

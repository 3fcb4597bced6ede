package daemon

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	goruntime "runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minirt/mini/runtime/api"
)

// apiVersion is that of runtime/api/minid.proto.
const apiVersion = "v1"

// Version tells what this program is.
func (d *Daemon) Version() *api.VersionResponse {
	return &api.VersionResponse{Version: d.Options.Version, Revision: d.Revision, GoVersion: goruntime.Version(), ApiVersion: apiVersion}
}

// Info tells what this daemon is and has.
func (d *Daemon) Info(ctx context.Context, r *api.InfoRequest) (*api.InfoResponse, error) {
	config := ""
	if r.GetConfig() {
		config = d.config.Load().String()
	}
	images, err := d.images.List(ctx, "")
	if err != nil {
		return nil, err
	}
	counts := d.engine.Counts()
	hostname, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	memory, err := machineMemory()
	if err != nil {
		return nil, err
	}
	tcp := ""
	if d.remote != nil {
		tcp = d.remote.Addr().String()
	}
	return &api.InfoResponse{
		Config: config, Hostname: hostname, OperatingSystem: operatingSystem(), Cpus: int64(goruntime.NumCPU()), Memory: memory, TcpAddress: tcp,
		Name: d.Config.Name, Uuid: d.uuid, Pid: int64(os.Getpid()), Root: d.Config.Root, State: d.Config.State, Address: d.Config.Address,
		Kernel: d.host.Kernel, Os: goruntime.GOOS, Arch: goruntime.GOARCH, CgroupMode: d.host.CgroupMode, CgroupDriver: d.host.CgroupDriver,
		Snapshotter: d.snapshotters.fallback, SupervisorScope: d.Config.Supervisor.Scope, Supervisors: d.Supervisors(ctx), Features: d.features(),
		Containers: int64(counts.Containers), ContainersRunning: int64(counts.Running), Images: int64(len(images)),
		StartedAt: d.startedAt.UnixNano(), Warnings: d.warnings(), Plugins: d.plugins(ctx), ContainersPaused: int64(counts.Paused),
		Runtimes: slices.Sorted(maps.Keys(d.Config.Runtimes)), Time: time.Now().UnixNano(),
	}, nil
}

// machineMemory is in bytes (sysinfo(2)).
func machineMemory() (int64, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, fmt.Errorf("sysinfo: %w", err)
	}
	return int64(info.Totalram) * int64(info.Unit), nil
}

// operatingSystem is the name of the distribution, or empty (os-release(5)).
func operatingSystem() string {
	for _, path := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
				return strings.Trim(name, `"'`)
			}
		}
	}
	return ""
}

// Supervisors describes the supervisors that this daemon knows.
func (d *Daemon) Supervisors(context.Context) []*api.SupervisorInfo {
	var out []*api.SupervisorInfo
	for _, s := range d.sandboxes.Info() {
		out = append(out, &api.SupervisorInfo{Name: s.Group, Pid: int64(s.PID), Version: s.Build, Containers: int64(s.Processes)})
	}
	return out
}

// plugins are the snapshotters and the runtimes, and whether they can be used now.
func (d *Daemon) plugins(ctx context.Context) []*api.PluginInfo {
	var out []*api.PluginInfo
	names := slices.Concat(slices.Collect(maps.Keys(d.snapshotters.all)), slices.Collect(maps.Keys(d.snapshotters.unusable)))
	for _, name := range slices.Sorted(slices.Values(names)) {
		p := &api.PluginInfo{Type: "snapshotter", Id: name, Default: name == d.snapshotters.fallback}
		p.Path = cmp.Or(d.Config.Snapshotters[name].Address, d.Config.snapshotRoot(name))
		if err := d.snapshotters.check(ctx, name); err != nil {
			p.Error = err.Error()
		}
		out = append(out, p)
	}
	for _, r := range d.engine.Runtimes(ctx) {
		out = append(out, &api.PluginInfo{Type: "runtime", Id: r.Name, Path: r.Path, Default: r.Name == "", Error: r.Error})
	}
	return out
}

func (d *Daemon) features() map[string]bool {
	_, criu := exec.LookPath("criu")
	_, overlay := d.snapshotters.all["overlay"]
	return map[string]bool{
		"seccomp": !d.host.NoSeccomp, "apparmor": d.host.AppArmor, "selinux": d.host.SELinux, "criu": criu == nil, "overlay": overlay,
		"swap_limit": !d.host.NoSwapLimit, "intel_rdt": d.host.IntelRdt, "metrics": d.metrics != nil, "tracing": d.Config.Tracing.Endpoint != "",
	}
}

// warnings are what a user of this host should know.
func (d *Daemon) warnings() []string {
	var w []string
	if d.host.NoSeccomp {
		w = append(w, "the kernel has no seccomp: system calls of containers are not filtered")
	}
	if d.host.NoSwapLimit {
		w = append(w, "swap is not accounted to cgroups: limits of it are not enforced")
	}
	if !d.host.SysResource {
		w = append(w, "minid lacks CAP_SYS_RESOURCE: limits of resources and OOM scores cannot be raised above its own")
	}
	for _, name := range slices.Sorted(maps.Keys(d.snapshotters.unusable)) {
		w = append(w, d.snapshotters.missing(name).Error())
	}
	for _, ns := range d.host.MissingNamespaces {
		w = append(w, "the kernel has no "+ns+" namespaces")
	}
	return w
}

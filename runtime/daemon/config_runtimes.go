package daemon

import (
	"maps"
	"path"
	goruntime "runtime"
	"strings"
	"time"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/cri/policy"
	"github.com/minirt/mini/runtime/engine"
)

// Runtime is an OCI runtime under a name, which is a runtime handler of the CRI, and what is said of its pods.
type Runtime struct {
	Path          string            `toml:"path" comment:"Its binary. Empty in default_runtime: the built-in one."`
	PlatformPaths map[string]string `toml:"platform_runtime_paths" comment:"Its binary by platform (\"linux/arm64\"), over path."`
	Args          []string          `toml:"args" comment:"Options given to it before each verb."`
	Inherit       bool              `toml:"inherit_default_runtime" comment:"The default runtime under another name, for the settings below; path and args are its own then."`

	PodAnnotations       []string          `toml:"pod_annotations" comment:"Patterns (\"io.katacontainers.*\") of annotations of a pod that its containers get as well."`
	ContainerAnnotations []string          `toml:"container_annotations" comment:"Patterns of annotations of a container that its document gets. Empty: all."`
	DefaultAnnotations   map[string]string `toml:"default_annotations" comment:"Annotations of documents, where a pod or a container does not say otherwise."`
	AllowedAnnotations   []string          `toml:"allowed_annotations" comment:"By which pods may ask for more than the CRI has words for: userns-mode.crio.io, devices.crio.io, cpu-quota.crio.io, …\ndocs/kubernetes.md has them all."`

	CNIConfDir    string `toml:"cni_conf_dir" comment:"A directory of CNI configurations for its pods alone. Empty: their network is that of all."`
	CNIMaxConfNum int    `toml:"cni_max_conf_num" comment:"How many of them a pod joins; 0: all."`

	BaseSpec        string   `toml:"base_runtime_spec" comment:"A document (config.json) that is laid under those of its containers: limits, variables, mounts, hooks, devices that they do not have."`
	Snapshotter     string   `toml:"snapshotter" comment:"overlay, native or one of [snapshotters], for its containers and for what a kubelet pulls for them. Empty: snapshot.default."`
	MinMemory       Size     `toml:"container_min_memory" comment:"The least memory limit that a container may have."`
	CreateTimeout   Duration `toml:"container_create_timeout" comment:"How long the making of a container may take, and each answer of a binary; \"0s\": as long as the client waits, and four minutes."`
	SeccompProfile  string   `toml:"seccomp_profile" comment:"A file: what RuntimeDefault means, over cri.seccomp_profile."`
	ExecCPUAffinity string   `toml:"exec_cpu_affinity" comment:"first: executed processes begin on the first of the container's own processors. Empty: on any."`
	CgroupWritable  bool     `toml:"cgroup_writable" comment:"Containers without privileges may write to their cgroup (v2)."`

	WithoutHostDevices bool `toml:"privileged_without_host_devices" comment:"Privileged containers have only the devices that are asked for."`
	AllDevicesAllowed  bool `toml:"privileged_without_host_devices_all_devices_allowed" comment:"And may use any whose node they make."`
}

func defaultRuntime() Runtime {
	return Runtime{
		PlatformPaths: map[string]string{}, Args: []string{}, PodAnnotations: []string{}, ContainerAnnotations: []string{},
		DefaultAnnotations: map[string]string{}, AllowedAnnotations: []string{},
	}
}

// allRuntimes are the default one, without a name, and the others.
func (c Config) allRuntimes() map[string]Runtime {
	all := maps.Clone(c.Runtimes)
	if all == nil {
		all = map[string]Runtime{}
	}
	all[""] = c.Default
	return all
}

// binary is the path of a runtime's binary on this platform, and its arguments.
func (c Config) binary(r Runtime) (string, []string) {
	if r.Inherit {
		r = c.Default
	}
	if p := r.PlatformPaths[goruntime.GOOS+"/"+goruntime.GOARCH]; p != "" {
		return p, r.Args
	}
	return r.Path, r.Args
}

// engineRuntimes are the runtimes as the engine has them.
func (c Config) engineRuntimes() engine.Runtimes {
	out := engine.Runtimes{Paths: map[string]string{}, Options: map[string]engine.RuntimeOptions{}}
	for name, r := range c.allRuntimes() {
		binary, args := c.binary(r)
		out.Paths[name], out.Options[name] = binary, engine.RuntimeOptions{
			Args: args, PodAnnotations: r.PodAnnotations, Patience: time.Duration(r.CreateTimeout),
		}
	}
	return out
}

// handlers are the runtimes as the CRI has them.
func (c Config) handlers() map[string]policy.Handler {
	out := map[string]policy.Handler{}
	for name, r := range c.allRuntimes() {
		out[name] = policy.Handler{
			AllowedAnnotations: r.AllowedAnnotations, ContainerAnnotations: r.ContainerAnnotations, DefaultAnnotations: r.DefaultAnnotations,
			BaseSpec: r.BaseSpec, Snapshotter: r.Snapshotter, SeccompProfile: r.SeccompProfile, MinMemory: int64(r.MinMemory),
			CreateTimeout: time.Duration(r.CreateTimeout), ExecCPUAffinity: r.ExecCPUAffinity, CgroupWritable: r.CgroupWritable,
			PrivilegedWithoutHostDevices: r.WithoutHostDevices, PrivilegedAllDevicesAllowed: r.AllDevicesAllowed,
		}
	}
	return out
}

// checkRuntimes complains of what cannot be meant of runtimes.
func (c Config) checkRuntimes(bad func(key, format string, args ...any), absolute func(key, path string)) {
	for name, r := range c.allRuntimes() {
		table := runtimeTable(name)
		if _, named := c.Runtimes[""]; named && name == "" {
			bad("runtimes", "a runtime has no name: the one for who names none is default_runtime")
		}
		binary, _ := c.binary(r)
		switch {
		case name == "" && r.Inherit:
			bad(table+".inherit_default_runtime", "it is the default runtime")
		case r.Inherit && (r.Path != "" || len(r.Args) > 0 || len(r.PlatformPaths) > 0):
			bad(table+".inherit_default_runtime", "path and args are those of the default runtime: leave them out, or this")
		case name != "" && !r.Inherit && binary == "":
			bad(table+".path", "it is empty: say where the binary is, or set inherit_default_runtime")
		}
		absolute(table+".path", r.Path)
		for _, p := range r.PlatformPaths {
			absolute(table+".platform_runtime_paths", p)
		}
		absolute(table+".cni_conf_dir", r.CNIConfDir)
		absolute(table+".base_runtime_spec", r.BaseSpec)
		absolute(table+".seccomp_profile", r.SeccompProfile)
		r.check(table, bad)
	}
}

// runtimeTable is the table of the configuration that a runtime is in.
func runtimeTable(name string) string {
	if name == "" {
		return "default_runtime"
	}
	return "runtimes." + name
}

func (r Runtime) check(table string, bad func(key, format string, args ...any)) {
	for key, patterns := range map[string][]string{".pod_annotations": r.PodAnnotations, ".container_annotations": r.ContainerAnnotations} {
		for _, p := range patterns {
			if _, err := path.Match(p, ""); err != nil {
				bad(table+key, "%q: %s", p, err)
			}
		}
	}
	for k := range r.DefaultAnnotations {
		if strings.TrimSpace(k) == "" {
			bad(table+".default_annotations", "one has no key")
		}
	}
	if err := policy.CheckAllowed(r.AllowedAnnotations); err != nil {
		bad(table+".allowed_annotations", "%s", err)
	}
	if r.ExecCPUAffinity != "" && r.ExecCPUAffinity != "first" {
		bad(table+".exec_cpu_affinity", "%q is not first", r.ExecCPUAffinity)
	}
	if r.CNIMaxConfNum < 0 {
		bad(table+".cni_max_conf_num", "%d is less than 0", r.CNIMaxConfNum)
	}
	if d := time.Duration(r.CreateTimeout); d != 0 && d < time.Second {
		bad(table+".container_create_timeout", "%s is less than a second", d)
	}
	if r.AllDevicesAllowed && !r.WithoutHostDevices {
		bad(table+".privileged_without_host_devices_all_devices_allowed", "it needs privileged_without_host_devices")
	}
	if r.BaseSpec != "" {
		if _, err := spec.ReadBase(r.BaseSpec); err != nil {
			bad(table+".base_runtime_spec", "%s", err)
		}
	}
}

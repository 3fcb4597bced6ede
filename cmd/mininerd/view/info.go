package view

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/docker/go-units"

	"github.com/minirt/mini/runtime/api"
)

// Info is what info prints, with the keys of docker's API. Those that have no meaning here are empty.
type Info struct {
	ID                                              string
	Containers, ContainersRunning, ContainersPaused int64
	ContainersStopped, Images                       int64
	Driver                                          string
	DriverStatus                                    [][2]string
	Plugins                                         Plugins
	MemoryLimit, SwapLimit, KernelMemory            bool
	KernelMemoryTCP                                 bool
	CPUCfsPeriod                                    bool `json:"CpuCfsPeriod"`
	CPUCfsQuota                                     bool `json:"CpuCfsQuota"`
	CPUShares, CPUSet, PidsLimit, IPv4Forwarding    bool
	BridgeNfIptables                                bool
	BridgeNfIP6tables                               bool `json:"BridgeNfIp6tables"`
	Debug, OomKillDisable                           bool
	NFd, NGoroutines                                int
	SystemTime                                      string
	LoggingDriver, CgroupDriver, CgroupVersion      string
	NEventsListener                                 int
	KernelVersion, OperatingSystem, OSVersion       string
	OSType, Architecture, IndexServerAddress        string
	RegistryConfig                                  RegistryConfig
	NCPU                                            int
	MemTotal                                        int64
	GenericResources                                []string
	DockerRootDir                                   string
	HTTPProxy                                       string `json:"HttpProxy"`
	HTTPSProxy                                      string `json:"HttpsProxy"`
	NoProxy                                         string
	Name                                            string
	Labels                                          []string
	ExperimentalBuild                               bool
	ServerVersion                                   string
	Runtimes                                        map[string]RuntimeInfo
	DefaultRuntime                                  string
	Swarm                                           SwarmInfo
	LiveRestoreEnabled                              bool
	Isolation, InitBinary                           string
	ContainerdCommit, RuncCommit, InitCommit        Commit
	SecurityOptions, CDISpecDirs                    []string
	Warnings                                        []string
	Features                                        map[string]bool
}

// Plugins are the drivers that there are.
type Plugins struct{ Volume, Network, Authorization, Log []string }

// RegistryConfig is the daemon's part of what it knows of registries.
type RegistryConfig struct {
	InsecureRegistryCIDRs, Mirrors []string
	IndexConfigs                   map[string]struct{}
}

// RuntimeInfo is an OCI runtime.
type RuntimeInfo struct {
	Path string `json:"path"`
}

// SwarmInfo says that there is none.
type SwarmInfo struct{ NodeID, NodeAddr, LocalNodeState string }

// Commit is what a part was made of.
type Commit struct{ ID, Expected string }

// InfoOf translates.
func InfoOf(i *api.InfoResponse, v *api.VersionResponse) Info {
	out := Info{
		ID: i.Uuid, Containers: i.Containers, ContainersRunning: i.ContainersRunning - i.ContainersPaused, ContainersPaused: i.ContainersPaused,
		ContainersStopped: i.Containers - i.ContainersRunning, Images: i.Images, Driver: i.Snapshotter, DriverStatus: [][2]string{},
		Plugins:     Plugins{Volume: []string{"local"}, Network: []string{"bridge", "host", "ipvlan", "macvlan", "null"}, Log: []string{"json-file", "none"}},
		MemoryLimit: true, SwapLimit: i.Features["swap_limit"], CPUCfsPeriod: true, CPUCfsQuota: true, CPUShares: true, CPUSet: true, PidsLimit: true,
		IPv4Forwarding: true, OomKillDisable: i.CgroupMode != "v2", SystemTime: moment(i.Time), LoggingDriver: "json-file", CgroupDriver: i.CgroupDriver,
		CgroupVersion: "1", KernelVersion: i.Kernel, OperatingSystem: i.OperatingSystem, OSType: i.Os, Architecture: architecture(i.Arch),
		IndexServerAddress: "https://index.docker.io/v1/", RegistryConfig: RegistryConfig{[]string{}, []string{}, map[string]struct{}{}}, NCPU: int(i.Cpus),
		MemTotal: i.Memory, DockerRootDir: i.Root, Name: cmp.Or(i.Hostname, i.Name), Labels: []string{}, ServerVersion: v.GetVersion(),
		Runtimes: map[string]RuntimeInfo{builtIn: {Path: builtIn}}, DefaultRuntime: builtIn, Swarm: SwarmInfo{LocalNodeState: "inactive"}, LiveRestoreEnabled: true,
		InitBinary: "docker-init", SecurityOptions: []string{}, CDISpecDirs: []string{"/etc/cdi", "/var/run/cdi"}, Warnings: i.Warnings, Features: i.Features,
	}
	if i.CgroupMode == "v2" {
		out.CgroupVersion = "2"
	}
	for _, r := range i.Runtimes {
		out.Runtimes[r] = RuntimeInfo{Path: r}
	}
	for _, f := range []string{"apparmor", "seccomp", "selinux"} {
		switch {
		case !i.Features[f]:
		case f == "seccomp":
			out.SecurityOptions = append(out.SecurityOptions, "name=seccomp,profile=default")
		default:
			out.SecurityOptions = append(out.SecurityOptions, "name="+f)
		}
	}
	return out
}

// architecture is the kernel's name of what Go calls so.
func architecture(arch string) string {
	return cmp.Or(map[string]string{"amd64": "x86_64", "arm64": "aarch64", "386": "i686", "arm": "armv7l"}[arch], arch)
}

// Lines are info for people.
func (i Info) Lines() string {
	var b strings.Builder
	for _, l := range [][2]string{
		{"Containers", fmt.Sprint(i.Containers)}, {" Running", fmt.Sprint(i.ContainersRunning)}, {" Paused", fmt.Sprint(i.ContainersPaused)},
		{" Stopped", fmt.Sprint(i.ContainersStopped)}, {"Images", fmt.Sprint(i.Images)}, {"Server Version", i.ServerVersion}, {"Storage Driver", i.Driver},
		{"Logging Driver", i.LoggingDriver}, {"Cgroup Driver", i.CgroupDriver}, {"Cgroup Version", i.CgroupVersion}, {"Plugins", ""},
		{" Volume", strings.Join(i.Plugins.Volume, " ")}, {" Network", strings.Join(i.Plugins.Network, " ")}, {" Log", strings.Join(i.Plugins.Log, " ")},
		{"Runtimes", strings.Join(slices.Sorted(maps.Keys(i.Runtimes)), " ")}, {"Default Runtime", i.DefaultRuntime}, {"Init Binary", i.InitBinary},
		{"Security Options", strings.Join(i.SecurityOptions, " ")}, {"Kernel Version", i.KernelVersion}, {"Operating System", i.OperatingSystem},
		{"OSType", i.OSType}, {"Architecture", i.Architecture}, {"CPUs", fmt.Sprint(i.NCPU)}, {"Total Memory", units.BytesSize(float64(i.MemTotal))},
		{"Name", i.Name}, {"ID", i.ID}, {"Docker Root Dir", i.DockerRootDir}, {"Live Restore Enabled", fmt.Sprint(i.LiveRestoreEnabled)},
	} {
		fmt.Fprintf(&b, " %s\n", strings.TrimRight(l[0]+": "+l[1], " "))
	}
	return b.String()
}

package daemon

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/internal/apparmor"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/cri"
	"github.com/minirt/mini/runtime/cri/policy"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/logs"
	"github.com/minirt/mini/runtime/pin"
	"github.com/minirt/mini/runtime/tuning"
)

// CRIConfig says where the streams of the CRI are served, and what the owner of the node says of pods and containers.
type CRIConfig struct {
	StreamAddress     string   `toml:"stream_address" comment:"HOST:PORT; port 0 is any free one. Who can reach it can use only addresses that the CRI has just given away."`
	StreamCert        string   `toml:"stream_cert" comment:"PEM files for TLS, read again when they change. Empty: plain HTTP."`
	StreamKey         string   `toml:"stream_key"`
	StreamIdleTimeout Duration `toml:"stream_idle_timeout" comment:"How long a stream may be silent."`

	DefaultCapabilities []string `toml:"default_capabilities" comment:"What the root of a container may do that does not say otherwise."`
	AddInheritable      bool     `toml:"add_inheritable_capabilities" comment:"Put them into the inheritable set too, for programs of other users."`
	DefaultSysctls      []string `toml:"default_sysctls" comment:"NAME=VALUE, for pods that have the namespace for it."`
	DefaultUlimits      []string `toml:"default_ulimits" comment:"NAME=SOFT[:HARD], as \"nofile=1024:4096\"; -1: unlimited."`
	DefaultEnv          []string `toml:"default_env" comment:"KEY=VALUE, unless an image or a client says otherwise."`
	UnprivilegedPorts   bool     `toml:"enable_unprivileged_ports" comment:"In a network of their own, processes may bind ports below 1024."`
	UnprivilegedICMP    bool     `toml:"enable_unprivileged_icmp" comment:"And may ping."`
	UsernsRange         string   `toml:"userns_range" comment:"FIRST:COUNT, ids of the host that user namespaces asked for by an annotation are made of. Empty: none are."`

	KubeletDir string `toml:"kubelet_dir" comment:"The kubelet's --root-dir, for pods that ask for their logs in one of their volumes (annotation link-logs.crio.io)."`

	SeccompProfile           string `toml:"seccomp_profile" comment:"A file: what RuntimeDefault means. Empty: the built-in one. Read for each container."`
	UnsetSeccompProfile      string `toml:"unset_seccomp_profile" comment:"A file, runtime/default, or unconfined (also when empty), for those that say nothing."`
	PrivilegedSeccompProfile string `toml:"privileged_seccomp_profile" comment:"A file, for privileged containers. Empty: unconfined."`
	AppArmorProfile          string `toml:"apparmor_profile" comment:"A profile that is loaded: what RuntimeDefault means where the host has AppArmor; the daemon loads mini-default by itself. Empty: none."`
	HostNetworkNoSELinux     bool   `toml:"hostnetwork_disable_selinux" comment:"Pods with the host's network have no label."`
	DisableProcMount         bool   `toml:"disable_proc_mount" comment:"/proc and /sys are masked whatever the client says."`

	DeviceOwnership   bool     `toml:"device_ownership_from_security_context" comment:"Devices belong to the user and group that the container is run as, not to those of the host."`
	AllowedDevices    []string `toml:"allowed_devices" comment:"What the annotation devices.crio.io may name."`
	AdditionalDevices []string `toml:"additional_devices" comment:"SOURCE[:TARGET][:PERMISSIONS], for every container."`

	PidsLimit              int64 `toml:"pids_limit" comment:"Processes in a container; 0: no limit but the pod's."`
	TolerateMissingHugetlb bool  `toml:"tolerate_missing_hugetlb_controller" comment:"Limits of huge pages are left out where the host has no controller for them."`
	DisableHugetlb         bool  `toml:"disable_hugetlb_controller" comment:"And everywhere."`

	MaxLogLine    int  `toml:"max_container_log_line_size" comment:"Bytes of a line in one entry of the log, up to 524288; longer ones are written in parts."`
	LogToJournald bool `toml:"log_to_journald" comment:"What containers of pods log is in the journal too."`
	LogSizeMax    Size `toml:"log_size_max" comment:"A log is begun anew at this size; 0: never, which is for the kubelet to decide."`

	ImageVolumes        string   `toml:"image_volumes" comment:"What a container gets for the volumes that its image declares: copy (a volume with the image's files), bind (an empty one), mkdir (a directory of its root filesystem) or ignore. They go with the container."`
	RejectAbsentSources []string `toml:"absent_mount_sources_to_reject" comment:"Paths of the host that are not made when a container mounts them and they are not there, as \"/etc/hostname\"."`
	Timezone            string   `toml:"timezone" comment:"Local, or a name like \"Europe/Berlin\", for /etc/localtime. Empty: the image's."`

	ReadOnly    bool `toml:"read_only" comment:"No container writes to its root filesystem."`
	NoPivot     bool `toml:"no_pivot" comment:"The root is changed without pivot_root(2), for hosts whose root is a ramdisk."`
	NoHostPorts bool `toml:"disable_hostport_mapping" comment:"Ports of pods are not published: somebody else does."`

	SharedCPUs     string `toml:"shared_cpuset" comment:"Processors for containers that ask by cpu-shared.crio.io, beside their own."`
	MinGOMAXPROCS  int64  `toml:"min_injected_gomaxprocs" comment:"GOMAXPROCS for burstable and best-effort pods without a limit is twice their share, and at least this; 0: not set."`
	TuningRoot     string `toml:"tuning_root" comment:"The directory that /proc and /sys are below, for annotations that tune processors."`
	IRQBalanceFile string `toml:"irqbalance_config_file" comment:"Of irqbalance, below the one above: told of processors without interrupts, if it is there."`

	BlockIOFile   string `toml:"blockio_config_file" comment:"Classes of block I/O, as containerd and CRI-O have them. Read again with each reload."`
	IgnoreBlockIO bool   `toml:"ignore_blockio_not_enabled_errors" comment:"A container that asks for a class runs without, where there are none."`
	RDTFile       string `toml:"rdt_config_file" comment:"Classes of cache and memory bandwidth (Intel RDT)."`
	IgnoreRDT     bool   `toml:"ignore_rdt_not_enabled_errors"`

	NamespacedAuthDir  string   `toml:"namespaced_auth_dir" comment:"Credentials of a Kubernetes namespace, over docker_config: NAMESPACE-SHA256.json for one image, by the hash of its name, or NAMESPACE.json, as config.json has them. Empty: none."`
	IncludedPodMetrics []string `toml:"included_pod_metrics" comment:"all, or groups of ListPodSandboxMetrics: cpu, memory, hugetlb, oom, disk, diskIO, process, pressure, spec, network."`

	Workloads map[string]Workload `toml:"workloads" comment:"Kinds of pods, by name: [cri.workloads.management] activation_annotation = \"target.workload.openshift.io/management\""`
}

// Workload is a kind of pods whose containers' processors the owner of the node decides.
type Workload struct {
	Activation         string                   `toml:"activation_annotation" comment:"A pod that has this annotation is one."`
	Prefix             string                   `toml:"annotation_prefix" comment:"PREFIX/CONTAINER is an annotation of the pod with the resources as JSON, over those below."`
	AllowedAnnotations []string                 `toml:"allowed_annotations" comment:"As a runtime has them."`
	Resources          policy.WorkloadResources `toml:"resources" comment:"Of each container."`
}

func defaultCRI() CRIConfig {
	return CRIConfig{
		StreamAddress: "127.0.0.1:0", StreamIdleTimeout: Duration(4 * time.Hour),
		DefaultCapabilities: spec.DefaultCapabilities(), DefaultSysctls: []string{}, DefaultUlimits: []string{}, DefaultEnv: []string{},
		UnprivilegedPorts: true, UnprivilegedICMP: true, KubeletDir: "/var/lib/kubelet", AppArmorProfile: apparmor.Profile, HostNetworkNoSELinux: true, TolerateMissingHugetlb: true,
		AllowedDevices: []string{"/dev/fuse", "/dev/net/tun"}, AdditionalDevices: []string{}, MaxLogLine: logs.MaxLine,
		ImageVolumes: engine.ImageVolumesCopy, RejectAbsentSources: []string{}, TuningRoot: "/", IRQBalanceFile: "/etc/sysconfig/irqbalance",
		IncludedPodMetrics: []string{"all"}, Workloads: map[string]Workload{},
	}
}

// imageVolumes is the setting as the engine has it.
func (c CRIConfig) imageVolumes() string {
	if c.ImageVolumes == "ignore" {
		return engine.ImageVolumesIgnore
	}
	return c.ImageVolumes
}

// checkCRI complains of what cannot be meant of pods and containers.
func (c Config) checkCRI(bad func(key, format string, args ...any), absolute func(key, path string)) {
	r := c.CRI
	for key, p := range map[string]string{
		"seccomp_profile": r.SeccompProfile, "privileged_seccomp_profile": r.PrivilegedSeccompProfile, "tuning_root": r.TuningRoot,
		"irqbalance_config_file": r.IRQBalanceFile, "blockio_config_file": r.BlockIOFile, "rdt_config_file": r.RDTFile,
		"namespaced_auth_dir": r.NamespacedAuthDir,
	} {
		absolute("cri."+key, p)
	}
	if u := r.UnsetSeccompProfile; u != "runtime/default" && u != "unconfined" {
		absolute("cri.unset_seccomp_profile", u)
	}
	for _, p := range slices.Concat(r.AllowedDevices, r.RejectAbsentSources) {
		absolute("cri.allowed_devices or absent_mount_sources_to_reject", p)
	}
	if !slices.Contains([]string{engine.ImageVolumesCopy, engine.ImageVolumesBind, engine.ImageVolumesMkdir, "ignore"}, r.ImageVolumes) {
		bad("cri.image_volumes", "%q is not copy, bind, mkdir or ignore", r.ImageVolumes)
	}
	if n := r.MaxLogLine; n < 1 || n > logs.MostLine {
		bad("cri.max_container_log_line_size", "%d is not between 1 and %d", n, logs.MostLine)
	}
	if n := r.LogSizeMax; n != 0 && n < 8192 {
		bad("cri.log_size_max", "%d bytes is less than 8192", n)
	}
	for key, n := range map[string]int64{"pids_limit": r.PidsLimit, "min_injected_gomaxprocs": r.MinGOMAXPROCS} {
		if n < 0 {
			bad("cri."+key, "%d is less than 0", n)
		}
	}
	if _, err := spec.ParseList(r.SharedCPUs); err != nil {
		bad("cri.shared_cpuset", "%q: %s", r.SharedCPUs, err)
	}
	if strings.Contains(r.Timezone, "..") || strings.ContainsAny(r.Timezone, "\x00\n") {
		bad("cri.timezone", "%q is no name of a time zone", r.Timezone)
	}
	for name, w := range r.Workloads {
		table := "cri.workloads." + name
		if w.Activation == "" {
			bad(table+".activation_annotation", "it is empty")
		}
		if err := policy.CheckAllowed(w.AllowedAnnotations); err != nil {
			bad(table+".allowed_annotations", "%s", err)
		}
		if err := w.Resources.Check(); err != nil {
			bad(table+".resources", "%s", err)
		}
	}
	for _, g := range r.IncludedPodMetrics {
		if g != "all" && !slices.Contains(cri.MetricGroups(), g) {
			bad("cri.included_pod_metrics", "%q is not all, and none of %s", g, strings.Join(cri.MetricGroups(), ", "))
		}
	}
	if _, err := c.policy(); err != nil {
		bad("cri", "%s", err)
	}
}

// policy is what the configuration says of pods and containers.
func (c Config) policy() (*policy.Settings, error) {
	r := c.CRI
	capabilities := slices.Clone(r.DefaultCapabilities)
	if capabilities == nil {
		capabilities = []string{}
	}
	s := &policy.Settings{
		Handlers: c.handlers(), Workloads: map[string]policy.Workload{}, UnprivilegedPorts: r.UnprivilegedPorts, UnprivilegedICMP: r.UnprivilegedICMP,
		KubeletDir:     r.KubeletDir,
		PullCgroup:     c.Image.SeparatePullCgroup,
		Defaults:       spec.Defaults{Capabilities: &capabilities, Inheritable: r.AddInheritable, Env: r.DefaultEnv, AppArmor: r.AppArmorProfile},
		SeccompProfile: r.SeccompProfile, UnsetSeccomp: r.UnsetSeccompProfile, PrivilegedSeccomp: r.PrivilegedSeccompProfile,
		PidsLimit: r.PidsLimit, AllowedDevices: r.AllowedDevices, MinGOMAXPROCS: r.MinGOMAXPROCS, Timezone: r.Timezone,
		ImageVolumes: r.imageVolumes(),
		MaxLogLine:   r.MaxLogLine, LogSizeMax: int64(r.LogSizeMax), LogToJournald: r.LogToJournald, SharedCPUs: r.SharedCPUs, RejectAbsentSources: r.RejectAbsentSources,
		DeviceOwnership: r.DeviceOwnership, TolerateMissingHugetlb: r.TolerateMissingHugetlb, DisableHugetlb: r.DisableHugetlb,
		DisableProcMount: r.DisableProcMount, HostNetworkDisableSELinux: r.HostNetworkNoSELinux,
		ReadOnly: r.ReadOnly, NoPivot: r.NoPivot, NoHostPorts: r.NoHostPorts,
		PodMetrics: r.IncludedPodMetrics, NamespacedAuth: r.NamespacedAuthDir,
		Housekeeping: func(cpus []int) []int { return tuning.Housekeeping(r.TuningRoot, cpus) },
	}
	for name, w := range r.Workloads {
		s.Workloads[name] = policy.Workload{Activation: w.Activation, Prefix: w.Prefix, AllowedAnnotations: w.AllowedAnnotations, Resources: w.Resources}
	}
	var errs [5]error
	s.Sysctls, errs[0] = sysctls(r.DefaultSysctls)
	s.Defaults.Rlimits, errs[1] = ulimits(r.DefaultUlimits)
	s.UserRange, errs[2] = userRange(r.UsernsRange)
	s.AdditionalDevices, errs[3] = devices(r.AdditionalDevices)
	if errs[4] = environment(r.DefaultEnv); errs[4] == nil {
		_, _, errs[4] = spec.Build(spec.Input{ID: "check", Defaults: s.Defaults, Request: spec.Request{Args: []string{"true"}, Seccomp: "unconfined"}})
	}
	return s, errors.Join(errs[:]...)
}

func sysctls(list []string) (map[string]string, error) {
	set := map[string]string{}
	for _, text := range list {
		name, v, ok := strings.Cut(text, "=")
		file, err := pin.SysctlPath(name)
		if !ok || err != nil {
			return nil, fmt.Errorf("default_sysctls: %q is not NAME=VALUE", text)
		}
		if kind, known := spec.SysctlNamespace(file); !known || kind == specs.UserNamespace {
			return nil, fmt.Errorf("default_sysctls: %s belongs to no namespace of a pod and would change the host: set it there", name)
		}
		set[name] = v
	}
	return set, nil
}

func ulimits(list []string) ([]specs.POSIXRlimit, error) {
	var limits []specs.POSIXRlimit
	for _, text := range list {
		name, values, _ := strings.Cut(text, "=")
		soft, hard, both := strings.Cut(values, ":")
		if !both {
			hard = soft
		}
		l := specs.POSIXRlimit{Type: "RLIMIT_" + strings.TrimPrefix(strings.ToUpper(name), "RLIMIT_")}
		for _, n := range []struct {
			text string
			to   *uint64
		}{{soft, &l.Soft}, {hard, &l.Hard}} {
			v, err := strconv.ParseInt(n.text, 10, 64)
			if err != nil || v < -1 {
				return nil, fmt.Errorf("default_ulimits: %q is not NAME=SOFT[:HARD]", text)
			}
			*n.to = uint64(v) // -1 is RLIM_INFINITY
		}
		limits = append(limits, l)
	}
	return limits, nil
}

func userRange(text string) (policy.IDRange, error) {
	if text == "" {
		return policy.IDRange{}, nil
	}
	first, count, _ := strings.Cut(text, ":")
	a, errA := strconv.ParseUint(first, 10, 32)
	n, errN := strconv.ParseUint(count, 10, 32)
	if errA != nil || errN != nil || a == 0 || n == 0 || a+n > 1<<32-1 {
		return policy.IDRange{}, fmt.Errorf("userns_range: %q is not FIRST:COUNT, as \"200000:6553600\"", text)
	}
	return policy.IDRange{First: uint32(a), Size: uint32(n)}, nil
}

func devices(list []string) ([]spec.Device, error) {
	var out []spec.Device
	for _, text := range list {
		d, err := policy.Device(text)
		if err != nil {
			return nil, fmt.Errorf("additional_devices: %w", err)
		}
		out = append(out, d)
	}
	return out, nil
}

func environment(list []string) error {
	for _, kv := range list {
		if key, _, ok := strings.Cut(kv, "="); !ok || key == "" || strings.ContainsRune(kv, 0) {
			return fmt.Errorf("default_env: %q is not KEY=VALUE", kv)
		}
	}
	return nil
}

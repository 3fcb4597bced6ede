package daemon

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"github.com/pelletier/go-toml/v2"

	"github.com/minirt/mini/runtime/logs"
	"github.com/minirt/mini/runtime/network"
)

// DefaultConfigPath is read when it is there; a path given by the user must be there.
const DefaultConfigPath = "/etc/minid/config.toml"

const (
	defaultRoot  = "/var/lib/minid"
	defaultState = "/run/minid"
	defaultName  = "minid"
)

// Config is the daemon's configuration file, in TOML. What is empty is derived by Load, as the comments say.
type Config struct {
	Name          string                 `toml:"name" comment:"The daemon's own name, also that of its cgroup. Empty: \"minid\" with the default root, else made from the root.\nTwo daemons on one machine need different names, roots and states."`
	Root          string                 `toml:"root" comment:"What survives a reboot: images, containers, records."`
	State         string                 `toml:"state" comment:"What does not: bundles, sockets, mounts."`
	Address       string                 `toml:"address" comment:"The Unix socket. Empty: minid.sock in the state directory."`
	LogLevel      string                 `toml:"log_level" comment:"debug, info, warn or error. Reloaded."`
	LogFormat     string                 `toml:"log_format" comment:"text or json, on the standard error."`
	API           APIConfig              `toml:"api" comment:"The same services for clients on other machines. Whoever is let in is root here, in effect."`
	Registry      RegistryConfig         `toml:"registry" comment:"Where images come from. The paths are reloaded."`
	CNI           CNIConfig              `toml:"cni" comment:"The networks of pods."`
	Network       NetworkConfig          `toml:"network"`
	CRI           CRIConfig              `toml:"cri" comment:"The socket also serves the Kubernetes CRI; its streams (exec, attach, port-forward) have a listener of their own.\nWhat is said of pods and containers here is reloaded, and counts for those that are made from then on."`
	Cgroup        CgroupConfig           `toml:"cgroup"`
	Supervisor    SupervisorConfig       `toml:"supervisor" comment:"The parents of container processes."`
	Default       Runtime                `toml:"default_runtime" comment:"The runtime of who names none. Runtimes are reloaded."`
	Runtimes      map[string]Runtime     `toml:"runtimes" comment:"Others by name, with the keys of default_runtime: [runtimes.crun] path = \"/usr/bin/crun\""`
	NRI           NRIConfig              `toml:"nri" comment:"Plugins of the Node Resource Interface."`
	OCI           OCIConfig              `toml:"oci" comment:"What every container gets."`
	Image         ImageConfig            `toml:"image" comment:"Which images may be used, and how they are brought. Policies, keys and pinned images are reloaded."`
	ImageVerifier ImageVerifierConfig    `toml:"image_verifier" comment:"Programs that are asked whether an image may be pulled."`
	Metrics       MetricsConfig          `toml:"metrics"`
	Debug         DebugConfig            `toml:"debug"`
	Tracing       TracingConfig          `toml:"tracing"`
	Snapshot      SnapshotConfig         `toml:"snapshot"`
	Snapshotters  map[string]Snapshotter `toml:"snapshotters" comment:"More snapshotters, by name: [snapshotters.stargz] type = \"proxy\" address = \"/run/containerd-stargz-grpc/containerd-stargz-grpc.sock\""`
	GC            GCConfig               `toml:"gc" comment:"The collection of content and snapshots that nothing refers to."`
	Log           LogConfig              `toml:"log" comment:"The logs of containers that do not say otherwise."`
}

// APIConfig says where clients on other machines find the daemon, and who is let in.
type APIConfig struct {
	TCP      string `toml:"tcp" comment:"HOST:PORT. Empty: nowhere."`
	TLSCert  string `toml:"tls_cert" comment:"PEM files: the daemon's certificate and key, and the authority that must have signed the certificates of clients.\nThey are read again when they change."`
	TLSKey   string `toml:"tls_key"`
	TLSCA    string `toml:"tls_ca"`
	Insecure bool   `toml:"insecure" comment:"No TLS: every user and every container with the host's network is let in. Only at a loopback address."`
}

// RegistryConfig says how registries are reached.
type RegistryConfig struct {
	ConfigPath             string `toml:"config_path" comment:"Directories with a directory for each registry and its hosts.toml, separated by colons."`
	RegistriesConf         string `toml:"registries_conf" comment:"A file as in containers-registries.conf(5), with the files of its directory NAME.d: mirrors, other locations, blocked registries, short names. Read at each request; config_path says in any case how a host is reached. Empty: none."`
	DockerConfig           string `toml:"docker_config" comment:"Docker's config.json, or its directory, for credentials. Empty: $DOCKER_CONFIG or ~/.docker."`
	MaxConcurrentDownloads int    `toml:"max_concurrent_downloads"`
}

// CNIConfig says where the network plugins and their configuration are.
type CNIConfig struct {
	ConfDir        string   `toml:"conf_dir" comment:"Watched. Without a configuration in it, pods are in the built-in network."`
	BinDirs        []string `toml:"bin_dirs"`
	DefaultNetwork string   `toml:"default_network" comment:"The name of the network that pods are in as eth0. Empty: that of the first configuration."`
	MaxConfNum     int      `toml:"max_conf_num" comment:"How many configurations a pod joins, as eth0, eth1, …; 0: all."`
	ConfTemplate   string   `toml:"conf_template" comment:"A template for a configuration, written when the kubelet tells the pods' subnets. Empty: none."`
	IPPref         string   `toml:"ip_pref" comment:"Which address of a pod is its main one: ipv4, ipv6 or cni (the plugin's order)."`
}

// NetworkConfig says how the networks of pods are made.
type NetworkConfig struct {
	Provider string   `toml:"provider" comment:"auto (CNI where it is configured, else the built-in one), cni or builtin."`
	Subnets  []string `toml:"subnets" comment:"Of the built-in network, one of each family at most. Empty: 10.88.0.0/16, or another one when that is used, and a unique local one of IPv6."`
	MTU      int      `toml:"mtu" comment:"Of the built-in network; 0: that of the host's uplink."`
	Spares   int      `toml:"spares" comment:"How many namespaces are made ahead, so that a pod need not wait for one."`
}

// CgroupConfig says who makes the cgroups, and where.
type CgroupConfig struct {
	Driver string `toml:"driver" comment:"cgroupfs or systemd. Empty: what fits the host."`
	Parent string `toml:"parent" comment:"The group or slice above those of the containers. Empty: the daemon's name."`
}

// SupervisorConfig says how container processes are parented.
type SupervisorConfig struct {
	Scope string `toml:"scope" comment:"node: one supervisor for all; pod: one for each pod or container."`
	Path  string `toml:"path" comment:"Its binary. Empty: minid-supervisor beside minid, else in $PATH."`
}

// MetricsConfig says where Prometheus finds the metrics.
type MetricsConfig struct {
	Address string `toml:"address" comment:"127.0.0.1:PORT or a Unix socket's path, answering /metrics. Empty: nowhere."`
}

// DebugConfig switches debugging aids on.
type DebugConfig struct {
	Pprof bool `toml:"pprof" comment:"Go's profiles on debug.sock in the state directory."`
}

// TracingConfig says where OpenTelemetry traces go.
type TracingConfig struct {
	Endpoint string  `toml:"endpoint" comment:"host:port of an OTLP collector (gRPC without TLS), https://host:port with. Empty: no traces."`
	Sampling float64 `toml:"sampling" comment:"The part of requests traced, 0 to 1, when the caller does not decide."`
}

// SnapshotConfig chooses how root filesystems are made.
type SnapshotConfig struct {
	Default string `toml:"default" comment:"overlay, native or one of [snapshotters]. Empty: overlay where the filesystem allows it. Containers stay with the one that they were made with."`
}

// GCConfig paces the garbage collection.
type GCConfig struct {
	Interval Duration `toml:"interval" comment:"How often; \"0s\": only when asked. Reloaded."`
	Grace    Duration `toml:"grace" comment:"How long what an interrupted pull has brought is kept for the next try."`
}

// LogConfig bounds the log files of containers.
type LogConfig struct {
	MaxSize  Size `toml:"max_size" comment:"Bytes, or with a unit as \"16MiB\"; 0: no rotation."`
	MaxFiles int  `toml:"max_files"`
	// The driver and its options are docker's log-driver and log-opts.
	Driver  string            `toml:"driver" comment:"Of containers without a pod: json-file, local, journald, syslog, fluentd, none, or binary://PROGRAM."`
	Options map[string]string `toml:"options" comment:"Of that driver, as mininerd's --log-opt: max-file = \"5\""`
}

// Default is the configuration of a daemon without a file.
func Default() Config {
	return Config{
		Root: defaultRoot, State: defaultState, LogLevel: "info", LogFormat: "text",
		Registry:   RegistryConfig{ConfigPath: "/etc/minid/certs.d:/etc/containerd/certs.d:/etc/docker/certs.d", MaxConcurrentDownloads: 6},
		CNI:        CNIConfig{ConfDir: "/etc/cni/net.d", BinDirs: []string{"/opt/cni/bin", "/usr/lib/cni"}, MaxConfNum: 1, IPPref: "ipv4"},
		Network:    NetworkConfig{Provider: network.ProviderAuto, Subnets: []string{}, Spares: network.DefaultSpares},
		CRI:        defaultCRI(),
		Default:    defaultRuntime(),
		Supervisor: SupervisorConfig{Scope: "node"},
		Runtimes:   map[string]Runtime{}, Snapshotters: map[string]Snapshotter{},
		NRI: defaultNRI(), OCI: defaultOCI(), Image: defaultImage(), ImageVerifier: defaultImageVerifier(),
		Tracing: TracingConfig{Sampling: 1},
		GC:      GCConfig{Interval: Duration(10 * time.Minute), Grace: Duration(time.Hour)},
		Log:     LogConfig{MaxSize: 64 << 20, MaxFiles: 3, Driver: logs.DriverJSON, Options: map[string]string{}},
	}
}

// Overrides are the settings of the command line; what is empty is not overridden.
type Overrides struct{ Root, State, Address, LogLevel string }

// Load reads the file at path, lets the overrides win, derives what is empty, and checks everything. An empty path is
// DefaultConfigPath, which need not exist.
func Load(path string, o Overrides) (Config, error) {
	c := Default()
	named := path != ""
	if !named {
		path = DefaultConfigPath
	}
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !named:
	case errors.Is(err, fs.ErrNotExist):
		return Config{}, fmt.Errorf("configuration %s: there is no such file: `minid config default` prints one: %w", path, errdefs.ErrNotFound)
	case err != nil:
		return Config{}, fmt.Errorf("read the configuration: %w", err)
	default:
		if err := Parse(data, &c); err != nil {
			return Config{}, fmt.Errorf("configuration %s: %w", path, err)
		}
	}
	o.apply(&c)
	c.derive()
	if err := c.check(); err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

// Parse lays the text over what c has. A key that is not known is an error.
func Parse(data []byte, c *Config) error {
	d := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	err := d.Decode(c)
	if err == nil {
		return nil
	}
	return explain(err)
}

func (o Overrides) apply(c *Config) {
	for _, s := range []struct {
		to   *string
		from string
	}{{&c.Root, o.Root}, {&c.State, o.State}, {&c.Address, o.Address}, {&c.LogLevel, o.LogLevel}} {
		if s.from != "" {
			*s.to = s.from
		}
	}
}

// derive fills in what follows from other settings.
func (c *Config) derive() {
	c.Root, c.State = filepath.Clean(c.Root), filepath.Clean(c.State)
	if c.Address == "" {
		c.Address = filepath.Join(c.State, "minid.sock")
	}
	if c.Name == "" {
		c.Name = nameOf(c.Root)
	}
}

// nameOf is the name of a daemon that has been given none: different for each root, and the same after a restart.
func nameOf(root string) string {
	if root == defaultRoot {
		return defaultName
	}
	sum := sha256.Sum256([]byte(root))
	return defaultName + "-" + hex.EncodeToString(sum[:3])
}

// String is the configuration as a file, with comments.
func (c Config) String() string {
	var b bytes.Buffer
	if err := toml.NewEncoder(&b).Encode(c); err != nil {
		return "# " + err.Error()
	}
	return b.String()
}

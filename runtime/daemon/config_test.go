package daemon

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

func load(t *testing.T, text string, o Overrides) (Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(path, o)
}

func TestDefaultIsItsOwnFile(t *testing.T) {
	want := Default()
	got := Config{Runtimes: map[string]Runtime{}, Snapshotters: map[string]Snapshotter{}, Default: defaultRuntime(), Log: LogConfig{Options: map[string]string{}}} // an empty table leaves a map as it is
	got.CRI.Workloads = map[string]Workload{}
	if err := Parse([]byte(want.String()), &got); err != nil {
		t.Fatalf("%v in:\n%s", err, want)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read back:\n%+v\nwant:\n%+v", got, want)
	}
	if !strings.Contains(want.String(), "# debug, info, warn or error") {
		t.Error("the file has no comments")
	}
}

func TestLoad(t *testing.T) {
	c, err := load(t, `
root = "/srv/mini"
[gc]
interval = "5m"
[log]
max_size = "1MiB"
[runtimes.crun]
path = "/usr/bin/crun"
`, Overrides{State: "/run/other/", LogLevel: "debug"})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(c.Name, "minid-") || len(c.Name) != 12 {
		t.Errorf("name is %s", c.Name)
	}
	if c.Address != "/run/other/minid.sock" || c.LogLevel != "debug" || c.GC.Interval != Duration(5*time.Minute) ||
		c.GC.Grace != Default().GC.Grace || c.Log.MaxSize != 1<<20 || c.Runtimes["crun"].Path != "/usr/bin/crun" {
		t.Errorf("got %+v", c)
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none"), Overrides{}); !errdefs.IsNotFound(err) {
		t.Errorf("a named file that is missing: %v", err)
	}
}

func TestName(t *testing.T) {
	if n := nameOf(defaultRoot); n != "minid" {
		t.Errorf("default root: %s", n)
	}
	if a, b := nameOf("/a"), nameOf("/b"); a == b || nameOf("/a") != a {
		t.Errorf("names %s and %s", a, b)
	}
}

func TestComplaints(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{`rooot = "/x"`, `line 1: there is no key "rooot": did you mean "root"?`},
		{"[gc]\nintervall = \"1m\"", `line 2: there is no key "gc.intervall": did you mean "gc.interval"?`},
		{"max_size = 5", `there is no key "max_size": did you mean "log.max_size"?`},
		{"[runtimes.x]\npaht = \"/x\"", `there is no key "runtimes.x.paht": did you mean "runtimes.*.path"?`},
		{"[snapshot]\ndefault = \"erofs\"", `snapshot.default: "erofs" is not native or overlay: others are added as [snapshotters.erofs]`},
		{"[snapshotters.overlay]\ntype = \"erofs\"", "snapshotters.overlay: this one is always there"},
		{"[snapshotters.X]\ntype = \"erofs\"", "snapshotters.X: use lower-case letters"},
		{"[snapshotters.x]\ntype = \"zfs\"", `snapshotters.x.type: "zfs" is not blockfile or btrfs or devmapper or erofs or proxy`},
		{"[snapshotters.x]\ntype = \"proxy\"", "snapshotters.x.address: it is the socket of a proxy"},
		{"[snapshotters.x]\ntype = \"erofs\"\naddress = \"/x\"", "snapshotters.x.address: it is the socket of a proxy"},
		{"[snapshotters.x]\ntype = \"blockfile\"\nsize = \"1MiB\"", "snapshotters.x.size: it is of a blockfile or of devmapper, and at least 16777216 bytes"},
		{"[snapshotters.x]\ntype = \"btrfs\"\nroot = \"x\"", "snapshotters.x.root: \"x\" is not an absolute path"},
		{"[runtimes.crun]\npath = \"/usr/bin/crun\"\nsnapshotter = \"x\"", `runtimes.crun.snapshotter: "x" is not native or overlay`},
		{"[nri]\nplugin_request_timeout = \"0s\"", "nri.plugin_request_timeout: 0s is less than a millisecond"},
		{"[nri]\nsocket_path = \"nri.sock\"", "nri.socket_path: \"nri.sock\" is not an absolute path"},
		{"[nri.default_validator]\nrejct_oci_hook_adjustment = true", `did you mean "nri.default_validator.reject_oci_hook_adjustment"?`},
		{"[oci]\nhooks_dirs = [\"x\"]", "oci.hooks_dirs: \"x\" is not an absolute path"},
		{"[image_verifier]\nmax_verifiers = 0", "image_verifier.max_verifiers: 0 is neither above 0 nor -1"},
		{"[runtimes.x]\npath = \"/x\"\npod_annotations = [\"[\"]", "runtimes.x.pod_annotations"},
		{"zzzzzz = 1", `line 1: there is no key "zzzzzz": invalid`},
		{"root = ", "line 1"},
		{"root = 5", "line 1"},
		{`root = "relative"`, `root: "relative" is not an absolute path`},
		{`log_level = "loud"`, `log_level: "loud" is not debug or info or warn or error`},
		{"[gc]\ninterval = \"10\"", `"10" is not a duration: write e.g. "10m"`},
		{"[gc]\ninterval = \"1ms\"", `gc.interval: 1ms is less than a second`},
		{"[log]\nmax_size = \"1XB\"", `is not a size`},
		{"[log]\nmax_size = 1", `log.max_size: 1 bytes is less than 4096`},
		{"[metrics]\naddress = \"0.0.0.0:9\"", `not a loopback address`},
		{"[metrics]\naddress = \"9\"", `neither an absolute path nor host:port`},
		{"[supervisor]\nscope = \"x\"", `supervisor.scope: "x" is not node or pod`},
		{"[image]\nseparate_pull_cgroup = \"/a/b.slice\"", `image.separate_pull_cgroup: "/a/b.slice" is not pod, a slice`},
		{"[image]\nseparate_pull_cgroup = \"pulls\"", `image.separate_pull_cgroup: "pulls" is not pod, a slice of systemd like pulls.slice, or a cgroup like /pulls`},
		{"[snapshotters.x]\ntype = \"btrfs\"\nverity = true", "snapshotters.x.verity: it is of erofs alone"},
		{"[snapshotters.x]\ntype = \"devmapper\"", `snapshotters.x.pool: it is the name of a thin pool`},
		{"[cgroup]\ndriver = \"x\"", `cgroup.driver: "x" is not cgroupfs or systemd or none`},
		{"name = \"a/b\"", `name: "a/b": use letters`},
		{"state = \"/var/lib/minid\"", `state: it is the root directory`},
		{"address = \"/" + strings.Repeat("x", 108) + "\"", `the kernel's limit`},
		{"[tracing]\nsampling = 2.0", `tracing.sampling`},
		{"[registry]\nmax_concurrent_downloads = 0", `registry.max_concurrent_downloads: 0 is not`},
		{"[runtimes.x]", `runtimes.x.path: it is empty`},
		{"[runtimes.x]\ninherit_default_runtime = true\npath = \"/x\"", `runtimes.x.inherit_default_runtime: path and args`},
		{"[default_runtime]\ninherit_default_runtime = true", `it is the default runtime`},
		{"[default_runtime]\nallowed_annotations = [\"x\"]", `userns-mode.crio.io`},
		{"[default_runtime]\nexec_cpu_affinity = \"last\"", `default_runtime.exec_cpu_affinity: "last" is not first`},
		{"[default_runtime]\nbase_runtime_spec = \"/no/such\"", `default_runtime.base_runtime_spec: /no/such isn't on this host`},
		{"[default_runtime]\nprivileged_without_host_devices_all_devices_allowed = true", `it needs privileged_without_host_devices`},
		{"[default_runtime]\ncontainer_create_timeout = \"1ms\"", `less than a second`},
		{"[cri]\ndefault_capabilities = [\"FLY\"]", `default capability "FLY"`},
		{"[cri]\ndefault_sysctls = [\"kernel.panic=1\"]", `belongs to no namespace`},
		{"[cri]\ndefault_ulimits = [\"nofile\"]", `is not NAME=SOFT`},
		{"[cri]\ndefault_ulimits = [\"files=1\"]", `isn't a limit`},
		{"[cri]\ndefault_env = [\"=x\"]", `is not KEY=VALUE`},
		{"[cri]\nuserns_range = \"0:10\"", `is not FIRST:COUNT`},
		{"[cri]\nadditional_devices = [\"/etc/passwd\"]", `both below /dev`},
		{"[cri]\nmax_container_log_line_size = 0", `is not between 1 and 524288`},
		{"[cri]\nshared_cpuset = \"a\"", `cri.shared_cpuset`},
		{"[cri]\nunset_seccomp_profile = \"x\"", `cri.unset_seccomp_profile: "x" is not an absolute path`},
		{"[cri.workloads.x]", `cri.workloads.x.activation_annotation: it is empty`},
		{"[cri.workloads.x]\nactivation_annotation = \"a\"\n[cri.workloads.x.resources]\ncpushares = 1", `cpushares 1`},
		{"[cri.workloads.x]\nactivaton_annotation = \"a\"", `did you mean "cri.workloads.*.activation_annotation"`},
		{"[api]\ntcp = \"2376\"\ninsecure = true", `api.tcp: "2376" is not HOST:PORT`},
		{"[api]\ntcp = \"127.0.0.1:2376\"", `without api.tls_cert, api.tls_key, api.tls_ca everybody who reaches 127.0.0.1:2376`},
		{"[api]\ntcp = \"0.0.0.0:2376\"\ntls_cert = \"/c\"\ntls_key = \"/k\"", `without api.tls_ca everybody`},
		{"[api]\ntcp = \"0.0.0.0:2375\"\ninsecure = true", `api.insecure: "0.0.0.0:2375" is not a loopback address`},
		{"[api]\ntcp = \":2375\"\ninsecure = true", `not a loopback address`},
		{"[api]\ntcp = \"127.0.0.1:2375\"\ninsecure = true\ntls_ca = \"/c\"", `api.insecure: api.tls_ca are for TLS`},
		{"[api]\ntls_ca = \"ca.pem\"", `api.tls_ca: "ca.pem" is not an absolute path`},
	} {
		_, err := load(t, tc.text, Overrides{})
		if err == nil || !strings.Contains(err.Error(), tc.want) || !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q:\n got %v\nwant …%s…", tc.text, err, tc.want)
		}
	}
}

func TestSize(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "7": 7, "7B": 7, "2K": 2048, "2KiB": 2048, "2kb": 2000, "16 MiB": 16 << 20, "1GB": 1e9, "3t": 3 << 40} {
		var s Size
		if err := s.UnmarshalText([]byte(in)); err != nil || int64(s) != want {
			t.Errorf("%q is %d, %v; want %d", in, s, err, want)
		}
	}
	for _, bad := range []string{"", "KiB", "-1", "1.5M", "1KX", "1iB", "9999999999T", "1 2"} {
		var s Size
		if err := s.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is %d", bad, s)
		}
	}
}

func TestReload(t *testing.T) {
	now, err := load(t, "", Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	next := now
	next.LogLevel, next.GC.Interval, next.Registry.ConfigPath = "debug", 7, "/certs"
	next.Root, next.Metrics.Address, next.Runtimes = "/other", "/x", map[string]Runtime{"a": {Path: "/a"}}
	changed, restart := differences(now, next)
	if want := []string{"log_level", "registry.config_path", "runtimes", "gc.interval"}; !slices.Equal(changed, want) {
		t.Errorf("changed: %v, want %v", changed, want)
	}
	if want := []string{"root", "metrics.address"}; !slices.Equal(restart, want) {
		t.Errorf("need a restart: %v, want %v", restart, want)
	}
	merged := merge(now, next)
	if merged.LogLevel != "debug" || merged.GC.Interval != 7 || merged.Root != now.Root || merged.Metrics.Address != "" {
		t.Errorf("merged: %+v", merged)
	}
	if c, r := differences(merged, now); len(r) != 0 || len(c) != 4 {
		t.Errorf("after the merge: %v %v", c, r)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Default().String())
	f.Add("[runtimes.x]\npath=1")
	f.Add("[log]\nmax_size=\"1MiB\"\n[gc]\ninterval=\"1h\"")
	f.Add("a.b.c=1\n[runtimes]\nx=2")
	f.Fuzz(func(t *testing.T, text string) {
		c := Default()
		if Parse([]byte(text), &c) != nil {
			return
		}
		c.derive()
		if c.check() != nil {
			return
		}
		again := Config{}
		if err := Parse([]byte(c.String()), &again); err != nil {
			t.Fatalf("what was read cannot be written and read again: %v\n%s", err, c)
		}
	})
}

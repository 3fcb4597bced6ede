package scenario_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// handled runs a pod under a runtime handler, with annotations.
func handled(t *testing.T, s *testenv.CRIServer, handler string, annotations map[string]string, changes ...func(*runtimeapi.PodSandboxConfig)) (*testenv.CRIPod, error) {
	t.Helper()
	config := s.PodConfig("pod", append(changes, func(c *runtimeapi.PodSandboxConfig) { c.Annotations = annotations })...)
	check(t, os.MkdirAll(config.LogDirectory, 0o755))
	answer, err := s.Runtime.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: config, RuntimeHandler: handler})
	return &testenv.CRIPod{ID: answer.GetPodSandboxId(), Config: config, CRI: s.CRI.In(t)}, err
}

// mustHandled is handled, where it must succeed.
func mustHandled(t *testing.T, s *testenv.CRIServer, handler string, annotations map[string]string, changes ...func(*runtimeapi.PodSandboxConfig)) *testenv.CRIPod {
	t.Helper()
	pod, err := handled(t, s, handler, annotations, changes...)
	check(t, err)
	t.Cleanup(func() { check(t, s.RemovePod(context.Background(), pod.ID)) })
	return pod
}

// sleeper is the configuration of a container that waits.
func sleeper(changes ...func(*runtimeapi.ContainerConfig)) *runtimeapi.ContainerConfig {
	config := testenv.ContainerConfig("main", testenv.SuiteBusybox, "sleep", "600")
	for _, change := range changes {
		change(config)
	}
	return config
}

// started creates and starts a container.
func started(pod *testenv.CRIPod, config *runtimeapi.ContainerConfig) string {
	id := pod.Create(config)
	pod.CRI.Start(id)
	return id
}

// refusedContainer is the error of a container that is not to be made.
func refusedContainer(t *testing.T, pod *testenv.CRIPod, config *runtimeapi.ContainerConfig) error {
	t.Helper()
	_, err := pod.CRI.Runtime.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: pod.ID, Config: config, SandboxConfig: pod.Config})
	return err
}

// bundleOf is the runtime-spec document of a container, as the CRI shows it to who asks for details.
func bundleOf(t *testing.T, c *testenv.CRI, id string) *specs.Spec {
	t.Helper()
	answer, err := c.Runtime.ContainerStatus(t.Context(), &runtimeapi.ContainerStatusRequest{ContainerId: id, Verbose: true})
	check(t, err)
	var info struct{ RuntimeSpec *specs.Spec }
	check(t, json.Unmarshal([]byte(answer.Info["info"]), &info))
	if info.RuntimeSpec == nil {
		t.Fatalf("the details have no document: %v", answer.Info)
	}
	return info.RuntimeSpec
}

// write makes a file of the test.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(t, os.WriteFile(path, []byte(text), 0o644))
	return path
}

// noMkdir is a profile that refuses one system call.
const noMkdir = `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}`

// TestCRIRowsDefaults: what the configuration gives to pods and containers that say nothing, and a reload of it.
func TestCRIRowsDefaults(t *testing.T) {
	dir := testenv.Dir(t)
	profile := write(t, dir, "no-mkdir.json", noMkdir)
	s := testenv.StartCRI(t, testenv.CRIOptions{Runtime: "minid", Config: fmt.Sprintf(`[cri]
default_capabilities = ["CHOWN", "NET_RAW", "KILL"]
add_inheritable_capabilities = true
default_sysctls = ["net.ipv4.ip_default_ttl=77"]
default_ulimits = ["nofile=123:456"]
default_env = ["FROM=config", "PATH=/bin:/from/config"]
enable_unprivileged_ports = false
unset_seccomp_profile = "runtime/default"
seccomp_profile = %q
privileged_seccomp_profile = %q
device_ownership_from_security_context = true
additional_devices = ["/dev/null:/dev/added:rw"]
pids_limit = 37
max_container_log_line_size = 10
log_size_max = "8KiB"
absent_mount_sources_to_reject = ["/no/such/source"]
timezone = "Local"
min_injected_gomaxprocs = 3
disable_hugetlb_controller = true
disable_hostport_mapping = true
included_pod_metrics = ["memory"]
`, profile, profile)})
	pod := mustHandled(t, s, "", nil)
	c := s.CRI.In(t)
	id := started(pod, sleeper(func(c *runtimeapi.ContainerConfig) {
		c.Devices = []*runtimeapi.Device{{HostPath: "/dev/full", ContainerPath: "/dev/owned", Permissions: "rw"}}
		c.Linux.SecurityContext.RunAsUser, c.Linux.SecurityContext.RunAsGroup = &runtimeapi.Int64Value{Value: 1000}, &runtimeapi.Int64Value{Value: 2000}
		c.Linux.Resources.HugepageLimits = []*runtimeapi.HugepageLimit{{PageSize: "2MB", Limit: 2 << 20}}
	}))
	for _, row := range []struct{ script, want string }{
		{"grep CapBnd /proc/self/status", "CapBnd:\t0000000000002021"},
		{"grep CapInh /proc/self/status", "CapInh:\t0000000000002021"},
		{"cat /proc/sys/net/ipv4/ip_default_ttl", "77"},
		{"cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "1024"},
		{"cat /proc/sys/net/ipv4/ping_group_range", "0\t2147483647"},
		{"ulimit -n; ulimit -Hn", "123\n456"},
		{"echo $FROM", "config"},
		{"stat -c %u:%g /dev/owned", "1000:2000"},
		{"stat -c %t:%T /dev/added", "1:3"},
		{"mkdir /tmp/x 2>&1 || true", "mkdir: can't create directory '/tmp/x': Operation not permitted"},
		{"cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max", "37"},
		{"mount | grep -c ' on /etc/localtime '", "1"},
	} {
		if got := strings.TrimSpace(c.Exec(id, "sh", "-c", row.script)); got != row.want {
			t.Errorf("%s: %q, want %q", row.script, got, row.want)
		}
	}

	logged := pod.Run("logger", "sh", "-c", "echo 0123456789abcde; head -c 400000 /dev/zero | tr '\\0' x; echo; echo end")
	c.WaitExit(logged)
	text := pod.Log("logger")
	if !strings.Contains(text, " end\n") || len(text) > 512<<10 { // of 1,2 MB; a chunk that is read at once is not cut
		t.Errorf("a log of %d bytes: …%.100q", len(text), text[max(0, len(text)-100):])
	}
	for line := range strings.Lines(text) {
		if words := strings.SplitN(line, " ", 4); len(words) == 4 && len(words[3]) > 11 {
			t.Errorf("a line of more than 10 bytes: %q", line)
		}
	}
	privileged := mustHandled(t, s, "", nil, func(c *runtimeapi.PodSandboxConfig) { c.Linux.SecurityContext.Privileged = true })
	id = started(privileged, sleeper(func(c *runtimeapi.ContainerConfig) { c.Linux.SecurityContext.Privileged = true }))
	if got := c.Exec(id, "sh", "-c", "mkdir /tmp/x 2>&1 || true"); !strings.Contains(got, "not permitted") {
		t.Errorf("a privileged container has no profile: %q", got)
	}
	config := sleeper(func(c *runtimeapi.ContainerConfig) {
		c.Metadata.Name = "absent"
		c.Mounts = []*runtimeapi.Mount{{HostPath: "/no/such/source", ContainerPath: "/x"}}
	})
	if err := refusedContainer(t, pod, config); err == nil || !strings.Contains(err.Error(), "/no/such/source") {
		t.Errorf("a source that must not be made: %v", err)
	}
	if _, err := os.Stat("/no/such/source"); err == nil {
		t.Error("/no/such/source is made")
	}
	burstable := mustHandled(t, s, "", nil, func(c *runtimeapi.PodSandboxConfig) {
		c.Linux.CgroupParent = filepath.Join("/", s.Daemon.Name, "burstable", "pod")
	})
	id = started(burstable, sleeper(func(c *runtimeapi.ContainerConfig) { c.Linux.Resources.CpuShares = 2048 }))
	if got := strings.TrimSpace(c.Exec(id, "sh", "-c", "echo $GOMAXPROCS")); got != "4" {
		t.Errorf("GOMAXPROCS is %q", got)
	}
	metrics, err := s.Runtime.ListPodSandboxMetrics(t.Context(), &runtimeapi.ListPodSandboxMetricsRequest{})
	check(t, err)
	for _, p := range metrics.PodMetrics {
		for _, one := range p.ContainerMetrics {
			for _, m := range one.Metrics {
				if !strings.HasPrefix(m.Name, "container_memory") && m.Name != "container_last_seen" && m.Name != "container_start_time_seconds" {
					t.Errorf("a metric of a group that is left out: %s", m.Name)
				}
			}
		}
	}
	reload(t, s, "default_env = [\"FROM=config\"", "default_env = [\"FROM=reload\"")
	again := mustHandled(t, s, "", nil)
	if got := strings.TrimSpace(c.Exec(started(again, sleeper()), "sh", "-c", "echo $FROM")); got != "reload" {
		t.Errorf("after the reload a container has %q", got)
	}
}

// reload changes the daemon's configuration and has it read again.
func reload(t *testing.T, s *testenv.CRIServer, old, now string) {
	t.Helper()
	data, err := os.ReadFile(s.Daemon.Config)
	check(t, err)
	if !strings.Contains(string(data), old) {
		t.Fatalf("the configuration has no %s", old)
	}
	check(t, os.WriteFile(s.Daemon.Config, []byte(strings.Replace(string(data), old, now, 1)), 0o644))
	reloads := strings.Count(s.Daemon.Log(), "configuration reloaded")
	check(t, syscall.Kill(s.Daemon.PID(), syscall.SIGHUP))
	testenv.Eventually(t, 10*time.Second, "the configuration is reloaded", func() bool {
		return strings.Count(s.Daemon.Log(), "configuration reloaded") > reloads
	})
}

// TestCRIRowsHandlers: what is said of one runtime handler, and the annotations that it allows.
func TestCRIRowsHandlers(t *testing.T) {
	dir := testenv.Dir(t)
	profile := write(t, dir, "no-mkdir.json", noMkdir)
	base := write(t, dir, "base.json", `{"process":{"rlimits":[{"type":"RLIMIT_NOFILE","soft":55,"hard":55}]},"mounts":[{"destination":"/base","type":"tmpfs","source":"tmpfs","options":["size=1m"]}]}`)
	classes := write(t, dir, "classes.yaml", "Classes:\n  slow:\n  - Weight: 20\n")
	s := testenv.StartCRI(t, testenv.CRIOptions{Runtime: "minid", Config: fmt.Sprintf(`[cri]
userns_range = "400000:131072"
blockio_config_file = %q
[cri.workloads.management]
activation_annotation = "target.workload.example/management"
annotation_prefix = "resources.workload.example"
[cri.workloads.management.resources]
cpushares = 500
cpuset = "0"
[runtimes.strict]
inherit_default_runtime = true
seccomp_profile = %q
base_runtime_spec = %q
container_min_memory = "32MiB"
default_annotations = {"by.default/a" = "1", "by.default/b" = "2"}
container_annotations = ["keep.*"]
snapshotter = "native"
container_create_timeout = "30s"
privileged_without_host_devices = true
privileged_without_host_devices_all_devices_allowed = true
[runtimes.more]
inherit_default_runtime = true
allowed_annotations = ["umask.crio.io", "io.kubernetes.cri-o.Devices", "shm-size.crio.io", "userns-mode.crio.io"]
`, classes, profile, base)})
	c := s.CRI.In(t)

	strict := mustHandled(t, s, "strict", map[string]string{"by.default/b": "pod"}, func(c *runtimeapi.PodSandboxConfig) { c.Linux.SecurityContext.Privileged = true })
	id := started(strict, sleeper(func(c *runtimeapi.ContainerConfig) {
		c.Annotations = map[string]string{"keep.it": "yes", "drop.it": "no"}
		c.Linux.SecurityContext.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
	}))
	for _, row := range []struct{ script, want string }{
		{"mkdir /tmp/x 2>&1 || true", "mkdir: can't create directory '/tmp/x': Operation not permitted"},
		{"ulimit -n; mount | grep -c ' on /base '", "55\n1"},
	} {
		if got := strings.TrimSpace(c.Exec(id, "sh", "-c", row.script)); got != row.want {
			t.Errorf("%s: %q, want %q", row.script, got, row.want)
		}
	}
	a := bundleOf(t, c, id).Annotations
	if a["by.default/a"] != "1" || a["by.default/b"] != "pod" || a["keep.it"] != "yes" || a["drop.it"] != "" {
		t.Errorf("annotations of the document: %v", a)
	}
	small := sleeper(func(c *runtimeapi.ContainerConfig) {
		c.Metadata.Name = "small"
		c.Linux.Resources.MemoryLimitInBytes = 16 << 20
	})
	declined(t, "little memory", refusedContainer(t, strict, small), codes.InvalidArgument, "33554432")
	id = started(strict, sleeper(func(c *runtimeapi.ContainerConfig) {
		c.Metadata.Name, c.Linux.SecurityContext.Privileged = "privileged", true
	}))
	if got := c.Exec(id, "sh", "-c", "ls /dev/loop0 /dev/kmsg 2>&1 | grep -c 'No such'; mknod /dev/mine c 1 5 && head -c 1 /dev/mine | wc -c"); strings.TrimSpace(got) != "2\n1" {
		t.Errorf("devices of a privileged container without those of the host: %q", got)
	}

	more := mustHandled(t, s, "more", map[string]string{
		"umask.crio.io": "027", "io.kubernetes.cri-o.Devices": "/dev/fuse:/dev/annotated:rw", "shm-size.crio.io": "3Mi", "userns-mode.crio.io": "auto:size=4096",
	})
	id = started(more, sleeper())
	if got := c.Exec(id, "sh", "-c", "grep Umask /proc/1/status; ls /dev/annotated; df -k /dev/shm | tail -1 | awk '{print $2}'; cat /proc/self/uid_map"); strings.Join(strings.Fields(got), " ") != "Umask: 0027 /dev/annotated 3072 0 400000 4096" {
		t.Errorf("annotations: %q", got)
	}
	second := mustHandled(t, s, "more", map[string]string{"userns-mode.crio.io": "auto"})
	if got := strings.Fields(c.Exec(started(second, sleeper()), "cat", "/proc/self/uid_map")); strings.Join(got, " ") != "0 404096 65536" {
		t.Errorf("the second user namespace: %v", got)
	}
	_, err := handled(t, s, "more", map[string]string{"userns-mode.crio.io": "auto"})
	declined(t, "no ids left", err, codes.FailedPrecondition, "cri.userns_range")
	_, err = handled(t, s, "more", map[string]string{"userns-mode.crio.io": "magic"})
	declined(t, "an unknown mode", err, codes.InvalidArgument, "keep-id")
	other := mustHandled(t, s, "more", map[string]string{"devices.crio.io": "/dev/kmsg"})
	declined(t, "a device that is not allowed", refusedContainer(t, other, sleeper()), codes.InvalidArgument, "cri.allowed_devices")
	plain := mustHandled(t, s, "", map[string]string{"umask.crio.io": "027", "devices.crio.io": "/dev/kmsg"})
	if got := strings.Fields(c.Exec(started(plain, sleeper()), "grep", "Umask", "/proc/1/status")); got[1] != "0022" {
		t.Errorf("an annotation that is not allowed: %v", got)
	}

	slow := mustHandled(t, s, "", map[string]string{"blockio.resources.beta.kubernetes.io/pod": "slow", "blockio.resources.beta.kubernetes.io/container.fast": "fast"})
	weight := func(name string) uint16 {
		t.Helper()
		id := slow.Create(sleeper(func(c *runtimeapi.ContainerConfig) { c.Metadata.Name = name }))
		return *bundleOf(t, c, id).Linux.Resources.BlockIO.Weight
	}
	if got := weight("main"); got != 20 {
		t.Errorf("the weight of the class is %d", got)
	}
	fast := sleeper(func(c *runtimeapi.ContainerConfig) { c.Metadata.Name = "fast" })
	declined(t, "an unknown class", refusedContainer(t, slow, fast), codes.InvalidArgument, "fast", "slow")
	check(t, os.WriteFile(classes, []byte("Classes:\n  slow:\n  - Weight: 30\n"), 0o644))
	reload(t, s, "cpushares = 500", "cpushares = 500")
	if got := weight("after"); got != 30 {
		t.Errorf("the weight of the class after a reload is %d", got)
	}
	gold := sleeper(func(c *runtimeapi.ContainerConfig) {
		c.Metadata.Name, c.Annotations = "gold", map[string]string{"io.kubernetes.cri.rdt-class": "gold"}
	})
	declined(t, "a class of RDT", refusedContainer(t, slow, gold), codes.FailedPrecondition, "cri.rdt_config_file")

	work := mustHandled(t, s, "", map[string]string{"target.workload.example/management": "x", "resources.workload.example/main": `{"cpushares": 777}`})
	id = started(work, sleeper(func(c *runtimeapi.ContainerConfig) { c.Linux.Resources.CpuShares = 100 }))
	if cpu := bundleOf(t, c, id).Linux.Resources.CPU; *cpu.Shares != 777 || cpu.Cpus != "0" {
		t.Errorf("processors of a workload's container: %+v", cpu)
	}
}

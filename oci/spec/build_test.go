package spec

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// fullHost is a host that can do everything.
func fullHost() Host {
	return Host{
		Kernel: "6.18.0", Hostname: "node1", CgroupMode: "v2", CgroupDriver: "cgroupfs",
		Controllers: []string{"cpu", "cpuset", "memory", "io", "pids", "hugetlb", "rdma"}, CPUs: "0-1", MemoryNodes: "0",
		PageSizes: []string{"2MB", "1GB"}, AppArmor: true, SELinux: true, IntelRdt: true,
		Capabilities: knownCapabilities(), SysResource: true, MaxOpenFiles: 1 << 20,
	}
}

func accounts() fstest.MapFS {
	return fstest.MapFS{
		"etc/passwd": {Data: []byte("root:x:0:0:root:/root:/bin/sh\n# comment\napp:x:1000:1001::/home/app:/bin/sh\n1005:x:7:8::/seven:\nnohome:x:9:9::\n+nis\n")},
		"etc/group":  {Data: []byte("root:x:0:\napp:x:1001:\nextra:x:2000:other,app\nmore:x:2001:app\ndocker:x:999:\n")},
	}
}

// input is a request on the full host.
func input(r Request) Input {
	if r.Args == nil {
		r.Args = []string{"sh"}
	}
	return Input{
		ID: "c1", Request: r, Host: fullHost(), Files: accounts(),
		NamespacePaths: func(container, kind string) (string, error) {
			if container != "other" {
				return "", errdefs.ErrNotFound
			}
			return "/proc/7/ns/" + kind, nil
		},
		Devices: func(p string) ([]specs.LinuxDevice, error) {
			switch p {
			case "/dev/fuse":
				return []specs.LinuxDevice{{Path: p, Type: "c", Major: 10, Minor: 229}}, nil
			case "/dev/snd", "/dev":
				return []specs.LinuxDevice{{Path: p + "/a", Type: "c", Major: 1, Minor: 1}, {Path: p + "/x/b", Type: "b", Major: 2, Minor: 2}}, nil
			}
			return nil, errdefs.ErrNotFound
		},
	}
}

func build(t *testing.T, r Request) *specs.Spec {
	t.Helper()
	s, warnings, err := Build(input(r))
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) > 0 {
		t.Fatalf("warnings: %q", warnings)
	}
	return s
}

// TestBuild looks at one part of the document for one part of the request.
func TestBuild(t *testing.T) {
	entry := []string{"/init"}
	for name, c := range map[string]struct {
		request Request
		part    func(*specs.Spec) any
		want    any
	}{
		"entrypoint":          {Request{Entrypoint: &entry, Args: []string{"a"}}, func(s *specs.Spec) any { return s.Process.Args }, []string{"/init", "a"}},
		"cwd":                 {Request{Cwd: "/a/../b/"}, func(s *specs.Spec) any { return s.Process.Cwd }, "/b"},
		"hostname":            {Request{}, func(s *specs.Spec) any { return s.Hostname }, "c1"},
		"hostname of host":    {Request{Namespaces: map[string]string{"uts": "host"}, Hostname: "node1"}, func(s *specs.Spec) any { return s.Hostname }, ""},
		"user by name":        {Request{User: "app"}, func(s *specs.Spec) any { return s.Process.User }, specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{1001, 2000, 2001}}},
		"user by number":      {Request{User: "1000"}, func(s *specs.Spec) any { return s.Process.User }, specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{1001, 2000, 2001}}},
		"user called 1005":    {Request{User: "1005"}, func(s *specs.Spec) any { return s.Process.User.UID }, uint32(7)},
		"user unknown number": {Request{User: "4000000000"}, func(s *specs.Spec) any { return s.Process.User }, specs.User{UID: 4000000000, AdditionalGids: []uint32{0}}},
		"user and group":      {Request{User: "app:docker"}, func(s *specs.Spec) any { return s.Process.User }, specs.User{UID: 1000, GID: 999, AdditionalGids: []uint32{999}}},
		"groups":              {Request{User: "app", Groups: []string{"docker", "5"}}, func(s *specs.Spec) any { return s.Process.User.AdditionalGids }, []uint32{5, 999, 1001, 2000, 2001}},
		"groups merge":        {Request{User: "app:7", GroupPolicy: "merge", Groups: []string{"5"}}, func(s *specs.Spec) any { return s.Process.User.AdditionalGids }, []uint32{5, 7, 2000, 2001}},
		"groups strict":       {Request{User: "app", GroupPolicy: "strict", Groups: []string{"5"}}, func(s *specs.Spec) any { return s.Process.User.AdditionalGids }, []uint32{5, 1001}},
		"home":                {Request{User: "app"}, env("HOME"), "HOME=/home/app"},
		"home removed":        {Request{User: "app", Env: []string{"HOME"}}, env("HOME"), ""},
		"path":                {Request{}, env("PATH"), defaultPath},
		"term":                {Request{Terminal: true}, env("TERM"), "TERM=xterm"},
		"no term":             {Request{}, env("TERM"), ""},
		"hostname variable":   {Request{Hostname: "h"}, env("HOSTNAME"), "HOSTNAME=h"},
		"namespaces":          {Request{}, namespaces, "pid ipc uts mount network cgroup"},
		"namespaces joined": {Request{Namespaces: map[string]string{"net": "path:/run/n", "ipc": "container:other", "pid": "host", "cgroup": "host"}},
			namespaces, "ipc=/proc/7/ns/ipc uts mount network=/run/n"},
		"user namespace": {Request{UIDMap: id100k(), GIDMap: id100k()}, namespaces, "user pid ipc uts mount network cgroup"},
		"time namespace": {Request{TimeOffsets: map[string]specs.LinuxTimeOffset{"boottime": {Secs: 5}}}, namespaces, "pid ipc uts mount network cgroup time"},
		"mounts":         {Request{}, mountTargets, "/proc /dev /dev/pts /dev/shm /dev/mqueue /sys /sys/fs/cgroup"},
		"mounts ordered": {Request{Mounts: []Mount{{Type: "bind", Source: "/a", Target: "/x/y"}, {Type: "bind", Source: "/b", Target: "/x"}}, Tmpfs: map[string]string{"/x/y/z": ""}},
			mountTargets, "/proc /dev /dev/pts /dev/shm /dev/mqueue /sys /sys/fs/cgroup /x /x/y /x/y/z"},
		"mounts replaced": {Request{Mounts: []Mount{{Type: "bind", Source: "/dev", Target: "/dev/"}, {Type: "proc", Target: "/proc"}}}, mountTargets, "/sys /sys/fs/cgroup /dev /proc"},
		"no mounts":       {Request{NoDefaultMounts: true}, mountTargets, ""},
		"shm size":        {Request{ShmSize: 1 << 20}, mountOf("/dev/shm"), "tmpfs shm nosuid,noexec,nodev,mode=1777,size=1048576"},
		"no shm":          {Request{NoShm: true}, mountOf("/dev/shm"), ""},
		"writable cgroup": {Request{CgroupWritable: true, Namespaces: map[string]string{"cgroup": "private"}}, mountOf("/sys/fs/cgroup"), "cgroup cgroup nosuid,noexec,nodev,relatime,rw"},
		"shm of the host": {Request{Namespaces: map[string]string{"ipc": "host"}}, mountOf("/dev/shm"), "bind /dev/shm rbind,nosuid,noexec,nodev"},
		"sys read-only":   {Request{}, mountOf("/sys"), "sysfs sysfs nosuid,noexec,nodev,ro"},
		"sys privileged":  {Request{Privileged: true}, mountOf("/sys"), "sysfs sysfs nosuid,noexec,nodev,rw"},
		"sys in a user namespace with the host's network": {Request{UIDMap: id100k(), GIDMap: id100k(), Namespaces: map[string]string{"net": "host"}},
			mountOf("/sys"), "bind /sys rbind,nosuid,noexec,nodev,ro"},
		"pts without group tty": {Request{UIDMap: []specs.LinuxIDMapping{{HostID: 1000, Size: 1}}, GIDMap: []specs.LinuxIDMapping{{HostID: 1000, Size: 1}}},
			mountOf("/dev/pts"), "devpts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620"},
		"tmpfs options": {Request{Tmpfs: map[string]string{"/t": "exec,size=1m"}}, mountOf("/t"), "tmpfs tmpfs nosuid,nodev,exec,size=1m"},
		"bind":          {Request{Mounts: []Mount{{Source: "/a", Target: "/b", Options: []string{"ro"}}}}, mountOf("/b"), "bind /a rbind,ro"},
		"cgroup path":   {Request{}, func(s *specs.Spec) any { return s.Linux.CgroupsPath }, "/minid/default/c1"},
		"cgroup parent": {Request{CgroupParent: "/pods/p1"}, func(s *specs.Spec) any { return s.Linux.CgroupsPath }, "/pods/p1/c1"},
		"device":        {Request{Devices: []Device{{Source: "/dev/fuse", Permissions: "r"}}}, devices, "c10:229=/dev/fuse | -rwm +c10:229r"},
		"device elsewhere": {Request{Devices: []Device{{Source: "/dev/snd", Target: "/dev/audio"}}}, devices,
			"c1:1=/dev/audio/a b2:2=/dev/audio/x/b | -rwm +c1:1rwm +b2:2rwm"},
		"devices privileged":            {Request{Privileged: true}, devices, "c1:1=/dev/a b2:2=/dev/x/b | +rwm"},
		"privileged without host's":     {Request{Privileged: true, PrivilegedWithoutHostDevices: true}, devices, " | -rwm"},
		"capabilities":                  {Request{}, func(s *specs.Spec) any { return len(s.Process.Capabilities.Bounding) }, 14},
		"capabilities tweaked":          {Request{CapDrop: []string{"all"}, CapAdd: []string{"net_admin", "CAP_CHOWN"}}, caps, "CAP_CHOWN CAP_NET_ADMIN | "},
		"capabilities all but":          {Request{CapAdd: []string{"ALL"}, CapDrop: []string{"SYS_ADMIN"}}, func(s *specs.Spec) any { return len(s.Process.Capabilities.Bounding) }, len(knownCapabilities()) - 1},
		"capabilities ambient":          {Request{CapDrop: []string{"ALL"}, CapAdd: []string{"CHOWN"}, CapAmbient: []string{"CHOWN"}}, caps, "CAP_CHOWN | CAP_CHOWN"},
		"no new privileges":             {Request{}, func(s *specs.Spec) any { return s.Process.NoNewPrivileges }, true},
		"new privileges":                {Request{AllowNewPrivileges: true}, func(s *specs.Spec) any { return s.Process.NoNewPrivileges }, false},
		"seccomp unconfined":            {Request{Seccomp: "unconfined"}, func(s *specs.Spec) any { return s.Linux.Seccomp == nil }, true},
		"seccomp privileged":            {Request{Privileged: true}, func(s *specs.Spec) any { return s.Linux.Seccomp == nil }, true},
		"seccomp denies mount":          {Request{}, allows("mount"), false},
		"seccomp follows caps":          {Request{CapAdd: []string{"SYS_ADMIN"}}, allows("mount"), true},
		"seccomp runtime-spec form":     {Request{SeccompProfile: []byte(`{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],"syscalls":[{"names":["mount"],"action":"SCMP_ACT_ALLOW"}]}`)}, allows("mount"), true},
		"seccomp docker's form":         {Request{SeccompProfile: []byte(`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}}]}`)}, allows("mount"), false},
		"apparmor":                      {Request{AppArmor: "localhost/p"}, func(s *specs.Spec) any { return s.Process.ApparmorProfile }, "p"},
		"selinux":                       {Request{SELinuxLabel: "u:r:t:s0"}, func(s *specs.Spec) any { return s.Process.SelinuxLabel }, "u:r:t:s0"},
		"masked":                        {Request{}, func(s *specs.Spec) any { return slices.Contains(s.Linux.MaskedPaths, "/proc/kcore") }, true},
		"masked privileged":             {Request{Privileged: true}, func(s *specs.Spec) any { return len(s.Linux.MaskedPaths) + len(s.Linux.ReadonlyPaths) }, 0},
		"masked chosen":                 {Request{Privileged: true, MaskedPaths: &[]string{"/proc/x"}}, func(s *specs.Spec) any { return s.Linux.MaskedPaths }, []string{"/proc/x"}},
		"sysctl":                        {Request{Sysctls: map[string]string{"net/ipv4/ip_forward": "1"}}, func(s *specs.Spec) any { return s.Linux.Sysctl["net.ipv4.ip_forward"] }, "1"},
		"sysctl with a dotted name":     {Request{Sysctls: map[string]string{"net/ipv4/conf/eth0.1/forwarding": "1"}}, func(s *specs.Spec) any { return s.Linux.Sysctl["net/ipv4/conf/eth0.1/forwarding"] }, "1"},
		"rlimit":                        {Request{Rlimits: []specs.POSIXRlimit{{Type: "nofile", Soft: 1, Hard: 2}}}, func(s *specs.Spec) any { return s.Process.Rlimits }, []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1, Hard: 2}}},
		"hugepages":                     {Request{Resources: &specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2Mi", Limit: 1}}}}, func(s *specs.Spec) any { return s.Linux.Resources.HugepageLimits[0].Pagesize }, "2MB"},
		"unified":                       {Request{Resources: &specs.LinuxResources{Unified: map[string]string{"memory.high": "1"}}}, func(s *specs.Spec) any { return s.Linux.Resources.Unified["memory.high"] }, "1"},
		"pids unlimited":                {Request{Resources: &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64)}}}, func(s *specs.Spec) any { return *s.Linux.Resources.Pids.Limit }, int64(-1)},
		"rdt":                           {Request{RDTClass: "gold"}, func(s *specs.Spec) any { return s.Linux.IntelRdt.ClosID }, "gold"},
		"net devices":                   {Request{NetDevices: map[string]specs.LinuxNetDevice{"eth1": {Name: "data0"}}}, func(s *specs.Spec) any { return s.Linux.NetDevices["eth1"].Name }, "data0"},
		"memory policy":                 {Request{MemoryPolicy: &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0"}}, func(s *specs.Spec) any { return s.Linux.MemoryPolicy.Nodes }, "0"},
		"hostname variable of the host": {Request{Namespaces: map[string]string{"uts": "host"}}, env("HOSTNAME"), "HOSTNAME=node1"},
		"shared mounts":                 {Request{Mounts: []Mount{{Source: "/a", Target: "/b", Options: []string{"rbind", "rshared"}}}}, func(s *specs.Spec) any { return s.Linux.RootfsPropagation }, "rshared"},
		"personality":                   {Request{Personality: "LINUX32"}, func(s *specs.Spec) any { return s.Linux.Personality.Domain }, specs.PerLinux32},
		"patch":                         {Request{Patch: []byte(`{"hostname":null,"process":{"cwd":"/p"},"linux":{"resources":{"memory":{"limit":9223372036854775807}}}}`)}, func(s *specs.Spec) any { return s.Hostname + s.Process.Cwd + show(*s.Linux.Resources.Memory.Limit) }, "/p9223372036854775807"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.part(build(t, c.request)); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// TestRefusals reads the whole sentence a user gets, but for the class.
func TestRefusals(t *testing.T) {
	r := func(r specs.LinuxResources) Request { return Request{Resources: &r} }
	for name, c := range map[string]struct {
		request Request
		change  func(*Host)
		want    string
		class   error
	}{
		"cwd":                {request: Request{Cwd: "a"}, want: `process: working directory "a" is relative: give it from the container's root, like /a`},
		"user":               {request: Request{User: "who"}, want: `user: user "who" isn't in the container's /etc/passwd: use its number, or an image that has it`, class: errdefs.ErrNotFound},
		"user too large":     {request: Request{User: "4294967295"}, want: `user: user "4294967295": numbers go from 0 to 4294967294`},
		"user negative":      {request: Request{User: "-1"}, want: `user: user "-1": numbers go from 0 to 4294967294`},
		"group":              {request: Request{User: "app:who"}, want: `user: group "who" isn't in the container's /etc/group: use its number, or an image that has it`, class: errdefs.ErrNotFound},
		"user not mapped":    {request: Request{User: "1000", UIDMap: []specs.LinuxIDMapping{{HostID: 5, Size: 1}}, GIDMap: []specs.LinuxIDMapping{{HostID: 5, Size: 1}}}, want: "user: user 1000 has no place in the user namespace, whose uid map is 0:5:1: map it, or choose another user"},
		"maps overlap":       {request: Request{UIDMap: []specs.LinuxIDMapping{{HostID: 5, Size: 9}, {ContainerID: 20, HostID: 6, Size: 9}}, GIDMap: id100k()}, want: "namespaces: uid map: 0:5:9 and 20:6:9 overlap"},
		"namespace":          {request: Request{Namespaces: map[string]string{"nat": "host"}}, want: `namespaces: namespace "nat": there are user, pid, ipc, uts, mount, network, cgroup and time`},
		"namespace mode":     {request: Request{Namespaces: map[string]string{"pid": "mine"}}, want: `namespaces: pid namespace "mine": use private, host, container:ID or path:/FILE`},
		"container":          {request: Request{Namespaces: map[string]string{"pid": "container:who"}}, want: "namespaces: pid namespace of container who", class: errdefs.ErrNotFound},
		"no time":            {request: Request{Namespaces: map[string]string{"time": "private"}}, change: func(h *Host) { h.MissingNamespaces = []string{"time"} }, want: "namespaces: time namespace: this kernel (6.18.0) has none", class: errdefs.ErrFailedPrecondition},
		"hostname":           {request: Request{Hostname: "h", Namespaces: map[string]string{"uts": "host"}}, want: `hostname: hostname "h": the container shares the host's UTS namespace and would rename the host; leave one of the two out`},
		"sysctl":             {request: Request{Sysctls: map[string]string{"net.ipv4.ip_forward": "1"}, Namespaces: map[string]string{"net": "host"}}, want: "sysctls: sysctl net.ipv4.ip_forward: the container shares the host's network namespace, and the host would change: give it its own, or set it on the host"},
		"sysctl global":      {request: Request{Sysctls: map[string]string{"vm.swappiness": "1"}}, want: "sysctls: sysctl vm.swappiness belongs to no namespace and would change the host: set it there"},
		"mount target":       {request: Request{Mounts: []Mount{{Type: "bind", Source: "/a", Target: "b"}}}, want: `mounts: mount "b": the target must be absolute, like /data`},
		"mount source":       {request: Request{Mounts: []Mount{{Type: "bind", Source: "a", Target: "/b"}}}, want: `mounts: mount /b: the source "a" of a bind must be an absolute path of the host`},
		"mount ro rw":        {request: Request{Mounts: []Mount{{Source: "/a", Target: "/b", Options: []string{"ro", "rw"}}}}, want: "mounts: mount /b: options ro and rw contradict each other"},
		"rro":                {request: Request{Mounts: []Mount{{Source: "/a", Target: "/b", Options: []string{"rro"}}}}, change: func(h *Host) { h.Kernel = "5.10.0" }, want: "mounts: mount /b: option rro needs Linux 5.12, and this is 5.10.0", class: errdefs.ErrFailedPrecondition},
		"idmap":              {request: Request{Mounts: []Mount{{Source: "/a", Target: "/b", Options: []string{"idmap"}}}}, want: "mounts: mount /b: idmap without maps takes the container's user namespace, and it has none; give maps"},
		"cpuset":             {request: r(specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "5"}}), want: "resources: cpuset 5: this machine has cpus 0-1"},
		"cpuset nonsense":    {request: r(specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "1-"}}), want: `resources: cpuset "1-": "1-" isn't a range; write it like 0-3,5`},
		"memory":             {request: r(specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(4096))}}), want: "resources: memory 4096 bytes: the least is 6 MiB (6291456), what a container needs to start"},
		"swap alone":         {request: r(specs.LinuxResources{Memory: &specs.LinuxMemory{Swap: new(int64(4096))}}), want: "resources: memory swap 4096: it is the sum of memory and swap, so it needs a memory limit"},
		"no pids":            {request: r(specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64(5))}}), change: func(h *Host) { h.Controllers = []string{"cpu"} }, want: "resources: the pids controller isn't mounted on this host: leave its limits out, or mount it", class: errdefs.ErrFailedPrecondition},
		"shares":             {request: r(specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: new(uint64(1))}}), want: "resources: cpu shares 1: they go from 2 to 262144, and 1024 is the default"},
		"quota":              {request: r(specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: new(int64(10))}}), want: "resources: cpu quota 10: the least is 1000 microseconds in a period, 0.01 of a cpu"},
		"blkio":              {request: r(specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: new(uint16(5))}}), want: "resources: blkio weight 5: it goes from 10 to 1000"},
		"hugepages":          {request: r(specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "16GB"}}}), want: "resources: hugepage size 16GB: this machine has 2MB, 1GB"},
		"unified on v1":      {request: r(specs.LinuxResources{Unified: map[string]string{"memory.high": "1"}}), change: func(h *Host) { h.CgroupMode = "hybrid" }, want: "resources: unified limits are files of cgroup v2, and this host's layout is hybrid: use the named limits", class: errdefs.ErrFailedPrecondition},
		"cgroup parent":      {request: Request{CgroupParent: "x"}, change: func(h *Host) { h.CgroupDriver = "systemd" }, want: `cgroup: cgroup parent "x": the systemd driver needs a slice, like machine.slice`},
		"device":             {request: Request{Devices: []Device{{Source: "fuse"}}}, want: `devices: device "fuse": the source must be an absolute path of the host, like /dev/fuse`},
		"device access":      {request: Request{Devices: []Device{{Source: "/dev/fuse", Permissions: "x"}}}, want: `devices: device /dev/fuse: permissions "x": use letters of rwm (read, write, mknod)`},
		"capability":         {request: Request{CapAdd: []string{"FLY"}}, want: `capabilities: cap-add "FLY": no such capability; see capabilities(7), for example NET_ADMIN`},
		"ambient":            {request: Request{CapAmbient: []string{"SYS_ADMIN"}}, want: "capabilities: ambient capability CAP_SYS_ADMIN isn't granted: add it with cap-add too"},
		"apparmor":           {request: Request{AppArmor: "p"}, change: func(h *Host) { h.AppArmor = false }, want: `security: apparmor profile "p": AppArmor isn't enabled on this host; leave the profile out`, class: errdefs.ErrFailedPrecondition},
		"selinux":            {request: Request{SELinuxLabel: "a:b:c"}, change: func(h *Host) { h.SELinux = false }, want: `security: selinux label "a:b:c": SELinux isn't enabled on this host; leave the label out`, class: errdefs.ErrFailedPrecondition},
		"seccomp":            {request: Request{SeccompProfile: []byte(`{"syscalls":[null]}`)}, want: "seccomp: profile has a null in its syscalls"},
		"seccomp empty":      {request: Request{SeccompProfile: []byte(`{}`)}, want: "seccomp: profile has neither defaultAction nor syscalls; use unconfined for no filter"},
		"seccomp action":     {request: Request{SeccompProfile: []byte(`{"defaultAction":"NO"}`)}, want: `seccomp: defaultAction "NO" is unknown: use SCMP_ACT_ERRNO, SCMP_ACT_ALLOW or another of the runtime spec`},
		"seccomp no file":    {request: Request{Seccomp: "/nowhere/p.json"}, want: "seccomp: profile /nowhere/p.json isn't on this host; the other words are default and unconfined", class: errdefs.ErrNotFound},
		"rlimit":             {request: Request{Rlimits: []specs.POSIXRlimit{{Type: "nofile", Soft: 3, Hard: 2}}}, want: "rlimits: RLIMIT_NOFILE: the soft limit 3 is above the hard limit 2"},
		"oom":                {request: Request{OOMScoreAdj: new(2000)}, want: "oom score: 2000: it goes from -1000 (never killed) to 1000 (killed first)"},
		"scheduler":          {request: Request{Scheduler: &specs.Scheduler{Policy: specs.SchedFIFO}}, want: "scheduling: scheduler SCHED_FIFO: priority 0: it goes from 1 to 99"},
		"hook":               {request: Request{Hooks: &specs.Hooks{Poststop: []specs.Hook{{Path: "a"}}}}, want: `hooks: poststop 0: the path "a" must be absolute`},
		"cdi":                {request: Request{CDIDevices: []string{"v/c=d"}}, want: "cdi: devices v/c=d: no CDI directory is configured", class: errdefs.ErrFailedPrecondition},
		"patch":              {request: Request{Patch: []byte(`{"hostnam":"x"}`)}, want: `patch: the patched document isn't a runtime-spec one: json: unknown field "hostnam"`},
		"net device of host": {request: Request{NetDevices: map[string]specs.LinuxNetDevice{"eth1": {}}, Namespaces: map[string]string{"net": "host"}}, want: "network devices: the container shares the host's network and has its interfaces already: leave them out, or give it its own network"},
		"memory policy":      {request: Request{MemoryPolicy: &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "4"}}, want: "memory policy: nodes 4: this machine has memory nodes 0"},
		"patch no object":    {request: Request{Patch: []byte(`[]`)}, want: "patch: the patch must be a JSON object"},
		"time offset":        {request: Request{TimeOffsets: map[string]specs.LinuxTimeOffset{"real": {}}}, want: `namespaces: time offset "real": only the clocks monotonic and boottime can be moved`},
		"no resctrl":         {request: Request{RDTClass: "x"}, change: func(h *Host) { h.IntelRdt = false }, want: "rdt: this host has no resctrl filesystem: mount it at /sys/fs/resctrl if the CPU has RDT, or leave the class out", class: errdefs.ErrFailedPrecondition},
	} {
		t.Run(name, func(t *testing.T) {
			in := input(c.request)
			if c.change != nil {
				c.change(&in.Host)
			}
			if c.class == nil {
				c.class = errdefs.ErrInvalidArgument
			}
			_, _, err := Build(in)
			if err == nil || !errors.Is(err, c.class) || strings.TrimSuffix(err.Error(), ": "+c.class.Error()) != c.want {
				t.Errorf("got  %v\nwant %s: %v", err, c.want, c.class)
			}
		})
	}
}

// TestWarnings: what cannot be had and is no reason to refuse.
func TestWarnings(t *testing.T) {
	poor := fullHost()
	poor.SysResource, poor.NoSeccomp, poor.NoSwapLimit = false, true, true
	poor.Capabilities = slices.DeleteFunc(poor.Capabilities, func(c string) bool { return c == "CAP_SYS_RESOURCE" })
	poor.Rlimits = map[string]specs.POSIXRlimit{"RLIMIT_NOFILE": {Hard: 20000}}
	in := input(Request{
		Rlimits: []specs.POSIXRlimit{{Type: "nofile", Soft: 30000, Hard: unlimited}}, OOMScoreAdj: new(-500), CapAdd: []string{"SYS_RESOURCE"},
		Resources: &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(8 << 20)), Swap: new(int64(16 << 20))}},
	})
	in.Host = poor
	s, warnings, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"memory swap 16777216: this kernel doesn't account swap to cgroups, so only the memory is limited",
		"RLIMIT_NOFILE unlimited: this host may not raise limits (CAP_SYS_RESOURCE is missing), so it is 20000",
		"oom score -500: this host may not lower it below its own (CAP_SYS_RESOURCE is missing), so it is 0",
		"CAP_SYS_RESOURCE can't be granted: this host's own processes don't have it; the container runs without",
		"this kernel has no seccomp filters: the container's system calls are not restricted",
	}
	if !slices.Equal(warnings, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(warnings, "\n"), strings.Join(want, "\n"))
	}
	if l := s.Process.Rlimits[0]; l.Soft != 20000 || l.Hard != 20000 || *s.Process.OOMScoreAdj != 0 || s.Linux.Resources.Memory.Swap != nil {
		t.Errorf("got %+v, %d, %+v", l, *s.Process.OOMScoreAdj, s.Linux.Resources.Memory)
	}
}

// TestSeccompOfRunnableArchitectures: the default profile loses those the kernel has not; a user's stays as it is.
func TestSeccompOfRunnableArchitectures(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("about x86")
	}
	for want, profile := range map[string]string{
		`["SCMP_ARCH_X86_64","SCMP_ARCH_X86"]`: "",
		`["SCMP_ARCH_X86_64","SCMP_ARCH_X32"]`: `{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X32"]}`,
	} {
		in := input(Request{SeccompProfile: []byte(profile)})
		in.Host.NoSeccompArches = []string{"SCMP_ARCH_X32"}
		s, _, err := Build(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := show(s.Linux.Seccomp.Architectures); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestImageDefaults(t *testing.T) {
	in := input(Request{Args: []string{}, Env: []string{"A=2", "B"}})
	in.Image = ocispec.ImageConfig{Entrypoint: []string{"/e"}, Cmd: []string{"c"}, Env: []string{"A=1", "B=1", "PATH=/bin", "ODD"}, User: "app", WorkingDir: "srv"}
	s, _, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Process.Args, []string{"/e", "c"}) || s.Process.Cwd != "/srv" || s.Process.User.UID != 1000 {
		t.Errorf("got %+v", s.Process)
	}
	if want := []string{"PATH=/bin", "HOSTNAME=c1", "A=2", "HOME=/home/app"}; !slices.Equal(s.Process.Env, want) {
		t.Errorf("got %q, want %q", s.Process.Env, want)
	}
}

// TestBuildKeepsItsInput: the same request is built again after a reboot.
func TestBuildKeepsItsInput(t *testing.T) {
	in := input(Request{
		Privileged: true, Namespaces: map[string]string{"net": "host"}, UIDMap: id100k(), GIDMap: id100k(), Patch: []byte(`{"linux":{"uidMappings":[]}}`),
		Resources: &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64)}}, Mounts: []Mount{{Source: "/b/c", Target: "/b/c", Options: []string{"ro"}}, {Source: "/a", Target: "/a"}},
	})
	before, _ := json.Marshal(in.Request)
	first, _, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	if after, _ := json.Marshal(in.Request); string(after) != string(before) {
		t.Errorf("the request changed:\n%s\n%s", before, after)
	}
	if show(first) != show(second) {
		t.Error("the same input made two documents")
	}
}

func TestDefaultDocument(t *testing.T) {
	s, err := Default("linux/arm64")
	if err != nil || s.Process.Args[0] != "sh" || s.Root.Path != "rootfs" {
		t.Errorf("got %s, %v", show(s), err)
	}
	if _, err := Default("windows/amd64"); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("got %v", err)
	}
}

func TestProbeHost(t *testing.T) {
	h := ProbeHost()
	if h.Kernel == "" || h.CPUs == "" || h.CgroupMode == "" || len(h.Capabilities) == 0 && os.Getuid() == 0 || len(h.Rlimits) != 16 {
		t.Errorf("got %s", show(h))
	}
	if h.KernelBefore(3, 0) || !h.KernelBefore(99, 0) {
		t.Errorf("kernel %s", h.Kernel)
	}
	t.Log(show(h))
}

func BenchmarkBuild(b *testing.B) {
	in := input(Request{})
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Build(in); err != nil {
			b.Fatal(err)
		}
	}
}

func id100k() []specs.LinuxIDMapping { return []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}} }

func show(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func env(key string) func(*specs.Spec) any {
	return func(s *specs.Spec) any {
		for _, kv := range s.Process.Env {
			if strings.HasPrefix(kv, key+"=") {
				return kv
			}
		}
		return ""
	}
}

func namespaces(s *specs.Spec) any {
	var parts []string
	for _, ns := range s.Linux.Namespaces {
		part := string(ns.Type)
		if ns.Path != "" {
			part += "=" + ns.Path
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, " ")
}

func mountTargets(s *specs.Spec) any {
	var parts []string
	for _, m := range s.Mounts {
		parts = append(parts, m.Destination)
	}
	return strings.Join(parts, " ")
}

func mountOf(target string) func(*specs.Spec) any {
	return func(s *specs.Spec) any {
		for _, m := range s.Mounts {
			if m.Destination == target {
				return m.Type + " " + m.Source + " " + strings.Join(m.Options, ",")
			}
		}
		return ""
	}
}

func devices(s *specs.Spec) any {
	var nodes, rules []string
	for _, d := range s.Linux.Devices {
		nodes = append(nodes, d.Type+show(d.Major)+":"+show(d.Minor)+"="+d.Path)
	}
	for _, r := range s.Linux.Resources.Devices {
		rule := "-"
		if r.Allow {
			rule = "+"
		}
		if r.Major != nil {
			rule += r.Type + show(*r.Major) + ":" + show(*r.Minor)
		}
		rules = append(rules, rule+r.Access)
	}
	return strings.Join(nodes, " ") + " | " + strings.Join(rules, " ")
}

func caps(s *specs.Spec) any {
	return strings.Join(s.Process.Capabilities.Effective, " ") + " | " + strings.Join(s.Process.Capabilities.Ambient, " ")
}

func allows(call string) func(*specs.Spec) any {
	return func(s *specs.Spec) any {
		return s.Linux.Seccomp != nil && slices.ContainsFunc(s.Linux.Seccomp.Syscalls, func(r specs.LinuxSyscall) bool {
			return r.Action == specs.ActAllow && slices.Contains(r.Names, call) && len(r.Args) == 0
		})
	}
}

// TestRulesHaveNames: errors begin with them.
func TestRulesHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rules() {
		if r.name == "" || seen[r.name] {
			t.Errorf("rule %q has no name of its own (%v)", r.name, slices.Sorted(maps.Keys(seen)))
		}
		seen[r.name] = true
	}
}

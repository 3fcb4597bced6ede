package scenario_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minirt/mini/internal/testenv"
)

// TestNerdFlags gives run its flags and asks the process, or its cgroup, what has become of them.
func TestNerdFlags(t *testing.T) {
	testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	n := newNerd(t, testenv.Daemon(t, testenv.DaemonOptions{}))
	n.do("pull", "-q", r.Ref("busybox"))
	n.do("tag", r.Ref("busybox"), "bb")
	dir := testenv.Dir(t)
	for name, text := range map[string]string{
		"seccomp.json": `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}`,
		"env":          "# remark\nFROM_FILE=yes\n", "labels": "from.file=yes\n",
	} {
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	n.do("run", "-d", "--name=other", "--network=none", "--ipc=shareable", "bb", "sleep", "600")
	for _, kind := range []string{"limits", "security", "namespaces", "process"} {
		t.Run(kind, func(t *testing.T) {
			n := n
			n.t = t
			for _, test := range flagTests(kind, dir, testenv.Binary(t, "minid-supervisor")) {
				args := append([]string{"run", "--rm", "--network=none"}, words(test.flags)...)
				o := n.try(nil, append(args, "bb", "sh", "-c", test.script)...)
				if got := strings.TrimSpace(o.Stdout); o.Code != 0 || got != test.want {
					t.Errorf("%s: %s gives %q, want %q (code %d)\n%s", test.flags, test.script, got, test.want, o.Code, o.Stderr)
				}
			}
		})
	}
	t.Run("refused", func(t *testing.T) { refusedFlags(t, n) })
	t.Run("files", func(t *testing.T) { fileFlags(t, n, dir) })
	t.Run("rootfs", func(t *testing.T) { rootfsFlag(t, n, dir) })
}

type flagTest struct{ flags, script, want string }

func flagTests(kind, dir, program string) []flagTest {
	group := func(controller, file string) string { return "cat /sys/fs/cgroup/" + controller + "/" + file }
	same := func(kind string) string { return "readlink /proc/self/ns/" + kind }
	host := func(kind string) string {
		link, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			return err.Error()
		}
		return link
	}
	hostname, _ := os.Hostname()
	v1 := true
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		v1 = false
	}
	if kind == "limits" && !v1 {
		return []flagTest{
			{"-m 64m", "cat /sys/fs/cgroup/memory.max", "67108864"}, {"--cpus 0.5", "cat /sys/fs/cgroup/cpu.max", "50000 100000"},
			{"--pids-limit 50", "cat /sys/fs/cgroup/pids.max", "50"}, {"--cgroup-conf memory.high=50331648", "cat /sys/fs/cgroup/memory.high", "50331648"},
		}
	}
	return map[string][]flagTest{
		"limits": {
			{"-m 64m --memory-reservation 32m --memory-swappiness 10 --oom-kill-disable", group("memory", "memory.limit_in_bytes") + " | tr '\\n' ' ';" +
				group("memory", "memory.soft_limit_in_bytes") + " | tr '\\n' ' ';" + group("memory", "memory.swappiness") + " | tr '\\n' ' ';" + group("memory", "memory.oom_control") + " | head -n1", "67108864 33554432 10 oom_kill_disable 1"},
			{"--cpus 0.5 --cpu-shares 512 --cpuset-cpus 0 --cpuset-mems 0", group("cpu", "cpu.cfs_quota_us") + ";" + group("cpu", "cpu.shares") + ";" + group("cpuset", "cpuset.cpus"), "50000\n512\n0"},
			{"--cpu-period 50000 --cpu-quota 25000", group("cpu", "cpu.cfs_quota_us") + ";" + group("cpu", "cpu.cfs_period_us"), "25000\n50000"},
			{"--pids-limit 50", group("pids", "pids.max"), "50"},
			{"--ulimit nofile=100:200 --ulimit core=0", "ulimit -n; ulimit -Hn; ulimit -c", "100\n200\n0"},
			{"--device /dev/fuse --device-cgroup-rule c␣42:*␣rmw", "test -c /dev/fuse; grep '^c 42:' /sys/fs/cgroup/devices/devices.list", "c 42:* rwm"},
			{"--oom-score-adj 100", "cat /proc/self/oom_score_adj", "100"},
			{"--shm-size 32m", "df -k /dev/shm | tail -n1 | tr -s ' ' | cut -d' ' -f2", "32768"},
		},
		"security": {
			{"--cap-drop ALL --cap-add NET_ADMIN", "grep CapEff /proc/self/status", "CapEff:\t0000000000001000"},
			{"--security-opt no-new-privileges", "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1"},
			{"", "grep -E 'NoNewPrivs|^Seccomp:' /proc/self/status", "NoNewPrivs:\t0\nSeccomp:\t2"},
			{"--security-opt seccomp=unconfined", "grep ^Seccomp: /proc/self/status", "Seccomp:\t0"},
			{"--security-opt seccomp=builtin", "grep ^Seccomp: /proc/self/status", "Seccomp:\t2"},
			{"--security-opt seccomp=" + dir + "/seccomp.json", "mkdir /x 2>&1; true", "mkdir: can't create directory '/x': Function not implemented"},
			{"--security-opt systempaths=unconfined", "grep -c ' /proc/' /proc/mounts; true", "0"},
			{"--security-opt label=disable", "echo on", "on"},
			{"--privileged --security-opt privileged-without-host-devices", "test -e /dev/vda || echo none", "none"},
			{"--read-only", "touch /x 2>&1; true", "touch: /x: Read-only file system"},
			{"--umask 027", "umask", "0027"},
			{"--user 7:8 --group-add 5", "id -u; id -g; id -G", "7\n8\n8 5"},
		},
		"namespaces": {
			{"--pid host", same("pid"), host("pid")}, {"--ipc host", same("ipc"), host("ipc")}, {"--userns host", same("user"), host("user")},
			{"--cgroupns host", same("cgroup"), host("cgroup")}, {"--uts host", "hostname", hostname},
			{"--pid container:other", "ps | grep -c '[s]leep 600'", "1"},
			{"--ipc none", "grep -c /dev/shm /proc/mounts; true", "0"},
			{"--sysctl kernel.msgmax=65536", "cat /proc/sys/kernel/msgmax", "65536"},
			{"-h inside --domainname example.org", "hostname; cat /proc/sys/kernel/domainname", "inside\nexample.org"},
		},
		"process": {
			{"--init", "cat /proc/1/comm", "docker-init"}, {"--init --init-binary " + program, "cat /proc/1/comm", "docker-init"},
			{"-w /made/here", "pwd", "/made/here"},
			{"--env-file " + dir + "/env -e B=c", "echo $FROM_FILE $B", "yes c"},
			{"--systemd always", "grep -c -E ' (/run|/run/lock|/tmp|/var/lib/journal) tmpfs' /proc/mounts; echo $container", "4\nmini"},
			{"--isolation default --platform linux/amd64 --disable-content-trust --kernel-memory 0", "echo taken", "taken"},
			{"--tmpfs /x:size=1m,mode=700", "df -k /x | tail -n1 | tr -s ' ' | cut -d' ' -f2; stat -c %a /x", "1024\n700"},
			{"-a stdout", "echo out; echo err >&2", "out"},
		},
	}[kind]
}

// words are those of a command line; a no-break space is a space in a word.
func words(line string) []string {
	if line == "" {
		return nil
	}
	list := strings.Split(line, " ")
	for i := range list {
		list[i] = strings.ReplaceAll(list[i], "␣", " ")
	}
	return list
}

// refusedFlags gives what this machine, or Linux, has not.
func refusedFlags(t *testing.T, n nerd) {
	n.t = t
	for flags, want := range map[string]string{
		"--storage-opt size=1g": "does not bound", "--isolation hyperv": "only default", "--cpu-count 2": "Windows", "--use-api-socket": "no socket of docker's API",
		"--security-opt apparmor=nosuch": "AppArmor isn't enabled", "--security-opt label=type:t": "SELinux isn't enabled",
		"--rdt-class gold": "resctrl", "--gpus all": "nvidia.com/gpu=all", "--runtime nosuch": "nosuch", "--ipc container:nosuch": "nosuch",
		"--device /dev/nosuch": "/dev/nosuch", "--init --init-binary /nosuch": "/nosuch", "--ulimit nosuch=1": "nosuch",
	} {
		o := n.try(nil, append(append([]string{"run", "--rm", "--network=none"}, words(flags)...), "bb", "true")...)
		if o.Code != 125 || !strings.Contains(o.Stderr, want) {
			t.Errorf("%s: code %d, no %q in %s", flags, o.Code, want, o.Stderr)
		}
	}
	if left := n.do("ps", "-aq", "--filter", "status=created"); left != "" {
		t.Errorf("left: %s", left)
	}
}

// fileFlags reads what flags have written, and what inspect has of what they have read.
func fileFlags(t *testing.T, n nerd, dir string) {
	n.t = t
	pid := filepath.Join(dir, "pid")
	n.do("run", "-d", "--name=files", "--network=none", "--label-file", dir+"/labels", "--annotation", "a.b/c=d", "--pidfile", pid, "--stop-signal", "INT", "bb", "sleep", "600")
	if o := n.try(nil, "update", "--kernel-memory", "64m", "files"); o.Code != 0 || o.Stdout != "files\n" || !strings.Contains(o.Stderr, "--kernel-memory is discarded") {
		t.Errorf("a limit that no kernel has: %+v", o)
	}
	refused(t, n.try(nil, "update", "--kernel-memory", "lots", "files"), "write a size")
	written, err := os.ReadFile(pid)
	check(t, err)
	if out := n.do("inspect", "-f", "{{.State.Pid}} {{index .Config.Labels \"from.file\"}} {{.Config.StopSignal}}", "files"); out != string(written)+" yes INT\n" {
		t.Errorf("%q, pid file %q", out, written)
	}
	if out := n.do("inspect", "--mode", "native", "-f", "{{index .spec.annotations \"a.b/c\"}}", "files"); out != "d\n" {
		t.Errorf("annotation %q", out)
	}
	n.do("rm", "-f", "files")
}

// rootfsFlag runs on a directory instead of an image.
func rootfsFlag(t *testing.T, n nerd, dir string) {
	n.t = t
	root := filepath.Join(dir, "root")
	check(t, os.MkdirAll(filepath.Join(root, "bin"), 0o755))
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skipf("needs /bin/busybox: %v", err)
	}
	check(t, os.WriteFile(filepath.Join(root, "bin/sh"), busybox, 0o755))
	if out := n.do("run", "--rm", "--network=none", "--rootfs", root, "/bin/sh", "-c", "echo here > /made; echo done"); out != "done\n" {
		t.Errorf("printed %q", out)
	}
	if data, err := os.ReadFile(filepath.Join(root, "made")); err != nil || string(data) != "here\n" {
		t.Errorf("%q, %v", data, err)
	}
}

package scenario_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minirt/mini/internal/testenv"
)

// TestConfinement looks at what a container may do.
func TestConfinement(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	// What the daemon does not have, no container gets.
	all := status(t, d.PID(), "CapBnd")
	field := func(name string) string { return "grep " + name + ": /proc/self/status | cut -f2" }
	profile := filepath.Join(testenv.Dir(t), "profile.json")
	text := `{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
		"syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}`
	if err := os.WriteFile(profile, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []runCase{
		{"capabilities", nil, field("CapEff") + ";" + field("CapBnd") + ";" + field("CapAmb"), "00000000a80425fb\n00000000a80425fb\n0000000000000000"},
		{"none", []string{"--cap-drop", "ALL"}, field("CapEff") + ";" + field("CapBnd"), "0000000000000000\n0000000000000000"},
		{"one", []string{"--cap-drop", "all", "--cap-add", "net_bind_service"}, field("CapEff"), "0000000000000400"},
		{"one more", []string{"--cap-add", "CAP_SYS_PTRACE"}, field("CapEff"), "00000000a80c25fb"},
		{"one less", []string{"--cap-drop", "NET_RAW"}, field("CapEff"), "00000000a80405fb"},
		{"every one", []string{"--cap-add", "ALL"}, field("CapEff"), all},
		{"a user's", []string{"--user", "1000"}, field("CapEff") + ";" + field("CapBnd"), "0000000000000000\n00000000a80425fb"},
		{"ambient", []string{"--user", "1000", "--cap-ambient", "NET_BIND_SERVICE"}, field("CapEff") + ";" + field("CapAmb"), "0000000000000400\n0000000000000400"},
		{"seccomp", nil, "grep Seccomp: /proc/1/status | cut -f2; " + field("NoNewPrivs"), "2\n1"},
		{"no seccomp", []string{"--seccomp-profile", "unconfined"}, field("Seccomp"), "0"},
		{"its own seccomp", []string{"--seccomp-profile", profile}, field("Seccomp") + "; mkdir /d 2>&1 || true", "part:operation not supported"},
		{"new privileges", []string{"--allow-new-privs"}, field("NoNewPrivs"), "0"},
		{"privileged", []string{"--privileged"}, field("CapEff") + ";" + field("Seccomp") +
			"; mkdir /m && mount -t tmpfs x /m && touch /m/f && ls /m; test -w /proc/sys/vm/swappiness && echo writable", all + "\n0\nf\nwritable"},
		{"hidden", nil, "wc -c </proc/keys; ls /proc/acpi /sys/firmware 2>/dev/null | wc -l; mount -t tmpfs x /tmp 2>/dev/null || echo no mounts", "part:no mounts"},
		{"masked", nil, "cat /proc/keys /proc/timer_list /proc/interrupts | wc -c", "0"},
		{"read-only kernel", nil, "(echo 1 >/proc/sys/vm/swappiness) 2>/dev/null || echo refused; (echo b >/proc/sysrq-trigger) 2>/dev/null || echo refused; " +
			"mkdir /sys/fs/cgroup/x /sys/fs/cgroup/pids/x 2>/dev/null; test -d /sys/fs/cgroup/pids/x || echo refused", "refused\nrefused\nrefused"},
	} {
		c.check(t, d, toolbox)
	}
}

// TestDevices uses devices that a container has, was given, and must not have.
func TestDevices(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	// A group that may not use a device finds it, and is refused its opening.
	read := func(file string) string { return "(: <" + file + ") 2>/dev/null && echo read || echo refused" }
	write := func(file string) string { return "(: >" + file + ") 2>/dev/null && echo written || echo refused" }
	for _, c := range []runCase{
		{"the usual", nil, "cd /dev; for f in null zero full random urandom tty ptmx pts shm mqueue fd stdin stdout stderr; do test -e $f || echo no $f; done", ""},
		{"not the host's", nil, "cd /dev; for f in fuse kmsg mem loop0 vda console; do test -e $f && echo $f; done; true", ""},
		{"made, not opened", nil, "mknod /f c 10 229 && " + read("/f"), "refused"},
		{"given", []string{"--device", "/dev/fuse:/dev/other"}, read("/dev/other") + ";" + write("/dev/other"), "read\nwritten"},
		{"given to read", []string{"--device", "/dev/fuse:/dev/other:r"}, read("/dev/other") + ";" + write("/dev/other"), "read\nrefused"},
		{"all of them", []string{"--privileged"}, read("/dev/fuse") + "; mknod /f c 10 229 && " + read("/f"), "read\nread"},
		{"only the usual", []string{"--privileged-without-host-devices"}, "test -e /dev/fuse && echo fuse; true", ""},
	} {
		c.check(t, d, toolbox)
	}
	refused(t, d.Try("run", "--rm", "--device", "/dev/no-such", toolbox, "none", "true"), "/dev/no-such")
}

// TestUserNamespace maps a container's users to others of the host.
func TestUserNamespace(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	// The users that a container's are mapped to must get to its root filesystem.
	if err := os.Chmod(d.Dir, 0o711); err != nil {
		t.Fatal(err)
	}
	host := testenv.Dir(t)
	if err := os.Chown(host, 100005, 200006); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(host, 0o755); err != nil {
		t.Fatal(err)
	}
	maps := []string{"--uidmap", "0:100000:65536", "--gidmap", "0:200000:65536"}
	with := func(more ...string) []string { return append(append([]string{}, maps...), more...) }
	for _, c := range []runCase{
		{"maps", maps, "set -- $(cat /proc/self/uid_map /proc/self/gid_map); echo $*", "0 100000 65536 0 200000 65536"},
		{"the image's files", maps, "stat -c %u:%g / /bin/bb /etc; touch /etc/new && stat -c %u:%g /etc/new", "0:0\n0:0\n0:0\n0:0"},
		{"change of owner", maps, "cp /etc/os-release /f && mkdir /d && touch /d/f", ""},
		{"a bind", with("--mount", "type=bind,src="+host+",dst=/host,options=rbind"), "stat -c %u:%g /host; touch /host/f && echo written", "5:6\nwritten"},
		{"a user", with("--user", "12:34"), "id -u; id -g; touch /tmp/f && stat -c %u:%g /tmp/f; touch /etc/f 2>/dev/null || echo refused", "part:12\n34\n"},
		{"its devices", maps, "echo x >/dev/null && head -n 0 /dev/zero && echo fine", "fine"},
		{"confined", maps, "grep CapEff: /proc/self/status | cut -f2; grep Seccomp: /proc/self/status | cut -f2; hostname", "00000000a80425fb\n2\ncase"},
		{"with the host's network", with("--net-host"), "ls /sys/class/net >/dev/null; hostname", "case"},
	} {
		c.check(t, d, toolbox)
	}
	d.Minictr(append(append([]string{"run", "-d"}, maps...), toolbox, "up", "sleep", "600")...)
	pid := inspect(t, d, "up").PID
	if got, want := status(t, pid, "Uid"), "100000\t100000\t100000\t100000"; got != want {
		t.Errorf("on the host its users are %q, want %q", got, want)
	}
	if got, want := status(t, pid, "Gid"), "200000\t200000\t200000\t200000"; got != want {
		t.Errorf("on the host its groups are %q, want %q", got, want)
	}
	if out := d.Minictr("exec", "--user", "7", "up", "sh", "-c", "id -u; touch /tmp/by-exec && stat -c %u /tmp/by-exec"); !strings.HasPrefix(out, "7\n") {
		t.Errorf("exec in it: %q", out)
	}
	// The same image without maps, after it was used with them.
	if out := d.Minictr("run", "--rm", toolbox, "plain", "sh", "-c", "stat -c %u /bin/bb; cat /proc/self/uid_map"); !strings.HasPrefix(out, "0\n") || strings.Contains(out, "100000") {
		t.Errorf("without maps: %q", out)
	}
	for _, bad := range []string{"0:0", "0:x:1", "0:0:5000000000"} {
		refused(t, d.Try("run", "--rm", "--uidmap", bad, toolbox, "bad", "true"), "--uidmap "+bad)
	}
	if err := os.Chmod(d.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	refused(t, d.Try("run", "--rm", "--uidmap", maps[1], toolbox, "closed", "true"), "closed", "o+x")
}

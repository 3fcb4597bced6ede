package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minirt/mini/internal/apparmor"
	"github.com/minirt/mini/internal/testenv"
)

func TestDevices(t *testing.T) {
	d := start(t)
	number := read(t, "/sys/block/nvme0n1/dev")
	major, minor, _ := strings.Cut(number, ":")
	play := func(want string, flags ...string) {
		t.Helper()
		args := append([]string{"run", "--rm", "--mount", actor}, flags...)
		o := d.Try(append(args, toolbox, "device", "/act", "device", "b", major, minor)...)
		if out := o.Stdout + o.Stderr; !strings.Contains(out, want) {
			t.Errorf("%v: the disk: %q, want %q", flags, out, want)
		}
	}
	play("operation not permitted")
	play("opened", "--device", "/dev/nvme0n1:/dev/disk:rm")
	play("opened", "--privileged")
	if o := d.Try("run", "--rm", toolbox, "devices", "sh", "-c", "echo x > /dev/null && cat /dev/full | head -c 1 && echo fine"); o.Code != 0 {
		t.Errorf("the ordinary devices: %+v", o)
	}
}

func TestUserNamespace(t *testing.T) {
	d := start(t)
	// The users that a container's are mapped to must get to its root filesystem and to what it mounts.
	data := testenv.Dir(t)
	for _, dir := range []string{d.Dir, data} {
		if err := os.Chmod(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(data, "mine"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	maps := []string{"--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536"}
	out := d.Minictr(append(append([]string{"run", "--rm"}, maps...), toolbox, "mapped", "sh", "-c",
		"cat /proc/self/uid_map; stat -c %u:%g /bin/sh; echo x > /new; stat -c %u /new; cat /proc/self/cgroup")...)
	if fields := strings.Join(strings.Fields(out), " "); fields != "0 100000 65536 0:0 0 0::/" {
		t.Errorf("a mapped container says %q", fields)
	}
	mount := "type=bind,src=" + data + ",dst=/data,options=rbind:idmap"
	out = d.Minictr(append(append([]string{"run", "--rm", "--mount", mount}, maps...), toolbox, "bound", "sh", "-c",
		"stat -c %u /data/mine; cat /data/mine; echo x > /data/made")...)
	if out != "0\ntext" {
		t.Errorf("an idmapped mount: %q", out)
	}
	if o := d.Minictr("run", "--rm", "--mount", "type=bind,src="+data+",dst=/data", toolbox, "plain", "stat", "-c", "%u", "/data/made"); o != "0\n" {
		t.Errorf("what was made through an idmapped mount belongs to %q", o)
	}
	d.Minictr(append(append([]string{"run", "-d"}, maps...), toolbox, "mapped", "sleep", "600")...)
	pid := inspect(t, d, "mapped").PID
	if mounts := read(t, fmt.Sprintf("/proc/%d/mountinfo", pid)); !strings.Contains(mounts, " / / rw") || !strings.Contains(mounts, "- overlay overlay") {
		t.Errorf("its root is no overlay: %s", mounts)
	}
	if out := read(t, fmt.Sprintf("/proc/%d/uid_map", pid)); strings.Join(strings.Fields(out), " ") != "0 100000 65536" {
		t.Errorf("uid_map %q", out)
	}
	if out := d.Minictr("exec", "mapped", "id", "-u"); out != "0\n" {
		t.Errorf("exec: %q", out)
	}
}

func TestSeccomp(t *testing.T) {
	d := start(t)
	show := []string{"sh", "-c", "cat /proc/self/status | sed -n 's/^Seccomp:[^0-9]*//p'"}
	if out := d.Minictr(append([]string{"run", "--rm", toolbox, "filtered"}, show...)...); out != "2\n" {
		t.Errorf("Seccomp: %q", out)
	}
	if out := d.Minictr(append([]string{"run", "--rm", "--seccomp-profile", "unconfined", toolbox, "open"}, show...)...); out != "0\n" {
		t.Errorf("unconfined: Seccomp: %q", out)
	}
}

const profile = `profile mini-test flags=(attach_disconnected,mediate_deleted) {
  file,
  capability,
  network,
  signal,
  ptrace,
  deny /denied/** rw,
}
`

func TestAppArmor(t *testing.T) {
	if read(t, "/sys/module/apparmor/parameters/enabled") != "Y" {
		t.Fatal("the kernel has AppArmor and was told to use it")
	}
	testenv.Need(t, "apparmor_parser")
	file := filepath.Join(t.TempDir(), "profile")
	if err := os.WriteFile(file, []byte(profile), 0o644); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "apparmor_parser", "--skip-cache", "--replace", file)
	d := start(t)
	d.Minictr("run", "-d", "--apparmor-profile", "mini-test", "--tmpfs", "/denied", "--tmpfs", "/allowed", toolbox, "confined", "sleep", "600")
	for _, process := range []string{"1", "self"} {
		if out := d.Minictr("exec", "confined", "cat", "/proc/"+process+"/attr/current"); out != "mini-test (enforce)\n" {
			t.Errorf("process %s is under %q", process, out)
		}
	}
	d.Minictr("exec", "confined", "sh", "-c", "echo x > /allowed/file")
	refused(t, d, []string{"ermission denied"}, "exec", "confined", "sh", "-c", "echo x > /denied/file")
	if out := d.Minictr("run", "--rm", "--apparmor-profile", "unconfined", toolbox, "free", "cat", "/proc/1/attr/current"); out != "unconfined\n" {
		t.Errorf("without a profile: %q", out)
	}
	refused(t, d, []string{"mini-absent", "not loaded"}, "run", "--rm", "--apparmor-profile", "mini-absent", toolbox, "absent", "true")
}

// TestAppArmorByDefault: containers that name no profile get the one that the daemon loads, also when it was taken away.
func TestAppArmorByDefault(t *testing.T) {
	testenv.Need(t, "apparmor_parser")
	d := start(t)
	host := apparmor.ThisHost()
	attribute := []string{toolbox, "sh", "-c", "cat /proc/1/attr/current"}
	for range 2 {
		if out := nerd(t, d, append([]string{"run", "--rm"}, attribute...)...); out != "mini-default (enforce)" {
			t.Errorf("by default: %q", out)
		}
		if err := host.Unload(apparmor.Profile); err != nil {
			t.Fatal(err)
		}
	}
	for _, flags := range [][]string{{"--privileged"}, {"--security-opt", "apparmor=unconfined"}} {
		if out := nerd(t, d, append(append([]string{"run", "--rm"}, flags...), attribute...)...); out != "unconfined" {
			t.Errorf("%v: %q", flags, out)
		}
	}
	// What capabilities and system calls allow, the profile denies.
	text := nerd(t, d, "run", "--rm", "--cap-add", "ALL", "--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined", "-v", "/sbin/init:/act:ro",
		toolbox, "/act", "reach")
	if strings.Count(text, "permission denied") != 3 {
		t.Errorf("what reaches the host: %q", text)
	}
	nerd(t, d, "run", "-d", "--name", "shown", toolbox, "sleep", "600")
	if out := nerd(t, d, "inspect", "-f", "{{.AppArmorProfile}}", "shown"); out != "mini-default" {
		t.Errorf("inspect: %q", out)
	}
	if out := nerd(t, d, "exec", "shown", "cat", "/proc/self/attr/current"); out != "mini-default (enforce)" {
		t.Errorf("exec: %q", out)
	}
}

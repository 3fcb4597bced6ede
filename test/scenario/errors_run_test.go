package scenario_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/minirt/mini/internal/testenv"
)

// errorCase is a command that is refused.
type errorCase struct {
	name string
	args []string
	code int      // of minictr; 0: any but 0
	want []string // in the message
}

func (c errorCase) check(t *testing.T, d *testenv.DaemonProcess) {
	t.Run(c.name, func(t *testing.T) {
		o := d.In(t).Try(c.args...)
		refused(t, o, c.want...)
		if c.code != 0 && o.Code != c.code {
			t.Errorf("code %d, want %d", o.Code, c.code)
		}
		said := lines(o.Stderr)
		if pulls := c.args[0] == "images"; len(said) == 0 || len(said) > 1 && !pulls || !strings.HasPrefix(said[len(said)-1], "minictr: ") {
			t.Errorf("not one line of minictr, after those of a transfer:\n%s", o.Stderr)
		}
		for _, noise := range []string{"rpc error", "failed to", "panic", "runc", "%!", "<nil>", "code ="} {
			if strings.Contains(o.Stderr, noise) {
				t.Errorf("%q in the message:\n%s", noise, o.Stderr)
			}
		}
	})
}

// TestErrorsOfRun asks for containers that cannot be: each is refused in one line that says why, and leaves nothing.
func TestErrorsOfRun(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	d.Minictr("run", "-d", toolbox, "taken", "sleep", "600")
	profile := filepath.Join(testenv.Dir(t), "profile.json")
	if err := os.WriteFile(profile, []byte(`{"defaultAction": "SCMP_ACT_MAYBE"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	before := d.Minictr("containers", "ls", "-q") + d.Minictr("snapshots", "ls", "-q") + d.Minictr("images", "ls", "-q")
	run := func(args ...string) []string { return append([]string{"run", "--rm"}, args...) }
	for _, c := range []errorCase{
		{"no such image", run("no/such:image", "x", "true"), 125, []string{"no/such:image", "pull"}},
		{"no image name", run("Not A Name", "x", "true"), 125, []string{"Not A Name"}},
		{"taken id", run(toolbox, "taken", "true"), 125, []string{"taken"}},
		{"bad id", run(toolbox, "a/b", "true"), 125, []string{"a/b"}},
		{"id that climbs", run(toolbox, "..", "true"), 125, []string{".."}},
		{"long id", run(toolbox, strings.Repeat("x", 300), "true"), 125, []string{"xxx"}},
		{"no id", run(toolbox), 125, []string{"CONTAINER"}},
		{"bad namespace", append([]string{"-n", "a/b"}, run(toolbox, "x", "true")...), 125, []string{"a/b"}},
		{"no such program", run(toolbox, "x", "/no/such"), 127, []string{"/no/such"}},
		{"not in PATH", run(toolbox, "x", "nosuch"), 127, []string{"nosuch"}},
		{"no program", run(toolbox, "x", "/etc/os-release"), 126, []string{"/etc/os-release"}},
		{"a directory", run(toolbox, "x", "/etc"), 126, []string{"/etc"}},
		{"no such user", run("--user", "ghost", toolbox, "x", "true"), 125, []string{"ghost"}},
		{"no such group", run("--user", "0:ghosts", toolbox, "x", "true"), 125, []string{"ghosts"}},
		{"directory is a file", run("--cwd", "/etc/os-release/x", toolbox, "x", "true"), 0, []string{"/etc/os-release"}},
		{"no such runtime", run("--runtime", "nosuch", toolbox, "x", "true"), 125, []string{"nosuch", "runtime"}},
		{"no such snapshotter", run("--snapshotter", "nosuch", toolbox, "x", "true"), 125, []string{"nosuch", "overlay"}},
		{"other platform", run("--platform", "linux/s390x", toolbox, "x", "true"), 125, []string{"linux/s390x", toolbox}},
		{"no platform", run("--platform", "a/b/c/d", toolbox, "x", "true"), 125, []string{"a/b/c/d"}},
		{"no such capability", run("--cap-add", "FLY", toolbox, "x", "true"), 125, []string{"FLY"}},
		{"no such profile", run("--seccomp-profile", "/no/such", toolbox, "x", "true"), 125, []string{"/no/such"}},
		{"bad profile", run("--seccomp-profile", profile, toolbox, "x", "true"), 0, []string{"SCMP_ACT_MAYBE"}},
		{"sysctl of the host", run("--sysctl", "vm.swappiness=1", toolbox, "x", "true"), 125, []string{"vm.swappiness"}},
		{"sysctl of a shared namespace", run("--net-host", "--sysctl", "net.ipv4.ip_forward=1", toolbox, "x", "true"), 125, []string{"net.ipv4.ip_forward"}},
		{"no such sysctl", run("--sysctl", "net.ipv4.nosuch=1", toolbox, "x", "true"), 0, []string{"net.ipv4.nosuch"}},
		{"no such rlimit", run("--rlimit", "colour=1", toolbox, "x", "true"), 125, []string{"colour"}},
		{"soft above hard", run("--rlimit", "nofile=2000:1000", toolbox, "x", "true"), 125, []string{"nofile"}},
		{"bad size", run("--memory-limit", "much", toolbox, "x", "true"), 125, []string{"--memory-limit much"}},
		{"too little memory", run("--memory-limit", "1k", toolbox, "x", "true"), 0, []string{"memory"}},
		{"no such CPU", run("--cpuset-cpus", "4711", toolbox, "x", "true"), 0, []string{"cpuset", "4711"}},
		{"huge pages of no size", run("--hugepage-limit", "3MB=3MB", toolbox, "x", "true"), 0, []string{"huge"}},
		{"cgroup v2's", run("--unified", "memory.max=100", toolbox, "x", "true"), 0, []string{"unified"}},
		{"no such class", run("--rdt-class", "x", toolbox, "x", "true"), 0, []string{"RDT"}},
		{"AppArmor", run("--apparmor-profile", "x", toolbox, "x", "true"), 0, []string{"AppArmor"}},
		{"no such CDI device", run("--device", "vendor.com/class=name", toolbox, "x", "true"), 125, []string{"vendor.com/class=name"}},
		{"bad variable", run("--env", "=x", toolbox, "x", "true"), 125, []string{"=x"}},
		{"bad umask", run("--umask", "9", toolbox, "x", "true"), 125, []string{"--umask 9"}},
		{"unknown flag", run("--nosuch", toolbox, "x", "true"), 0, []string{"--nosuch"}},
		{"no such label form", run("--label", "=x", toolbox, "x", "true"), 125, []string{"=x"}},
		{"bad detach keys", run("--detach-keys", "ctrl-!", "-t", toolbox, "x", "true"), 125, []string{"ctrl-!"}},
	} {
		c.check(t, d)
	}
	if after := d.Minictr("containers", "ls", "-q") + d.Minictr("snapshots", "ls", "-q") + d.Minictr("images", "ls", "-q"); after != before {
		t.Errorf("left:\n%s\nthere was:\n%s", after, before)
	}
	d.Minictr("check")
}

// TestErrorsOfStates does to containers what their states do not allow.
func TestErrorsOfStates(t *testing.T) {
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	d.Minictr("run", "-d", toolbox, "runs", "sleep", "600")
	d.Minictr("containers", "create", toolbox, "made", "true")
	d.Minictr("run", toolbox, "exited", "true")
	for _, c := range []errorCase{
		{"start a started one", []string{"tasks", "start", "-d", "runs"}, 125, []string{"runs", "running"}},
		{"remove a running one", []string{"containers", "rm", "runs"}, 1, []string{"runs", "running", "kill it"}},
		{"remove what is not there", []string{"containers", "rm", "nobody"}, 1, []string{"nobody"}},
		{"make one twice", []string{"containers", "create", toolbox, "made", "true"}, 0, []string{"made", "exists"}},
		{"exec in one that was made", []string{"exec", "made", "true"}, 125, []string{"made", "start it"}},
		{"exec in one that exited", []string{"exec", "exited", "true"}, 125, []string{"exited", "start it"}},
		{"exec in nobody", []string{"exec", "nobody", "true"}, 125, []string{"nobody"}},
		{"exec of nothing", []string{"exec", "runs"}, 0, []string{"COMMAND"}},
		{"exec as nobody known", []string{"exec", "--user", "ghost", "runs", "true"}, 125, []string{"ghost"}},
		{"exec of no program", []string{"exec", "runs", "/no/such"}, 127, []string{"/no/such"}},
		{"kill one that was made", []string{"tasks", "kill", "made"}, 1, []string{"made"}},
		{"kill one that exited", []string{"tasks", "kill", "exited"}, 1, []string{"exited"}},
		{"kill with no signal", []string{"tasks", "kill", "-s", "SIGNOSUCH", "runs"}, 1, []string{"SIGNOSUCH"}},
		{"pause one that was made", []string{"tasks", "pause", "made"}, 1, []string{"made"}},
		{"resume one that runs", []string{"tasks", "resume", "runs"}, 1, []string{"runs", "running"}},
		{"attach to one that exited", []string{"tasks", "attach", "exited"}, 0, []string{"exited"}},
		{"attach to no exec", []string{"tasks", "attach", "--exec-id", "none", "runs"}, 0, []string{"none", "runs"}},
		{"wait for one that was made", []string{"tasks", "wait", "made"}, 1, []string{"made"}},
		{"processes of one that exited", []string{"tasks", "ps", "exited"}, 1, []string{"exited"}},
		{"metrics of one that exited", []string{"tasks", "metrics", "exited"}, 1, []string{"exited"}},
		{"logs of nobody", []string{"logs", "nobody"}, 1, []string{"nobody"}},
		{"restore from nothing", []string{"containers", "restore", "exited", "/no/such"}, 0, []string{"/no/such"}},
		{"remove its namespace", []string{"namespaces", "rm", "default"}, 1, []string{"default", "not empty"}},
		{"remove its image's snapshot", []string{"snapshots", "rm", "runs"}, 1, []string{"runs"}},
	} {
		c.check(t, d)
	}
	for id, want := range map[string]string{"runs": "running", "made": "created", "exited": "exited"} {
		if c := inspect(t, d, id); c.State != want {
			t.Errorf("%s is %s, want %s", id, c.State, want)
		}
	}
	if out := d.Minictr("exec", "runs", "echo", "fine"); out != "fine\n" {
		t.Errorf("afterwards: %q", out)
	}
}

// TestErrorsOfImages asks for images that are nowhere.
func TestErrorsOfImages(t *testing.T) {
	r := testenv.Registry(t, testenv.RegistryOptions{Empty: true})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	junk := filepath.Join(testenv.Dir(t), "junk.tar")
	if err := os.WriteFile(junk, []byte(strings.Repeat("no archive\n", 1000)), 0o644); err != nil {
		t.Fatal(err)
	}
	d.Minictr("run", "--rm", toolbox, "first", "true") // brings the image in
	gone := "127.0.0.1:1/x/y:z"
	for _, c := range []errorCase{
		{"not in the registry", []string{"images", "pull", r.Ref("nosuch")}, 1, []string{r.Address, "nosuch", "404"}},
		{"registry that is not there", []string{"images", "pull", gone}, 1, []string{"127.0.0.1:1", "refused"}},
		{"bad name", []string{"images", "pull", "lower/UPPER"}, 1, []string{"lower/UPPER"}},
		{"bad digest", []string{"images", "pull", "busybox@sha256:12"}, 1, []string{"sha256:12"}},
		{"push of nothing", []string{"images", "push", r.Ref("nosuch")}, 1, []string{"nosuch"}},
		{"push to nowhere", []string{"images", "push", gone, toolbox}, 1, []string{"127.0.0.1:1", "refused"}},
		{"remove nothing", []string{"images", "rm", "nosuch"}, 1, []string{"nosuch"}},
		{"tag of nothing", []string{"images", "tag", "nosuch", "other"}, 1, []string{"nosuch"}},
		{"export of nothing", []string{"images", "export", filepath.Join(testenv.Dir(t), "x.tar"), "nosuch"}, 1, []string{"nosuch"}},
		{"import of junk", []string{"images", "import", junk}, 1, []string{"archive"}},
		{"import of no file", []string{"images", "import", "/no/such.tar"}, 1, []string{"/no/such.tar"}},
		{"no such blob", []string{"content", "get", "sha256:" + strings.Repeat("0", 64)}, 1, []string{"sha256:000"}},
		{"no digest", []string{"content", "get", "x"}, 1, []string{"x", "digest"}},
		{"no such snapshot", []string{"snapshots", "info", "nosuch"}, 1, []string{"nosuch"}},
		{"no such lease", []string{"leases", "rm", "nosuch"}, 1, []string{"nosuch"}},
	} {
		c.check(t, d)
	}
	if active := d.Minictr("content", "active", "-q"); active != "" {
		t.Errorf("ingests left: %s", active)
	}
	d.Minictr("check")
}

// TestErrorsOfPlatforms runs images of which this host's platform is not there.
func TestErrorsOfPlatforms(t *testing.T) {
	testenv.Image(t, "multi")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	multi := r.Ref("multi")
	other, word := "linux/arm64", "arm64"
	if runtime.GOARCH == "arm64" {
		other, word = "linux/amd64", "amd64"
	}
	d.Minictr("images", "pull", "--platform", other, multi)
	errorCase{"not pulled", []string{"run", "--rm", multi, "x", "cat", "/platform"}, 125, []string{multi, "pull"}}.check(t, d)
	errorCase{"not in the index", []string{"run", "--rm", "--platform", "linux/s390x", multi, "x", "true"}, 125, []string{multi, "s390x", word}}.check(t, d)
	// What the image says may be wrong, or there is an interpreter: it is tried.
	rootfs := probeRootfs(t)
	if err := os.WriteFile(filepath.Join(rootfs, "foreign"), foreign, 0o755); err != nil {
		t.Fatal(err)
	}
	refused(t, d.Try("run", "--rm", "--rootfs", rootfs, "x", "/foreign"), "/foreign", "exec format error")
}

// foreign is the head of a program for a machine that there never was.
var foreign = append([]byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xfe\xfe\x01\x00\x00\x00"), make([]byte, 100)...)

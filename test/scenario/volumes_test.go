package scenario_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// volumes is a daemon with the image whose volumes have files, and mininerd for it.
type volumes struct {
	nerd
	d      *testenv.DaemonProcess // for commands of this part of the test
	daemon *testenv.DaemonProcess
	image  string
}

func newVolumes(t *testing.T, o testenv.DaemonOptions) volumes {
	t.Helper()
	testenv.Image(t, "volumes")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, o)
	v := volumes{newNerd(t, d), d, d, r.Ref("volumes")}
	v.do("pull", "-q", v.image)
	return v
}

// in is v for a part of the test.
func (v volumes) in(t *testing.T) volumes {
	v.t, v.d = t, v.d.In(t)
	return v
}

// sh runs a line in a container that goes when it has ended.
func (v volumes) sh(line string, flags ...string) string {
	v.t.Helper()
	return v.do(v.line(line, flags...)...)
}

func (v volumes) line(line string, flags ...string) []string {
	args := append([]string{"run", "--rm", "--network=none"}, flags...)
	return append(args, v.image, "sh", "-c", line)
}

// prints wants a line run in a container to print this.
func (v volumes) prints(want, line string, flags ...string) {
	v.t.Helper()
	if out := v.sh(line, flags...); out != want {
		v.t.Errorf("%v %s printed %q, want %q", flags, line, out, want)
	}
}

// listed wants these volumes.
func (v volumes) listed(want string, flags ...string) {
	v.t.Helper()
	if out := strings.Join(strings.Fields(v.do(append([]string{"volume", "ls", "-q"}, flags...)...)), " "); out != want {
		v.t.Errorf("volume ls %v: %q, want %q", flags, out, want)
	}
}

func TestVolumes(t *testing.T) {
	v := newVolumes(t, testenv.DaemonOptions{})
	for _, part := range []struct {
		name string
		test func(*testing.T, volumes)
	}{
		{"verbs", volumeVerbs}, {"copy", volumeCopy}, {"forms", volumeForms}, {"anonymous", volumeAnonymous}, {"from", volumesFrom},
		{"mounted", volumeMounted}, {"subpath", volumeSubPath}, {"together", volumeTogether}, {"refused", volumeRefused}, {"restart", volumeRestart},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(t, v.in(t)) })
	}
}

func volumeVerbs(t *testing.T, v volumes) {
	if out := v.do("volume", "create", "--label", "a=b", "data"); out != "data\n" {
		t.Errorf("create printed %q", out)
	}
	v.do("volume", "create", "data")
	v.do("volume", "create", "other")
	unnamed := strings.TrimSpace(v.do("volume", "create"))
	if len(unnamed) != 64 {
		t.Errorf("a volume without a name is called %q", unnamed)
	}
	v.sh("head -c 100000 /dev/zero > /d/zero", "-v", "data:/d")
	told := v.do("events", "--since", "1", "--until", "0s", "--filter", "volume=data", "--format", "{{.Action}} {{.Actor.Attributes.driver}} {{.Actor.Attributes.nothing}}")
	if told != "create local <no value>\nmount local <no value>\nunmount local <no value>\n" {
		t.Errorf("events of a volume: %q", told)
	}
	v.do("run", "-d", "--name=user", "--network=none", "-v", "data:/d", v.image, "sleep", "600")
	v.listed("data", "-f", "name=dat", "-f", "dangling=false")
	v.listed("data", "-f", "label=a=b")
	v.listed("data", "-f", "size>=100000", "-f", "driver=local")
	v.listed("other", "-f", "dangling=true", "-f", "name=^o")
	if out := v.do("volume", "ls", "-f", "name=other"); out != "DRIVER    VOLUME NAME\nlocal     other\n" {
		t.Errorf("ls printed %q", out)
	}
	if out := v.do("volume", "ls", "-s", "-f", "name=data", "--format", "{{.Name}} {{.Links}} {{.Size}} {{.Label \"a\"}}"); !strings.HasPrefix(out, "data 1 1") || !strings.HasSuffix(out, "kB b\n") {
		t.Errorf("ls -s printed %q", out)
	}
	if out := v.do("volume", "inspect", "-f", "{{.Name}} {{.Driver}} {{.Scope}} {{.Labels}} {{.Mountpoint}}", "data"); out != "data local local map[a:b] "+filepath.Join(v.d.Root, "volumes/default/data/_data")+"\n" {
		t.Errorf("inspect printed %q", out)
	}
	if out := v.do("inspect", "-f", "{{.Scope}}", "data"); out != "local\n" {
		t.Errorf("inspect printed %q", out)
	}
	if out := v.do("ps", "--filter", "volume=data", "--format", "{{.Names}} {{.Mounts}} {{.LocalVolumes}}"); !strings.HasPrefix(out, "user data,") || !strings.HasSuffix(out, " 3\n") { // with the image's
		t.Errorf("ps printed %q", out)
	}
	refused(t, v.try(nil, "volume", "rm", "data"), "volume is in use", "user")
	refused(t, v.try(nil, "volume", "rm", "nothing"), "get nothing: no such volume")
	refused(t, v.try(nil, "volume", "inspect", "nothing"), "get nothing: no such volume")
	refused(t, v.try(nil, "volume", "update", "data"), "cluster volumes")
	refused(t, v.try(nil, "volume", "create", "a/b"), "includes invalid characters")
	refused(t, v.try(nil, "volume", "create", "-d", "nfs", "driven"), `plugin "nfs" not found`)
	refused(t, v.try(nil, "volume", "create", "-o", "type=tmpfs", "half"), "missing required option")
	if out := v.do("volume", "rm", "-f", "nothing"); out != "nothing\n" {
		t.Errorf("rm -f printed %q", out)
	}
	if out := v.do("volume", "prune", "-f"); out != "Deleted Volumes:\n"+unnamed+"\n\nTotal reclaimed space: 4.096kB\n" {
		t.Errorf("prune printed %q", out)
	}
	refused(t, v.try(nil, "-n", "elsewhere", "volume", "inspect", "data"), "no such volume")
	v.do("rm", "-f", "-v", "user")
	v.listed("data other")
	if out := v.do("volume", "prune", "-af", "--filter", "label=a"); !strings.Contains(out, "data\n") || strings.Contains(out, "other") {
		t.Errorf("prune printed %q", out)
	}
	v.do("volume", "rm", "other")
	v.listed("")
}

// volumeCopy has volumes begin with what the image has at their place.
func volumeCopy(t *testing.T, v volumes) {
	const look = `cd /content; stat -c "%a %u %g" . file; cat file; readlink link`
	const want = "750 0 0\n640 7 8\nof the image\n/etc/passwd\n"
	v.prints(want, look+"; rm file; touch own", "-v", "filled:/content")
	if out := testenv.Run(t, "getfattr", "-n", "user.mini", "--only-values", filepath.Join(v.d.Root, "volumes/default/filled/_data/marked")); out != "x" {
		t.Errorf("attribute %q", out)
	}
	v.prints("link\nmarked\nown\n", "ls /content", "-v", "filled:/content") // not again
	v.prints("", "ls /content", "-v", "bare:/content:nocopy")
	v.prints("", "ls /content", "--mount", "src=bare2,dst=/content,volume-nocopy")
	v.prints("1777\n", "stat -c %a /empty", "-v", "open:/empty")
	v.prints("755\n", "stat -c %a /nowhere", "-v", "fresh:/nowhere")
	t.Log("links of the image lead nowhere else")
	v.prints("0\n", "grep -c systemd-network /in/passwd; true", "-v", "trap:/out", "-v", "trap:/in:ro")
	t.Log("read-only, and still filled")
	v.prints("of the image\n1\n", "cat /content/file; touch /content/x 2>/dev/null; echo $?", "-v", "read:/content:ro")
	for _, name := range []string{"filled", "bare", "bare2", "open", "fresh", "trap", "read"} {
		v.do("volume", "rm", name)
	}
	v.listed("")
}

// volumeForms has every way to write a mount.
func volumeForms(t *testing.T, v volumes) {
	dir := testenv.Dir(t)
	check(t, os.WriteFile(filepath.Join(dir, "file"), []byte("host\n"), 0o644))
	v.prints("host\n", "cat /m/file", "-v", dir+":/m")
	v.prints("1\n", "touch /m/x 2>/dev/null; echo $?", "-v", dir+":/m:ro,rslave,z")
	v.prints("", "ls /m", "-v", filepath.Join(dir, "made/deep")+":/m")
	if _, err := os.Stat(filepath.Join(dir, "made/deep")); err != nil {
		t.Error("-v does not make its source")
	}
	refused(t, v.try(nil, v.line("true", "--mount", "type=bind,src="+dir+"/none,dst=/m")...), "none", "make it first")
	v.prints("host\n", "cat /m/file", "--mount", "type=bind,src="+dir+",dst=/m,ro,bind-recursive=readonly,bind-propagation=rprivate")
	v.prints("", "ls /m", "--mount", "type=bind,src="+dir+"/asked,dst=/m,bind-create-src")
	v.prints("1048576 1770\n", `echo $(($(stat -f -c "%b * %S" /t))) $(stat -c %a /t)`, "--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770")
	v.prints("of the image\n", "cat /i/file", "--mount", "type=image,src="+v.image+",dst=/i,image-subpath=content")
	v.prints("of the image\n", "cat /content/file; touch /m/x", "--mount", "type=volume,dst=/m,volume-driver=local", "-v", "shared:/content", "--mount", "src=shared,dst=/m2")
	v.do("create", "--name=shown", "--network=none", "-v", dir+":/a:ro", "-v", "shared:/b", "-v", "/c", "--mount", "src=labelled,dst=/d,ro,volume-label=k=v", "--volume-driver=local", v.image)
	if out := v.do("inspect", "-f", `{{range .Mounts}}{{.Type}} {{.Name | printf "%.8s"}} {{.Destination}} {{.Driver}} {{.Mode}} {{.RW}} {{.Propagation}},{{end}} {{.HostConfig.Binds}} {{.Config.Volumes}}`, "shown"); !strings.HasPrefix(out,
		"bind  /a  ro false rprivate,volume shared /b local z true ,volume ") ||
		!strings.Contains(out, " /c local  true ,volume labelled /d local ro false ,") || !strings.HasSuffix(out, "map[/c:{} /content:{} /empty:{}]\n") {
		t.Errorf("inspect printed %q", out)
	}
	if out := v.do("volume", "inspect", "-f", "{{.Labels}}", "labelled"); out != "map[k:v]\n" {
		t.Errorf("labels %q", out)
	}
	v.do("rm", "-v", "shown")
	v.listed("labelled shared")
	v.do("volume", "rm", "labelled", "shared")
}

// volumeAnonymous wants the volumes without a name to go with --rm and rm -v, and to stay otherwise.
func volumeAnonymous(t *testing.T, v volumes) {
	v.prints("of the image\n", "cat /content/file; touch /empty/x /more/x", "-v", "/more")
	v.listed("")
	v.do("run", "--name=kept", "--network=none", v.image, "touch", "/content/kept")
	if n := len(strings.Fields(v.do("volume", "ls", "-q"))); n != 2 {
		t.Errorf("%d volumes of the image's two", n)
	}
	v.do("start", "-a", "kept")
	v.do("rm", "kept")
	if n := len(strings.Fields(v.do("volume", "ls", "-qf", "dangling=true"))); n != 2 {
		t.Errorf("%d volumes are left by rm, want 2", n)
	}
	v.do("volume", "prune", "-f")
	v.do("create", "--name=gone", "--network=none", "-v", "named:/empty", v.image)
	v.do("rm", "-v", "gone")
	v.listed("named")
	v.do("volume", "rm", "named")
	t.Log("what is mounted at their place is enough")
	v.do("create", "--name=covered", "--network=none", "-v", testenv.Dir(t)+":/content", "--tmpfs", "/empty", v.image)
	v.listed("")
	v.do("rm", "covered")
	t.Log("a container that cannot be made leaves none")
	refused(t, v.try(nil, "create", "--network=none", "-v", "/etc/passwd", v.image), "cannot mount volume over existing file, file exists /etc/passwd")
	v.listed("")
	refused(t, v.try(nil, "run", "--rm", "--network=none", v.image, "nosuchprogram"), "nosuchprogram")
	v.listed("")
}

func volumesFrom(t *testing.T, v volumes) {
	dir := testenv.Dir(t)
	v.do("create", "--name=first", "--network=none", "-v", "named:/named", "-v", "/own", "-v", dir+":/host:ro", v.image)
	v.prints("1\n", "touch /named/a /own/b /content/c; touch /host/d 2>/dev/null; echo $?", "--volumes-from", "first")
	v.prints("1\n/content/c\n/named/a\n/own/b\n", "touch /own/x 2>/dev/null; echo $?; ls -d /content/c /named/a /own/b", "--volumes-from", "first:ro")
	v.prints("of the image\n", "cat /content/file", "--volumes-from", "first", "-v", "mine:/content")
	v.do("create", "--name=second", "--network=none", "--volumes-from", "first", v.image)
	if out := v.do("inspect", "-f", "{{.HostConfig.VolumesFrom}} {{.HostConfig.Binds}} {{len .Mounts}}", "second"); out != "[first] [] 5\n" {
		t.Errorf("inspect printed %q", out)
	}
	v.do("rm", "-v", "first")
	v.do("start", "-a", "second")
	v.do("rm", "-v", "second")
	v.listed("mine named")
	v.do("volume", "rm", "mine", "named")
	refused(t, v.try(nil, v.line("true", "--volumes-from", "nobody")...), "nobody")
	refused(t, v.try(nil, v.line("true", "--volumes-from", "nobody:fast")...), "invalid mode: fast")
}

// volumeMounted has volumes that are mounts: as long as somebody uses them.
func volumeMounted(t *testing.T, v volumes) {
	v.do("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=2m,uid=5", "memory")
	v.do("run", "-d", "--name=holder", "--network=none", "-v", "memory:/m", v.image, "sh", "-c", "echo held > /m/f; sleep 600")
	testenv.Eventually(t, 10*time.Second, "another container sees the file", func() bool {
		return v.try(nil, v.line("cat /m/f; stat -c %u /m", "-v", "memory:/m")...).Stdout == "held\n5\n"
	})
	v.daemon.Restart()
	v.prints("held\n", "cat /m/f", "-v", "memory:/m")
	point := strings.TrimSpace(v.do("volume", "inspect", "-f", "{{.Mountpoint}}", "memory"))
	v.do("rm", "-fv", "holder")
	if err := testenv.Try(t, "mountpoint", "-q", point); err == nil {
		t.Errorf("%s is mounted, and nobody uses it", point)
	}
	v.prints("", "ls /m", "-v", "memory:/m")
	refused(t, v.try(nil, "volume", "create", "-o", "type=tmpfs", "-o", "device=other", "memory"), "exists with other options")
	v.do("volume", "rm", "memory")
	dir := testenv.Dir(t)
	v.prints("of the image\n", "cat /content/file", "--mount", "src=bound,dst=/content,volume-opt=type=none,volume-opt=o=bind,volume-opt=device="+dir)
	if data, err := os.ReadFile(filepath.Join(dir, "file")); string(data) != "of the image\n" {
		t.Errorf("the directory of the host has %q, %v", data, err)
	}
	v.do("volume", "rm", "bound")
	if _, err := os.Stat(filepath.Join(dir, "file")); err != nil {
		t.Errorf("with the volume went what was mounted on it: %v", err)
	}
	v.do("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device="+dir+"/none", "wrong")
	refused(t, v.try(nil, v.line("true", "-v", "wrong:/m:nocopy")...), "error while mounting volume", "wrong")
	v.do("volume", "rm", "wrong")
}

// volumeSubPath mounts parts of a volume, which is looked up at the start, as its root.
func volumeSubPath(t *testing.T, v volumes) {
	v.sh("mkdir -p /v/sub/deep; echo deep > /v/sub/deep/f; echo file > /v/f; ln -s ../../../../../../etc /v/out; ln -s /sub/deep /v/in", "-v", "parts:/v")
	v.prints("deep\n", "cat /m/f", "--mount", "src=parts,dst=/m,volume-subpath=sub/deep")
	v.prints("deep\n", "cat /m/f", "--mount", "src=parts,dst=/m,volume-subpath=in")
	v.prints("file\n", "cat /etc/x", "--mount", "src=parts,dst=/etc/x,volume-subpath=f")
	for _, sub := range []string{"out", "none", "../other"} {
		refused(t, v.try(nil, v.line("true", "--mount", "src=parts,dst=/m,volume-subpath="+sub)...), "sub path", sub)
	}
	v.do("run", "-d", "--name=again", "--network=none", "--mount", "src=parts,dst=/m,volume-subpath=sub", v.image, "sleep", "600")
	v.do("restart", "-t0", "again")
	if out := v.do("exec", "again", "cat", "/m/deep/f"); out != "deep\n" {
		t.Errorf("after a restart: %q", out)
	}
	v.do("rm", "-fv", "again")
	v.do("volume", "rm", "parts")
}

// volumeTogether has many containers begin with the same new volume.
func volumeTogether(t *testing.T, v volumes) {
	var all sync.WaitGroup
	outs := make([]string, 6)
	for i := range outs {
		all.Go(func() {
			outs[i] = v.try(nil, v.line(fmt.Sprintf("cat /content/file; touch /content/by-%d", i), "-v", "joined:/content")...).Stdout
		})
	}
	all.Wait()
	for i, out := range outs {
		if out != "of the image\n" {
			t.Errorf("container %d printed %q", i, out)
		}
	}
	v.prints("6\n", "ls /content | grep -c by-", "-v", "joined:/content")
	v.do("volume", "rm", "joined")
}

func volumeRefused(t *testing.T, v volumes) {
	for _, test := range []struct{ flags, words string }{
		{"-v a/b:/c", "includes invalid characters"},
		{"-v x:/c", "too short"},
		{"-v /c -v data:/c", "Duplicate mount point: /c"},
		{"-v data:/c:rshared", "invalid mode: rshared"},
		{"--volume-driver nfs -v data:/c", "not found"},
		{"--mount src=data,dst=/c,volume-opt=colour=red", "invalid option"},
		{"--mount type=tmpfs,dst=/c,volume-nocopy", "cannot mix"},
	} {
		o := v.try(nil, v.line("true", strings.Fields(test.flags)...)...)
		if o.Code != 125 {
			t.Errorf("%s: code %d, want 125", test.flags, o.Code)
		}
		refused(t, o, test.words)
	}
	v.listed("")
}

// volumeRestart wants volumes to be there after a kill of the daemon, for containers that ran and for new ones.
func volumeRestart(t *testing.T, v volumes) {
	v.do("run", "-d", "--name=runs", "--network=none", "-v", "stays:/v", v.image, "sleep", "600")
	v.do("exec", "runs", "sh", "-c", "echo before > /v/f")
	v.daemon.Restart()
	v.prints("before\n", "cat /v/f; echo after > /v/f", "-v", "stays:/v")
	if out := v.do("exec", "runs", "cat", "/v/f"); out != "after\n" {
		t.Errorf("it has %q", out)
	}
	refused(t, v.try(nil, "volume", "rm", "stays"), "runs")
	if out := v.d.Minictr("check"); strings.Contains(out, "volume") {
		t.Errorf("check printed %s", out)
	}
	if out := v.do("system", "df", "-v"); !strings.Contains(out, "stays") {
		t.Errorf("system df -v printed %s", out)
	}
	v.do("rm", "-f", "runs")
	refused(t, v.try(nil, "system", "prune", "-f", "--volumes", "--filter", "until=1h"), "until")
	if out := v.do("system", "prune", "-f", "--volumes"); !strings.Contains(out, "Deleted Volumes:") || strings.Contains(out, "stays") {
		t.Errorf("system prune printed %s", out)
	}
	v.do("volume", "rm", "stays")
	t.Log("files without a record are found, and kept")
	check(t, os.MkdirAll(filepath.Join(v.d.Root, "volumes/default/lost/_data"), 0o755))
	check(t, os.WriteFile(filepath.Join(v.d.Root, "volumes/default/lost/_data/f"), []byte("found\n"), 0o644))
	v.listed("")
	if o := v.d.Try("check"); !strings.Contains(o.Stdout+o.Stderr, "files of a volume without a record") {
		t.Errorf("check printed %s%s", o.Stdout, o.Stderr)
	}
	v.d.Try("check", "--repair")
	v.prints("found\n", "cat /v/f", "-v", "lost:/v")
	v.do("volume", "rm", "lost")
}

// TestVolumesKilled kills the daemon in the middle of making, filling and removing volumes; the same command works then.
func TestVolumesKilled(t *testing.T) {
	v := newVolumes(t, testenv.DaemonOptions{})
	for _, test := range []struct {
		point  string
		args   []string
		before []string
	}{
		{"volume-made=kill", []string{"volume", "create", "data"}, nil},
		{"volume-copied=kill", v.line("cat /content/file", "-v", "data:/content"), nil},
		{"volume-moving=kill", v.line("cat /content/file", "-v", "data:/content"), nil},
		{"volume-ready=2*kill", v.line("cat /content/file", "-v", "data:/content"), nil},
		{"volume-removing=kill", v.line("cat /content/file", "-v", "data:/content"), nil}, // the anonymous one
		{"volume-removed=kill", []string{"volume", "rm", "-f", "data"}, []string{"volume", "create", "data"}},
	} {
		t.Run(test.point, func(t *testing.T) {
			v := v.in(t)
			v.daemon.Stop()
			v.daemon.Env = []string{"MINI_FAILPOINT=" + test.point}
			v.daemon.Start()
			if test.before != nil {
				v.do(test.before...)
			}
			v.try(nil, test.args...)
			if !v.daemon.WaitEnd(10 * time.Second) {
				t.Fatal("it was not killed")
			}
			v.daemon.Env = nil
			v.daemon.Start()
			testenv.Eventually(t, 10*time.Second, "what was begun is removed", func() bool {
				return v.do("ps", "-aq") == "" && v.do("volume", "ls", "-qf", "name=[0-9a-f]{64}") == ""
			})
			if out := v.do(test.args...); test.args[0] == "run" && out != "of the image\n" {
				t.Errorf("printed %q", out)
			}
			v.do("volume", "rm", "-f", "data")
			v.listed("")
			if left, err := filepath.Glob(filepath.Join(v.d.Root, "volumes/*/*")); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

package scenario_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/internal/testenv"
)

const commitScript = `mkdir -p /made/sub; echo new > /made/file; ln /made/file /made/hard; ln -s file /made/link; rm /bin/cat; chown 7:8 /made/file; echo ready; sleep 1000`

// TestArchivesCommitIsLikeDocker makes images of containers with both, and compares what they say of themselves and what is
// in them.
func TestArchivesCommitIsLikeDocker(t *testing.T) {
	n, docker := beside(t)
	for _, of := range []nerd{n, docker} {
		of.do("run", "-d", "--name", "work", "--network", "none", "-e", "A=b", "-w", "/tmp", "-u", "0", "--label", "of=container", "--expose", "7000", "-v", "/anon", "bb:1", "sh", "-c", commitScript)
		testenv.Eventually(t, 20*time.Second, "the files are made", func() bool { return strings.Contains(of.try(nil, "logs", "work").Stdout, "ready") })
	}
	id := regexp.MustCompile(`^sha256:[0-9a-f]{64}\n$`)
	change := []string{"-c", `CMD ["sh", "-c", "echo changed $B; ls /bin/cat; stat -c '%u %g %h' /made/file"]`, "-c", "ENV B=c$A", "-c", "LABEL l=m", "-c", "EXPOSE 80 53/udp",
		"-c", "VOLUME /data", "-c", "WORKDIR sub", "-c", "USER 0:0", "-c", "ONBUILD RUN x", "-c", "HEALTHCHECK --interval=5s CMD true"}
	for _, args := range [][]string{
		{"work", "plain:1"}, append(append([]string{"-a", "me", "-m", "a comment"}, change...), "work", "changed:1"), {"-p=false", "work", "live:1"}, {"work"},
	} {
		for _, of := range []nerd{n, docker} {
			if out := of.do(append([]string{"commit"}, args...)...); !id.MatchString(out) {
				t.Errorf("%s commit %v printed %q", of.program, args, out)
			}
		}
	}
	for _, image := range []string{"plain:1", "changed:1", "live:1"} {
		const part = "{{json .Config.Cmd}} {{json .Config.Entrypoint}} {{json .Config.Env}} {{json .Config.ExposedPorts}} {{json .Config.Labels}} {{json .Config.User}} {{json .Config.WorkingDir}} {{json .Config.Volumes}} {{.Author}} {{.Comment}} {{.Architecture}} {{len .RootFS.Layers}}"
		if image == "changed:1" {
			differ(t, strings.ReplaceAll(n.do("image", "inspect", "-f", part, image), " ", "\n"), strings.ReplaceAll(docker.do("image", "inspect", "-f", part, image), " ", "\n"), never)
		} else if a, b := n.do("image", "inspect", "-f", part, image), docker.do("image", "inspect", "-f", part, image); a != b {
			t.Errorf("%s:\n%sdocker:\n%s", image, a, b)
		}
		const history = "{{.CreatedBy}}|{{.Comment}}"
		if a, b := n.do("history", "--no-trunc", "--format", history, image), docker.do("history", "--no-trunc", "--format", history, image); first(a) != first(b) {
			t.Errorf("history of %s: %q, docker's %q", image, first(a), first(b))
		}
	}
	want, got := docker.try(nil, "run", "--rm", "--network", "none", "changed:1"), n.try(nil, "run", "--rm", "--network", "none", "changed:1")
	if got.Stdout != want.Stdout || !strings.Contains(got.Stdout, "changed cb\n7 8 2\n") {
		t.Errorf("the image wrote %q %s, docker's %q", got.Stdout, got.Stderr, want.Stdout)
	}
	if a, b := lines(n.do("diff", "work")), lines(docker.do("diff", "work")); !slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))) {
		t.Errorf("diff: %v, docker's %v", a, b)
	}
	if out := n.do("ps", "--format", "{{.State}}", "--filter", "name=work"); out != "running\n" {
		t.Errorf("after the commits it is %s", out)
	}
	t.Log("errors")
	for _, test := range []struct {
		args []string
		word string
	}{
		{[]string{"nosuch"}, "No such container: nosuch"}, {[]string{"work", "UPPER"}, "must be lower ?case"}, {[]string{"-c", "RUN x", "work"}, "RUN is not|run is not a valid change"},
		{[]string{"-c", "EXPOSE x", "work"}, "[Pp]ort|proto"}, {nil, ""},
	} {
		args := append([]string{"commit"}, test.args...)
		want, got := docker.try(nil, args...), n.try(nil, args...)
		if got.Code != want.Code {
			t.Errorf("%v: code %d, docker's %d: %s%s", args, got.Code, want.Code, got.Stderr, want.Stderr)
		}
		for _, text := range []string{got.Stderr, want.Stderr} {
			if !regexp.MustCompile(test.word).MatchString(text) {
				t.Errorf("%v: no %q in %s", args, test.word, text)
			}
		}
	}
	refused(t, n.try(nil, "commit", "--format", "tar", "work"), "use docker or oci")
}

func never(string) bool { return false }

func first(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// TestArchivesCommitTravels pushes an image that was made of a container, pulls it elsewhere, saves and loads it with docker,
// exports a container and imports that; in every form the files are the same.
func TestArchivesCommitTravels(t *testing.T) {
	testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	n := newNerd(t, d)
	dir := testenv.Dir(t)
	n.do("pull", "-q", r.Ref("busybox"))
	n.do("run", "-d", "--name", "work", "--network", "none", r.Ref("busybox"), "sh", "-c", commitScript)
	testenv.Eventually(t, 20*time.Second, "the files are made", func() bool { return strings.Contains(n.try(nil, "logs", "work").Stdout, "ready") })
	list := []string{"sh", "-c", "cd /made; ls -ln . | tail -n +2; ls /bin/cat 2>&1; stat -c %h file"}
	want := n.do(append([]string{"exec", "work"}, list...)...)
	n.do("stop", "-t0", "work")
	for _, form := range [][]string{{"--format", "docker"}, {"--format", "oci"}, {"--format", "oci", "--compression", "zstd"}, {"--compression", "uncompressed"}} {
		ref := fmt.Sprintf("%s/made:%s", r.Address, strings.ReplaceAll(strings.Join(form, ""), "-", ""))
		n.do(append(append([]string{"commit"}, form...), "work", ref)...)
		n.do("push", ref)
		n.do("rmi", ref)
		if got := n.do(append([]string{"run", "--rm", "--network", "none", "--pull", "always", ref}, list...)...); got != want {
			t.Errorf("%v: %s, want %s", form, got, want)
		}
	}
	archive := filepath.Join(dir, "files.tar")
	n.do("export", "-o", archive, "work")
	data, err := os.ReadFile(archive)
	check(t, err)
	web := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer web.Close()
	for _, program := range []string{"gzip", "bzip2", "xz"} {
		testenv.Need(t, program)
		testenv.Run(t, program, "-k", archive)
	}
	for i, from := range []string{archive, "-", archive + ".gz", archive + ".bz2", archive + ".xz", web.URL + "/files.tar.gz"} {
		ref := fmt.Sprintf("imported:%d", i)
		o := n.try(strings.NewReader(string(data)), "import", "-m", "said", "-c", `CMD ["true"]`, "--platform", "linux/amd64", from, ref)
		if o.Code != 0 {
			t.Errorf("import %s: %s", from, o.Stderr)
			continue
		}
		if got := n.do(append([]string{"run", "--rm", "--network", "none", ref}, list...)...); got != want {
			t.Errorf("imported from %s: %s, want %s", from, got, want)
		}
		if got := first(n.do("history", "--format", "{{.Comment}}", ref)); got != "said" {
			t.Errorf("history %q", got)
		}
	}
	refused(t, n.try(strings.NewReader("nothing"), "import", "-"), "not an archive of files")
	refused(t, n.try(nil, "import", filepath.Join(dir, "none")), "no such file")
	refused(t, n.try(nil, "import", web.URL+"/none"), "404")
	d.Minictr("check")
}

// TestArchivesCrash kills the daemon in the middle of a commit and of copies, and the client in the middle of copies:
// nothing is left, the container runs, and the same command works afterwards.
func TestArchivesCrash(t *testing.T) {
	testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	d := testenv.Daemon(t, testenv.DaemonOptions{})
	n := newNerd(t, d)
	dir := testenv.Dir(t)
	n.do("pull", "-q", r.Ref("busybox"))
	n.do("run", "-d", "--name", "work", "--network", "none", r.Ref("busybox"), "sh", "-c", "echo x > /made; head -c 64m /dev/urandom > /big; i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.05; done")
	counts := func(what string) {
		t.Helper()
		before := ""
		testenv.Eventually(t, 20*time.Second, what+": it runs", func() bool {
			o := n.try(nil, "exec", "work", "cat", "/count")
			was := before
			before = o.Stdout
			return o.Code == 0 && was != "" && o.Stdout != was
		})
	}
	counts("at first")
	mounts := func() string { return testenv.Run(t, "cat", "/proc/self/mountinfo") }
	clean, env := mounts(), d.Env
	for _, point := range []string{"frozen", "layered-before-sync", "layered-before-record"} {
		d.Stop()
		d.Env = append(env[:len(env):len(env)], failpoint.Env+"="+point+"=kill")
		d.Start()
		if o := n.try(nil, "commit", "work", "made:1"); o.Code == 0 {
			t.Errorf("%s: the commit worked", point)
		}
		if !d.WaitEnd(20 * time.Second) {
			t.Fatalf("%s: the daemon lives", point)
		}
		d.Env = env
		d.Start()
		counts(point)
		if out := n.do("ps", "--format", "{{.State}}"); out != "running\n" {
			t.Errorf("%s: it is %s", point, out)
		}
		if out := n.do("images", "-q", "made"); out != "" {
			t.Errorf("%s: there is an image %s", point, out)
		}
	}
	n.do("commit", "work", "made:1")
	if got := n.do("run", "--rm", "--network", "none", "made:1", "cat", "/made"); got != "x\n" {
		t.Errorf("the image has %q", got)
	}
	t.Log("copies that end under way")
	big := filepath.Join(dir, "big")
	check(t, os.WriteFile(big, make([]byte, 256<<20), 0o600))
	for name, args := range map[string][]string{"out": {"cp", "work:/big", filepath.Join(dir, "copy")}, "in": {"cp", big, "work:/copy"}, "export": {"export", "-o", filepath.Join(dir, "x.tar"), "work"}} {
		for _, signal := range []os.Signal{os.Interrupt, os.Kill} {
			p := n.start(args...)
			time.Sleep(60 * time.Millisecond)
			_ = p.Process.Signal(signal) // it may have ended
			_ = p.Wait()
			if names := lines(testenv.Run(t, "ls", "-A", dir)); !slices.Equal(names, []string{"big"}) && !slices.Contains(names, "copy") && !slices.Contains(names, "x.tar") {
				t.Errorf("%s, %s: left here: %v", name, signal, names)
			}
			check(t, os.RemoveAll(filepath.Join(dir, "copy")))
			check(t, os.RemoveAll(filepath.Join(dir, "x.tar")))
		}
	}
	in := n.do("exec", "work", "ls", "-A", "/")
	for _, l := range lines(in) {
		if strings.HasPrefix(l, ".") && l != "." {
			t.Errorf("left in the container: %s", l)
		}
	}
	p := n.start("cp", big, "work:/copy2")
	time.Sleep(30 * time.Millisecond)
	d.Kill9()
	_ = p.Wait()
	d.Start()
	counts("after a copy")
	n.do("cp", big, "work:/copy2")
	if out := n.do("exec", "work", "stat", "-c", "%s", "/copy2"); out != "268435456\n" {
		t.Errorf("copied: %s", out)
	}
	n.do("rm", "-f", "work")
	testenv.Eventually(t, 10*time.Second, "no mount is left", func() bool { return len(lines(mounts())) <= len(lines(clean)) })
	d.Minictr("check")
}

// start starts a command line, and does not wait for it.
func (n nerd) start(args ...string) *exec.Cmd {
	n.t.Helper()
	cmd := exec.Command(n.program, append(slices.Clone(n.args), args...)...)
	cmd.Env = append(os.Environ(), "MININERD_TOML="+os.DevNull)
	check(n.t, cmd.Start())
	return cmd
}

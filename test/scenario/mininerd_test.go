package scenario_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// nerd is mininerd's command line as a user has it, or docker's.
type nerd struct {
	t       *testing.T
	program string
	args    []string // before the command's
}

func newNerd(t *testing.T, d *testenv.DaemonProcess) nerd {
	t.Helper()
	return nerd{t, testenv.Binary(t, "mininerd"), []string{"--address", d.Address}}
}

// try runs a command line.
func (n nerd) try(in io.Reader, args ...string) testenv.Output {
	n.t.Helper()
	cmd := exec.CommandContext(n.t.Context(), n.program, append(slices.Clone(n.args), args...)...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &errs
	cmd.Env = append(os.Environ(), "MININERD_TOML="+os.DevNull)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		n.t.Fatalf("%s %s: %v", n.program, strings.Join(args, " "), err)
	}
	return testenv.Output{Stdout: out.String(), Stderr: errs.String(), Code: cmd.ProcessState.ExitCode()}
}

// do wants a command line to work and returns what it printed.
func (n nerd) do(args ...string) string {
	n.t.Helper()
	o := n.try(nil, args...)
	if o.Code != 0 {
		n.t.Fatalf("%s %s: exit code %d\n%s%s", filepath.Base(n.program), strings.Join(args, " "), o.Code, o.Stdout, o.Stderr)
	}
	return o.Stdout
}

// TestNerdLife goes through the life of a container as a user does.
func TestNerdLife(t *testing.T) {
	testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	n := newNerd(t, testenv.Daemon(t, testenv.DaemonOptions{}))
	image := r.Ref("busybox")
	if out := n.do("pull", image); !strings.Contains(out, "Status: Downloaded newer image for "+image) {
		t.Errorf("pull printed %q", out)
	}
	if out := n.do("pull", "-q", image); out != image+"\n" {
		t.Errorf("pull -q printed %q", out)
	}
	dir := testenv.Dir(t)
	id := strings.TrimSpace(n.do("run", "-d", "--name", "life", "--network=none", "-eA=b", "-v"+dir+":/shared", "--label", "k=v", "--hostname", "inside", "-m64m",
		"--cidfile", filepath.Join(dir, "cid"), image, "sh", "-c", "echo out; echo err >&2; hostname; trap 'exit 9' TERM; while :; do sleep 0.1; done"))
	if cid, err := os.ReadFile(filepath.Join(dir, "cid")); err != nil || string(cid) != id || len(id) != 64 {
		t.Errorf("cidfile %q, id %q, %v", cid, id, err)
	}
	if out := n.do("ps", "--format", "{{.Names}} {{.ID}} {{.State}} {{.Label \"k\"}}"); out != "life "+id[:12]+" running v\n" {
		t.Errorf("ps printed %q", out)
	}
	if out := n.do("exec", "life", "sh", "-c", "echo $A; cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; touch /shared/here"); !strings.HasPrefix(out, "b\n67108864") {
		t.Errorf("exec printed %q", out)
	}
	if _, err := os.Stat(filepath.Join(dir, "here")); err != nil {
		t.Error(err)
	}
	testenv.Eventually(t, 5*time.Second, "the log has all lines", func() bool {
		o := n.try(nil, "logs", "life")
		return o.Stdout == "out\ninside\n" && o.Stderr == "err\n"
	})
	// Which of two streams came last is not known: each has a pipe of its own.
	if o := n.try(nil, "logs", "-n1", "life"); o.Stdout+o.Stderr != "inside\n" && o.Stdout+o.Stderr != "err\n" {
		t.Errorf("logs -n1 printed %q and %q", o.Stdout, o.Stderr)
	}
	n.do("pause", "life")
	if out := n.do("ps"); !strings.Contains(out, "(Paused)") {
		t.Errorf("ps: %s", out)
	}
	n.do("unpause", "life")
	n.do("rename", "life", "second")
	if out := n.do("stop", id[:6]); out != id[:6]+"\n" {
		t.Errorf("stop printed %q", out)
	}
	if out := n.do("wait", "second"); out != "9\n" {
		t.Errorf("wait printed %q", out)
	}
	if out := n.do("inspect", "-f", "{{.Name}} {{.State.Status}} {{.State.ExitCode}} {{.HostConfig.Memory}} {{json .Config.Labels}}", "second"); out != "/second exited 9 67108864 {\"k\":\"v\"}\n" {
		t.Errorf("inspect printed %q", out)
	}
	if out := n.do("ps", "-aq", "--filter", "exited=9"); out != id[:12]+"\n" {
		t.Errorf("ps by exit code: %q", out)
	}
	n.do("restart", "-t0", "second")
	refused(t, n.try(nil, "rm", "second"), `cannot remove container "second": container is running`)
	n.do("rm", "second", "-f")
	if out := n.do("ps", "-aq"); out != "" {
		t.Errorf("left: %q", out)
	}
}

// TestNerdFiles copies into and out of a container that runs and one that does not, and looks at what it has changed.
func TestNerdFiles(t *testing.T) {
	testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	n := newNerd(t, testenv.Daemon(t, testenv.DaemonOptions{}))
	dir := testenv.Dir(t)
	n.do("pull", "-q", r.Ref("busybox"))
	n.do("run", "-d", "--name=files", "--network=none", r.Ref("busybox"), "sh", "-c", "mkdir /made; echo in > /made/file; rm /bin/cat; sleep 600")
	want := "C /bin\nD /bin/cat\nA /made\nA /made/file\n"
	testenv.Eventually(t, 5*time.Second, "diff tells of the changes", func() bool { return strings.Contains(n.do("diff", "files"), want) })
	if err := os.WriteFile(filepath.Join(dir, "in"), []byte("from here"), 0o644); err != nil {
		t.Fatal(err)
	}
	for i, state := range []string{"running", "exited"} {
		if i == 1 {
			n.do("kill", "files")
		}
		n.do("cp", "files:/made", filepath.Join(dir, state))
		if data, err := os.ReadFile(filepath.Join(dir, state, "file")); err != nil || string(data) != "in\n" {
			t.Errorf("%s: copied out %q, %v", state, data, err)
		}
		n.do("cp", filepath.Join(dir, "in"), "files:/made/"+state)
		archive := filepath.Join(dir, state+".tar")
		n.do("export", "-o", archive, "files")
		if out := testenv.Run(t, "tar", "-xOf", archive, "made/"+state); out != "from here" {
			t.Errorf("%s: the export has %q", state, out)
		}
		refused(t, n.try(nil, "cp", "files:/nothing", dir), "could not find the file /nothing in container files")
	}
	if out := n.do("diff", "files"); !strings.Contains(out, "A /made/exited\n") {
		t.Errorf("diff printed %q", out)
	}
}

// TestNerdImages tags, saves, removes, loads and pushes.
func TestNerdImages(t *testing.T) {
	i := testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	n := newNerd(t, testenv.Daemon(t, testenv.DaemonOptions{}))
	image, archive := r.Ref("busybox"), filepath.Join(testenv.Dir(t), "image.tar")
	n.do("pull", "-q", image)
	n.do("tag", image, "mine:1")
	if out := n.do("images", "--format", "{{.Repository}}:{{.Tag}} {{.Digest}}", "mine"); out != "mine:1 "+i.Digest+"\n" {
		t.Errorf("images printed %q", out)
	}
	n.do("save", "-o", archive, "mine:1")
	if out := n.do("rmi", "mine:1"); out != "Untagged: mine:1\n" {
		t.Errorf("rmi printed %q", out)
	}
	if out := n.do("rmi", image); !strings.Contains(out, "Deleted: sha256:") {
		t.Errorf("rmi printed %q", out)
	}
	if out := n.do("load", "-i", archive); out != "Loaded image: mine:1\n" {
		t.Errorf("load printed %q", out)
	}
	n.do("tag", "mine:1", r.Address+"/pushed:2")
	if out := n.do("push", r.Address+"/pushed:2"); !strings.Contains(out, "2: digest: "+i.Digest) {
		t.Errorf("push printed %q", out)
	}
	if out := n.do("run", "--rm", "--network=none", "--pull=always", r.Address+"/pushed:2", "echo", "pushed"); out != "pushed\n" {
		t.Errorf("the pushed image wrote %q", out)
	}
	if out := n.do("history", "-q", "mine:1"); !regexp.MustCompile(`(?m)^[0-9a-f]{12}$`).MatchString(out) {
		t.Errorf("history printed %q", out)
	}
}

// TestNerdLogin logs in to a registry that wants it.
func TestNerdLogin(t *testing.T) {
	testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{BasicAuth: true})
	n := newNerd(t, testenv.Daemon(t, testenv.DaemonOptions{}))
	t.Setenv("DOCKER_CONFIG", testenv.Dir(t))
	refused(t, n.try(nil, "pull", r.Ref("busybox")), "401")
	refused(t, n.try(strings.NewReader("wrong"), "login", "-u", testenv.User, "--password-stdin", r.Address), "401")
	if o := n.try(strings.NewReader(testenv.Password+"\n"), "login", "-u", testenv.User, "--password-stdin", r.Address); o.Code != 0 || o.Stdout != "Login Succeeded\n" {
		t.Fatalf("%+v", o)
	}
	n.do("pull", "-q", r.Ref("busybox"))
	if out := n.do("logout", r.Address); out != "Removing login credentials for "+r.Address+"\n" {
		t.Errorf("logout printed %q", out)
	}
}

// TestNerdTerminal types at a container on a terminal: commands, the detach keys, and an interrupt.
func TestNerdTerminal(t *testing.T) {
	testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	n := newNerd(t, testenv.Daemon(t, testenv.DaemonOptions{}))
	n.do("pull", "-q", r.Ref("busybox"))
	s := showProgram(t, 97, 31, n.program, append(n.args, "run", "-it", "--name=tty", "--network=none", r.Ref("busybox"), "sh")...)
	s.typed("stty size; echo do''ne\n")
	s.sees("31 97")
	s.sees("done")
	s.typed("\x10\x11") // ctrl-p ctrl-q
	if code := s.code(); code != 0 {
		t.Errorf("detached: code %d", code)
	}
	if out := n.do("ps", "-q", "--filter", "name=^tty$"); out == "" {
		t.Error("the container has ended with its attachment")
	}
	s = showProgram(t, 80, 24, n.program, append(n.args, "attach", "tty")...)
	s.typed("echo at''tached; exit 5\n")
	s.sees("attached")
	if code := s.code(); code != 5 {
		t.Errorf("attach: code %d, want 5", code)
	}
	s = showProgram(t, 80, 24, n.program, append(n.args, "run", "--rm", "--network=none", r.Ref("busybox"), "sh", "-c", "trap 'exit 6' INT; echo re''ady; while :; do sleep 0.1; done")...)
	s.sees("ready")
	s.typed("\x03")
	if code := s.code(); code != 6 {
		t.Errorf("interrupted: code %d, want 6", code)
	}
}

// TestNerdNetwork publishes a port, and finds a container by its name in a network.
func TestNerdNetwork(t *testing.T) {
	testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	n := newNerd(t, testenv.Daemon(t, testenv.DaemonOptions{}))
	n.do("pull", "-q", r.Ref("busybox"))
	n.do("network", "create", "--label", "a=b", "pair")
	n.do("run", "-d", "--name=server", "--network=pair", "--network-alias=alias", "-p", "127.0.0.1::80", r.Ref("busybox"), "sh", "-c", "echo served > /index.html; httpd -f -p 80 -h /")
	for _, name := range []string{"server", "alias"} {
		testenv.Eventually(t, 10*time.Second, name+" answers", func() bool {
			return n.try(nil, "run", "--rm", "--network=pair", r.Ref("busybox"), "wget", "-qO-", "http://"+name+"/").Stdout == "served\n"
		})
	}
	address := strings.TrimSpace(n.do("port", "server", "80"))
	if out := testenv.Run(t, "curl", "-s", "http://"+address+"/"); out != "served\n" {
		t.Errorf("%s serves %q", address, out)
	}
	if out := n.do("network", "inspect", "-f", "{{range .Containers}}{{.Name}}{{end}} {{.Labels.a}}", "pair"); out != "server b\n" {
		t.Errorf("network inspect printed %q", out)
	}
	refused(t, n.try(nil, "network", "rm", "pair"), "pair", "server")
	n.do("rm", "-f", "server")
	if out := n.do("network", "prune", "-f"); !strings.Contains(out, "pair") {
		t.Errorf("network prune printed %q", out)
	}
}

// TestNerdIsLikeDocker gives the same command lines to docker, and compares codes, words and what inspect has.
func TestNerdIsLikeDocker(t *testing.T) {
	testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	n := newNerd(t, testenv.Daemon(t, testenv.DaemonOptions{}))
	docker := nerd{t, "docker", []string{"--host", startDocker(t)}}
	archive := filepath.Join(testenv.Dir(t), "image.tar")
	n.do("pull", "-q", r.Ref("busybox"))
	n.do("tag", r.Ref("busybox"), "bb:1")
	n.do("save", "-o", archive, "bb:1")
	docker.do("load", "-i", archive)
	ids := regexp.MustCompile(`[0-9a-f]{64}|[0-9a-f]{12}`)
	for _, test := range []struct {
		line   string
		same   bool   // the output is the same, but for ids
		stderr string // words that both have
	}{
		{"run -d --name web --network none --label a=b bb:1 sleep 600", true, ""},
		{"run --rm --network none bb:1 sh -c 'exit'", false, ""},
		{"run --rm --network none bb:1 false", true, ""},
		{"run --rm --network none bb:1 nosuchprogram", true, "nosuchprogram"},
		{"run --rm --network none bb:1 /etc", true, "/etc"},
		{"run --rm --network none --env A=b --workdir /tmp bb:1 sh -c pwd;echo␣$A", true, ""},
		{"run --network none --pull never nosuchimage", true, ""},
		{"run --nosuchflag bb:1", true, "nosuchflag"},
		{"run -it --rm --network none bb:1", true, "the input device is not a TTY"},
		{"run --rm --network none --restart always bb:1", true, "conflicting options"},
		{"run --rm -m 1m bb:1", true, "6MB"},
		{"ps --format {{.Names}}:{{.Image}}:{{.Command}}:{{.State}}:{{.Label␣\"a\"}}:{{.Networks}}", true, ""},
		{"ps -aq --filter name=web", true, ""},
		{"ps --filter status=well", true, "well"},
		{"ps --filter colour=red", true, "nvalid filter"},
		{"ps --format {{.Nothing}}", true, "Nothing"},
		{"images --format {{.Repository}}:{{.Tag}}:{{.ID}} bb", true, ""},
		{"inspect --format {{.Name}}|{{.Path}}|{{.Args}}|{{.State.Status}}|{{.Config.Image}}|{{.Config.Labels}}|{{.HostConfig.NetworkMode}}|{{.HostConfig.ShmSize}} web", true, ""},
		{"inspect nosuch", true, "nosuch"},
		{"image inspect nosuch", true, "nosuch"},
		{"exec web echo hi", true, ""},
		{"exec web sh -c exit␣4", true, ""},
		{"exec nosuch true", true, "No such container: nosuch"},
		{"port web", true, ""},
		{"top nosuch", true, "nosuch"},
		{"logs nosuch", true, "No such container: nosuch"},
		{"start nosuch", true, "No such container: nosuch"},
		{"rm web", true, ""},
		{"rmi bb:1", true, "conflict"},
		{"stop -t 0 web nosuch", true, "No such container: nosuch"},
		{"wait web", true, ""},
		{"kill web", true, "not running"},
		{"exec web true", true, "is not running"},
		{"ps -a --format {{.Names}}:{{.State}}", true, ""},
		{"rename web web2", true, ""},
		{"rm web2", true, ""},
		{"ps -a", true, ""},
		{"rm -f web2", false, ""},
		{"nosuchcommand", true, "nosuchcommand"},
		{"network create", true, ""},
		{"login --password-stdin", true, "--username"},
	} {
		args := strings.Fields(test.line)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "␣", " ")
		}
		want, got := docker.try(nil, args...), n.try(nil, args...)
		if got.Code != want.Code {
			t.Errorf("%s: code %d, docker's %d\n%s%s", test.line, got.Code, want.Code, got.Stderr, want.Stderr)
		}
		a, b := ids.ReplaceAllString(got.Stdout, "ID"), ids.ReplaceAllString(want.Stdout, "ID")
		if test.same && a != b {
			t.Errorf("%s: printed\n%s docker:\n%s", test.line, a, b)
		}
		for name, text := range map[string]string{"mininerd": got.Stderr, "docker": want.Stderr} {
			if !strings.Contains(text, test.stderr) {
				t.Errorf("%s: %s does not say %q:\n%s", test.line, name, test.stderr, text)
			}
		}
	}
	compareKeys(t, n, docker)
}

// compareKeys wants inspect to have the fields that docker's has.
func compareKeys(t *testing.T, n, docker nerd) {
	t.Helper()
	for _, of := range []nerd{n, docker} {
		of.do("run", "-d", "--name=keys", "--network=none", "bb:1", "sleep", "600")
	}
	for _, part := range []string{"", "State.", "Config."} {
		field := "{{json ." + strings.TrimSuffix(part, ".") + "}}"
		want := decode[map[string]json.RawMessage](t, docker.do("inspect", "-f", field, "keys"))
		got := decode[map[string]json.RawMessage](t, n.do("inspect", "-f", field, "keys"))
		for _, k := range slices.Sorted(maps.Keys(want)) {
			if _, ok := got[k]; !ok {
				t.Errorf("inspect has no %s%s", part, k)
			}
		}
	}
}

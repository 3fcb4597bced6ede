package scenario_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// elsewhere is another machine: a process in network and mount namespaces of its own, joined to this one's by a cable. The
// daemon's directory is not to be seen there.
type elsewhere struct {
	t   *testing.T
	pid string
}

const hereAddress, thereAddress = "192.0.2.1", "192.0.2.2"

// newElsewhere makes the cable as well. testenv.Network comes before it.
func newElsewhere(t *testing.T) *elsewhere {
	t.Helper()
	testenv.Need(t, "ip", "unshare", "nsenter")
	cmd := exec.Command("unshare", "--net", "--mount", "sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	e := &elsewhere{t, strconv.Itoa(cmd.Process.Pid)}
	testenv.Eventually(t, 10*time.Second, "the other machine is there", func() bool {
		own, err := os.Readlink("/proc/thread-self/ns/net")
		other, otherErr := os.Readlink("/proc/" + e.pid + "/ns/net")
		comm, commErr := os.ReadFile("/proc/" + e.pid + "/comm")
		return err == nil && otherErr == nil && commErr == nil && own != other && string(comm) == "sleep\n"
	})
	testenv.Run(t, "ip", "link", "add", "here0", "type", "veth", "peer", "name", "there0", "netns", e.pid)
	testenv.Run(t, "ip", "address", "add", hereAddress+"/24", "dev", "here0")
	testenv.Run(t, "ip", "link", "set", "here0", "up")
	e.run("ip", "address", "add", thereAddress+"/24", "dev", "there0")
	e.run("ip", "link", "set", "there0", "up")
	return e
}

func (e *elsewhere) enter(args ...string) []string {
	return append([]string{"-t", e.pid, "--net", "--mount"}, args...)
}

func (e *elsewhere) run(args ...string) string {
	e.t.Helper()
	return testenv.Run(e.t, "nsenter", e.enter(args...)...)
}

// hide covers a directory.
func (e *elsewhere) hide(dir string) {
	e.t.Helper()
	e.run("mount", "-t", "tmpfs", "none", dir)
}

// client is a command line there.
func (e *elsewhere) client(program string, args ...string) nerd {
	e.t.Helper()
	return nerd{e.t, "nsenter", e.enter(append([]string{testenv.Binary(e.t, program)}, args...)...)}
}

// certificates are those of a daemon at hereAddress and its clients.
type certificates struct {
	t    *testing.T
	dir  string
	ours *testenv.Authority
}

func newCertificates(t *testing.T) *certificates {
	t.Helper()
	c := &certificates{t: t, dir: testenv.Dir(t)}
	c.ours = testenv.NewAuthority(t, c.file("ca.pem"))
	tomorrow := time.Now().Add(24 * time.Hour)
	c.issue("server", tomorrow)
	c.ours.Issue(t, "alice", c.file("cert.pem"), c.file("key.pem"), tomorrow)
	c.issue("late", time.Now().Add(-time.Hour))
	other := testenv.NewAuthority(t, c.file("other.pem"))
	other.Issue(t, "mallory", c.file("mallory.pem"), c.file("mallory.key"), tomorrow)
	return c
}

func (c *certificates) file(name string) string { return filepath.Join(c.dir, name) }

func (c *certificates) issue(name string, until time.Time) {
	c.t.Helper()
	c.ours.Issue(c.t, name, c.file(name+".pem"), c.file(name+".key"), until, hereAddress)
}

func (c *certificates) config(port int) string {
	return fmt.Sprintf("[api]\ntcp = \"%s:%d\"\ntls_cert = %q\ntls_key = %q\ntls_ca = %q\n", hereAddress, port, c.file("server.pem"), c.file("server.key"), c.file("ca.pem"))
}

const remotePort = 2376

// TestNerdRemote works with a daemon from another machine, where none of its files are.
func TestNerdRemote(t *testing.T) {
	testenv.Image(t, "busybox")
	testenv.Network(t)
	e := newElsewhere(t)
	c := newCertificates(t)
	r := testenv.Registry(t, testenv.RegistryOptions{BasicAuth: true})
	d := testenv.Daemon(t, testenv.DaemonOptions{Config: c.config(remotePort)})
	e.hide(d.Dir)
	address := fmt.Sprintf("tcp://%s:%d", hereAddress, remotePort)
	n := e.client("mininerd", "-H", address, "--tlsverify", "--tlscacert", c.file("ca.pem"), "--tlscert", c.file("cert.pem"), "--tlskey", c.file("key.pem"))
	image := r.Ref("busybox")

	t.Log("images: the login is of this side, the registry is reached from the daemon's, archives are of this side")
	t.Setenv("DOCKER_CONFIG", testenv.Dir(t))
	check(t, os.WriteFile(filepath.Join(os.Getenv("DOCKER_CONFIG"), "config.json"), login(r.Address), 0o600))
	n.do("pull", "-q", image)
	archive := c.file("image.tar")
	n.do("save", "-o", archive, image)
	n.do("tag", image, r.Address+"/pushed:1")
	n.do("push", r.Address+"/pushed:1")
	n.do("rmi", image, r.Address+"/pushed:1")
	if out := n.do("load", "-i", archive); out != "Loaded image: "+image+"\n" {
		t.Errorf("load printed %q", out)
	}

	t.Log("streams")
	if o := n.try(strings.NewReader("typed\n"), "run", "-i", "--rm", image, "sh", "-c", "cat; echo err >&2; exit 7"); o.Code != 7 || o.Stdout != "typed\n" || o.Stderr != "err\n" {
		t.Errorf("run -i: %+v", o)
	}
	n.do("run", "-d", "--name", "remote", image, "sh", "-c", "echo logged; sleep 600")
	if o := n.try(strings.NewReader("more"), "exec", "-i", "remote", "sh", "-c", "cat; exit 3"); o.Code != 3 || o.Stdout != "more" {
		t.Errorf("exec -i: %+v", o)
	}
	testenv.Eventually(t, 10*time.Second, "the log is there", func() bool { return n.do("logs", "remote") == "logged\n" })
	s := showProgram(t, 97, 31, n.program, append(slices.Clone(n.args), "run", "-it", "--rm", image, "sh")...)
	s.typed("stty size; exit 4\n")
	s.sees("31 97")
	if code := s.code(); code != 4 {
		t.Errorf("run -it: code %d", code)
	}
	large := c.file("large")
	check(t, os.WriteFile(large, []byte(strings.Repeat("0123456789abcdef", 1<<16)), 0o600))
	in, err := os.Open(large)
	check(t, err)
	defer in.Close()
	if o := n.try(in, "exec", "-i", "remote", "wc", "-c"); strings.TrimSpace(o.Stdout) != "1048576" {
		t.Errorf("a MiB through exec: %+v", o)
	}

	t.Log("what is told of the machine is the daemon's word")
	if out := n.do("info", "-f", "{{.Name}} {{.NCPU}}"); out != strings.TrimSpace(testenv.Run(t, "hostname"))+" "+testenv.Run(t, "nproc") {
		t.Errorf("info printed %q", out)
	}
	if out := n.do("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", "remote"); !strings.HasPrefix(out, "remote ") || strings.Contains(out, "/ 0B") {
		t.Errorf("stats printed %q", out)
	}
	for _, args := range [][]string{{"ps"}, {"inspect", "remote"}, {"top", "remote"}, {"port", "remote"}, {"system", "df"}, {"network", "ls"}, {"version"}, {"rm", "-f", "remote"}} {
		n.do(args...)
	}

	t.Log("minictr does the same, from its variables")
	t.Setenv("MINID_CERT_PATH", c.dir)
	low := e.client("minictr", "--address", address)
	if out := low.do("images", "ls", "-q"); !strings.Contains(out, image) {
		t.Errorf("minictr printed %q", out)
	}
	if out := low.do("run", "--rm", image, "low", "echo", "through"); out != "through\n" {
		t.Errorf("minictr run printed %q", out)
	}
	if log := d.Log(); !strings.Contains(log, `msg="a remote client has connected" peer_addr=`+thereAddress) || !strings.Contains(log, "peer_name=alice") {
		t.Error("the daemon's log does not say who came")
	}
}

// login is docker's config.json with the tests' login.
func login(server string) []byte {
	return fmt.Appendf(nil, `{"auths": {%q: {"username": %q, "password": %q}}}`, server, testenv.User, testenv.Password)
}

// TestNerdRemoteRefused is about who is not let in, what is said then, and certificates that are renewed.
func TestNerdRemoteRefused(t *testing.T) {
	testenv.Network(t)
	e := newElsewhere(t)
	c := newCertificates(t)
	d := testenv.Daemon(t, testenv.DaemonOptions{Config: c.config(remotePort)})
	address := fmt.Sprintf("tcp://%s:%d", hereAddress, remotePort)
	ca, pair := []string{"--tlscacert", c.file("ca.pem")}, []string{"--tlscert", c.file("cert.pem"), "--tlskey", c.file("key.pem")}
	for _, tc := range []struct {
		name string
		args []string
		want string
	}{
		{"the wrong authority", append([]string{"--tlscacert", c.file("other.pem")}, pair...), "the daemon's certificate is not signed by " + c.file("other.pem")},
		{"no certificate", ca, "the daemon wants a certificate from its clients: pass one by --tlscert and --tlskey"},
		{"a stranger's", append([]string{"--tlscert", c.file("mallory.pem"), "--tlskey", c.file("mallory.key")}, ca...), "it is not signed by the authority that the daemon trusts"},
		{"expired", append([]string{"--tlscert", c.file("late.pem"), "--tlskey", c.file("late.key")}, ca...), "it is not valid now: renew it"},
		{"no TLS", nil, "needs TLS: pass --tlsverify"},
		{"no key", append([]string{"--tlscert", c.file("cert.pem")}, ca...), "name both the certificate and the key"},
	} {
		o := e.client("mininerd", append([]string{"-H", address}, tc.args...)...).try(nil, "run", "--rm", "image")
		if o.Code != 125 || !strings.Contains(o.Stderr, tc.want) {
			t.Errorf("%s: code %d, %q; want 125, %q", tc.name, o.Code, o.Stderr, tc.want)
		}
	}

	t.Log("the flag comes before the variable, that before the file")
	file := c.file("mininerd.toml")
	check(t, os.WriteFile(file, fmt.Appendf(nil, "address = %q\ntlscacert = %q\ntlscert = %q\ntlskey = %q\n", address, c.file("ca.pem"), c.file("late.pem"), c.file("late.key")), 0o600))
	version := func(env []string, args ...string) testenv.Output {
		t.Helper()
		n := e.client("mininerd")
		cmd := exec.CommandContext(t.Context(), n.program, append(append(slices.Clone(n.args), args...), "version")...)
		cmd.Env = append(append(os.Environ(), "MININERD_TOML="+file), env...)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return testenv.Output{Stdout: string(out), Code: cmd.ProcessState.ExitCode()}
	}
	fromVariable := []string{"MININERD_TLSCERT=" + c.file("cert.pem"), "MININERD_TLSKEY=" + c.file("key.pem")}
	if o := version(nil); o.Code == 0 || !strings.Contains(o.Stdout, "renew it") {
		t.Errorf("by the file: %+v", o)
	}
	if o := version(fromVariable); o.Code != 0 {
		t.Errorf("by variables: %+v", o)
	}
	if o := version(fromVariable, "--tlscert", c.file("mallory.pem"), "--tlskey", c.file("mallory.key")); o.Code == 0 || !strings.Contains(o.Stdout, "not signed by") {
		t.Errorf("by flags: %+v", o)
	}

	t.Log("a renewed certificate is served without a restart")
	n := e.client("mininerd", append(append([]string{"-H", address, "--debug"}, ca...), pair...)...)
	n.do("version")
	c.issue("server", time.Now().Add(-time.Minute))
	if o := n.try(nil, "version"); o.Code == 0 || !strings.Contains(o.Stderr, "the daemon's certificate is not valid now") {
		t.Errorf("with an old one: %+v", o)
	}
	c.issue("server", time.Now().Add(24*time.Hour))
	n.do("version")
	if log := d.Log(); strings.Count(log, "a remote client is refused") < 4 {
		t.Errorf("the daemon's log does not tell of all refusals")
	}

	t.Log("a daemon that would let in everybody does not start")
	d.Stop()
	text, err := os.ReadFile(d.Config)
	check(t, err)
	open := filepath.Join(c.dir, "open.toml")
	whole, _, _ := strings.Cut(string(text), "[api]")
	for _, tc := range [][2]string{
		{"tcp = \"0.0.0.0:2375\"", "everybody who reaches 0.0.0.0:2375 would be root here"},
		{"tcp = \"0.0.0.0:2375\"\ninsecure = true", "is not a loopback address"},
	} {
		check(t, os.WriteFile(open, []byte(whole+"[api]\n"+tc[0]+"\n"), 0o600))
		out, err := exec.CommandContext(t.Context(), testenv.Binary(t, "minid"), "--config", open).CombinedOutput()
		if err == nil || !strings.Contains(string(out), tc[1]) {
			t.Errorf("%s: %v, %s", tc[0], err, out)
		}
	}
	t.Log("without TLS at the loopback address, when that is said")
	check(t, os.WriteFile(d.Config, []byte(whole+"[api]\ntcp = \"127.0.0.1:2375\"\ninsecure = true\n"), 0o600))
	d.Start()
	nerd{t, testenv.Binary(t, "mininerd"), []string{"-H", "tcp://127.0.0.1:2375"}}.do("version")
	if err := syscall.Kill(d.PID(), 0); err != nil {
		t.Error(err)
	}
}

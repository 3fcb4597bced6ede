package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/runtime/api"
)

func newFake() *fake {
	return &fake{
		containers: []*api.Container{
			{Id: "aaaaaaaaaaaaaaaaaaaa", Name: "web", State: "running", Image: "docker.io/library/nginx:latest", CreatedAt: time.Now().Add(-time.Hour).UnixNano(), StartedAt: time.Now().Add(-time.Hour).UnixNano(),
				Args: []string{"nginx"}, Ports: []*api.PublishedPort{{HostIp: "127.0.0.1", HostPort: 8080, ContainerPort: 80}}},
			{Id: "bbbbbbbbbbbbbbbbbbbb", Name: "old", State: "exited", Exit: &api.Exit{Code: 2}, CreatedAt: time.Now().Add(-2 * time.Hour).UnixNano(), Spec: []byte(`{"process":{"args":["sh"]}}`)},
		},
		images: []*api.Image{{Name: "nginx", Id: "sha256:i"}},
	}
}

// TestVerbs runs command lines one after the other, and compares what they print, their code, and what the daemon was asked.
func TestVerbs(t *testing.T) {
	for _, test := range []struct {
		line      string
		out, errs string // parts
		code      int
		asked     string // the last thing
	}{
		{"ps -q", "aaaaaaaaaaaa\n", "", 0, ""},
		{"ps -aq --no-trunc", "aaaaaaaaaaaaaaaaaaaa\nbbbbbbbbbbbbbbbbbbbb\n", "", 0, ""},
		{"ps", "aaaaaaaaaaaa   nginx     \"nginx\"   About an hour ago   Up About an hour   127.0.0.1:8080->80/tcp   web", "", 0, ""},
		{"ps -a --format {{.Names}}/{{.State}}", "web/running\nold/exited\n", "", 0, ""},
		{"ps --format {{.Nothing}}", "", "can't evaluate field Nothing", 1, ""},
		{"ps --filter colour=red", "", "invalid filter 'colour'", 1, ""},
		{"ps --nothing", "", "there is no flag --nothing", 125, ""},
		{"ps x", "", "too many arguments", 1, ""},
		{"nothing", "", `there is no command "nothing"`, 1, ""},
		{"stop -t 3 web old none", "web\nold\n", "No such container: none", 1, "stop  3000000000 bbbbbbbbbbbbbbbbbbbb"},
		{"stop web", "web\n", "", 0, "stop  unset aaaaaaaaaaaaaaaaaaaa"},
		{"container stop web --signal INT --time=0", "web\n", "", 0, "stop INT 0 aaaaaaaaaaaaaaaaaaaa"},
		{"stop --signal NONE web", "", "NONE", 1, ""},
		{"kill -s HUP web", "web\n", "", 0, "signal 1 aaaaaaaaaaaaaaaaaaaa"},
		{"kill web", "web\n", "", 0, "wait aaaaaaaaaaaaaaaaaaaa"},
		{"wait web", "3\n", "", 0, "wait aaaaaaaaaaaaaaaaaaaa"},
		{"rm old -f", "old\n", "", 0, "delete true bbbbbbbbbbbbbbbbbbbb"},
		{"rm none", "", "mininerd: No such container: none\n", 1, ""},
		{"rm -f none", "none\n", "", 0, ""},
		{"start web", "web\n", "", 0, "start aaaaaaaaaaaaaaaaaaaa"},
		{"start -a web old", "", "cannot start and attach multiple containers", 1, ""},
		{"update -m 64m web", "web\n", "", 0, `update {"memory":{"limit":67108864,"swap":134217728}} aaaaaaaaaaaaaaaaaaaa`},
		{"update web", "", "one or more flags", 1, ""},
		{"port web", "80/tcp -> 127.0.0.1:8080\n", "", 0, ""},
		{"port web 80/tcp", "127.0.0.1:8080\n", "", 0, ""},
		{"port web 81", "", "no public port '81/tcp' published for web", 1, ""},
		{"attach old", "", "cannot attach to a stopped container", 1, ""},
		{"inspect -f {{.Name}}:{{.State.ExitCode}} old", "/old:2\n", "", 0, ""},
		{"inspect none", "[]\n", "No such object: none", 1, ""},
		{"inspect --type plugin none", "", "not a valid value for --type", 1, ""},
		{"image inspect none", "[]\n", "No such image: none", 1, ""},
		{"inspect --mode native -f {{.Id}} web", "aaaaaaaaaaaaaaaaaaaa\n", "", 0, ""},
		{"run", "", "too few arguments", 1, ""},
		{"run -d nginx", "made\n", "", 0, "start made"},
		{"create --name x nginx a", "made\n", "", 0, ""},
		{"run -d --rm --restart always nginx", "", "conflicting options", 125, ""},
		{"run -a nothing nginx", "", "valid streams", 125, ""},
		{"run -d -a stdout nginx", "", "conflicting options", 125, ""},
		{"run -d --pull never other", "", "No such image: other", 125, ""},
		{"run -d --pull sometimes nginx", "", "invalid pull option", 125, ""},
		{"run -dq other", "made\n", "Unable to find image 'other:latest' locally", 0, "start made"},
		{"run -dq missing", "", "pull missing", 125, "pull missing"},
		{"run -dq --pull always nginx", "made\n", "", 0, "start made"},
		{"run -it nginx", "", "the input device is not a TTY", 1, ""},
		{"run -d --detach-keys ctrl-? nginx", "", "detach keys", 125, ""},
		{"pull -q busybox", "docker.io/library/busybox:latest\n", "", 0, "pull docker.io/library/busybox:latest"},
		{"pull busybox", "latest: Pulling from library/busybox\nDigest: sha256:1\nStatus: Downloaded newer image for busybox:latest\ndocker.io/library/busybox:latest\n", "", 0, ""},
		{"container prune", "Are you sure you want to continue? [y/N]", "", 0, ""},
		{"container prune -f", "Deleted Containers:\nbbbbbbbbbbbbbbbbbbbb\n", "", 0, "delete false bbbbbbbbbbbbbbbbbbbb"},
		{"rmi nginx", "", "", 1, ""},
	} {
		f := newFake()
		o := f.call(t, f.serve(t), strings.Fields(test.line)...)
		last := ""
		if n := len(f.asked); n > 0 {
			last = f.asked[n-1]
		}
		if o.code != test.code || !strings.Contains(o.out, test.out) || !strings.Contains(o.errs, test.errs) || test.asked != "" && last != test.asked {
			t.Errorf("%s: code %d, asked %q\n%s%s", test.line, o.code, f.asked, o.out, o.errs)
		}
	}
}

func TestCIDFile(t *testing.T) {
	f := newFake()
	socket := f.serve(t)
	name := filepath.Join(t.TempDir(), "cid")
	if o := f.call(t, socket, "create", "--pull", "never", "--cidfile", name, "none"); o.code != 125 {
		t.Errorf("%+v", o)
	}
	if _, err := os.Stat(name); !os.IsNotExist(err) {
		t.Errorf("the file of a container that was not made: %v", err)
	}
	if o := f.call(t, socket, "create", "--cidfile", name, "nginx"); o.code != 0 {
		t.Errorf("%+v", o)
	}
	if data, err := os.ReadFile(name); err != nil || string(data) != "made" {
		t.Errorf("%q, %v", data, err)
	}
	if o := f.call(t, socket, "create", "--cidfile", name, "nginx"); o.code != 125 || !strings.Contains(o.errs, "container ID file found") {
		t.Errorf("%+v", o)
	}
}

// TestSettings wants the flag before the environment before the file before the default.
func TestSettings(t *testing.T) {
	f := newFake()
	socket := f.serve(t)
	path := filepath.Join(t.TempDir(), "mininerd.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("MININERD_TOML", path)
	for _, name := range []string{"MINID_ADDRESS", "MININERD_ADDRESS"} {
		t.Setenv(name, "") // it is set back then
		if err := os.Unsetenv(name); err != nil {
			t.Fatal(err)
		}
	}
	write("address = \"" + socket + "\"\nnamespace = \"of-file\"\n")
	if o := callPlain(t, "ps", "-q"); o.code != 0 || o.out != "aaaaaaaaaaaa\n" {
		t.Errorf("file: %+v", o)
	}
	t.Setenv("MININERD_ADDRESS", "/of-environment")
	if o := callPlain(t, "ps"); o.code != 1 || !strings.Contains(o.errs, "/of-environment") {
		t.Errorf("environment: %+v", o)
	}
	if o := callPlain(t, "-H", socket, "ps", "-q"); o.code != 0 {
		t.Errorf("flag: %+v", o)
	}
	for text, want := range map[string]string{"adress = \"x\"": `there is no key "adress"`, "debug = 3": "bool", "timeout = \"long\"": "timeout"} {
		write(text)
		if o := callPlain(t, "ps"); o.code == 0 || !strings.Contains(o.errs, want) {
			t.Errorf("%s: %+v", text, o)
		}
	}
	env := map[string]string{"HOME": "/h"}
	if got := filePaths(func(k string) string { return env[k] }); !slices.Equal(got, []string{"/h/.config/mininerd/mininerd.toml", "/etc/mininerd/mininerd.toml"}) {
		t.Errorf("paths %v", got)
	}
}

// TestHelpOfEveryCommand asks every command for its help, which wants unique flags.
func TestHelpOfEveryCommand(t *testing.T) {
	t.Setenv("MININERD_TOML", os.DevNull)
	n := 0
	var walk func(path []string, commands []*cli.Command)
	walk = func(path []string, commands []*cli.Command) {
		for _, c := range commands {
			n++
			if c.Hidden {
				continue // refused, whatever stands behind it
			}
			below := append(slices.Clone(path), c.Name)
			if o := callPlain(t, append(below, "--help")...); o.code != 0 || !strings.Contains(o.out, program+" "+strings.Join(below, " ")) {
				t.Errorf("%v: %+v", below, o)
			}
			walk(below, c.Subcommands)
		}
	}
	walk(nil, newApp(nil).Commands)
	if n < 85 {
		t.Errorf("only %d commands", n)
	}
}

// TestDaily: a command that is made alone is the one that the whole program has.
func TestDaily(t *testing.T) {
	for name := range daily() {
		alone, whole := newApp([]string{program, "--debug", name, "-x"}), newApp(nil)
		if len(alone.Commands) != 1 || alone.Commands[0].Name != name {
			t.Errorf("%s is made with %d others", name, len(alone.Commands)-1)
			continue
		}
		same := whole.Command(name)
		if same == nil || len(same.VisibleFlags()) != len(alone.Commands[0].VisibleFlags()) || same.Usage != alone.Commands[0].Usage {
			t.Errorf("%s is another one in the whole program", name)
		}
	}
}

package main

import (
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"

	icli "github.com/minirt/mini/cmd/internal/cli"
)

// requestOf parses a command line of run without a daemon.
func requestOf(t *testing.T, args ...string) (*spec.Request, error) {
	t.Helper()
	var r *spec.Request
	app := newApp()
	app.Writer, app.ErrWriter = io.Discard, io.Discard
	for _, command := range app.Commands {
		if command.Name == "run" {
			command.Action = func(c *cli.Context) (err error) {
				r, err = request(c, c.Args().Slice()[2:])
				return err
			}
		}
	}
	err := app.Run(append([]string{"minictr", "run"}, append(args, "image", "id", "cmd", "-x")...))
	return r, err
}

func TestRunFlagsBecomeRequest(t *testing.T) {
	for _, c := range []struct{ flags, want string }{
		{"", `{"args":["cmd","-x"]}`},
		{"-t --hostname h --net-host", `{"args":["cmd","-x"],"terminal":true,"hostname":"h","namespaces":{"network":"host"}}`},
		{"--with-ns network:/run/n --with-ns pid:container:a", `{"args":["cmd","-x"],"namespaces":{"network":"path:/run/n","pid":"container:a"}}`},
		{"--mount type=bind,src=/a,dst=/b,options=rbind:ro", `{"args":["cmd","-x"],"mounts":[{"type":"bind","source":"/a","target":"/b","options":["rbind","ro"]}]}`},
		{"--memory-limit 64MiB", `{"args":["cmd","-x"],"resources":{"memory":{"limit":67108864}}}`},
		{"--cpus 0.5", `{"args":["cmd","-x"],"resources":{"cpu":{"quota":50000,"period":100000}}}`},
		{"--pids-limit 7", `{"args":["cmd","-x"],"resources":{"pids":{"limit":7}}}`},
		{"--uidmap 0:100000:65536", `{"args":["cmd","-x"],"uidMap":[{"containerID":0,"hostID":100000,"size":65536}],"gidMap":[{"containerID":0,"hostID":100000,"size":65536}]}`},
		{"--rlimit nofile=1:2", `{"args":["cmd","-x"],"rlimits":[{"type":"RLIMIT_NOFILE","hard":2,"soft":1}]}`},
		{"--umask 022", `{"args":["cmd","-x"],"umask":18}`},
		{"--tmpfs /t:size=1m", `{"args":["cmd","-x"],"tmpfs":{"/t":"size=1m"}}`},
		{"--device /dev/fuse:/dev/f:r --device v.com/c=d", `{"args":["cmd","-x"],"devices":[{"source":"/dev/fuse","target":"/dev/f","permissions":"r"}],"cdiDevices":["v.com/c=d"]}`},
		{"--gpus 0 --gpus all", `{"args":["cmd","-x"],"cdiDevices":["nvidia.com/gpu=0","nvidia.com/gpu=all"]}`},
		{"--env A=1 --env B=2,3", `{"args":["cmd","-x"],"env":["A=1","B=2,3"]}`},
		{"--hugepage-limit 2MB=64MiB --unified memory.high=5", `{"args":["cmd","-x"],"resources":{"hugepageLimits":[{"pageSize":"2MB","limit":67108864}],"unified":{"memory.high":"5"}}}`},
	} {
		r, err := requestOf(t, strings.Fields(c.flags)...)
		if err != nil {
			t.Errorf("%s: %v", c.flags, err)
			continue
		}
		if got, _ := json.Marshal(r); string(got) != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.flags, got, c.want)
		}
	}
}

func TestRunFlagsRefused(t *testing.T) {
	for flags, want := range map[string]string{
		"--mount type=bind,dst=/b":          "src is missing",
		"--mount src=/a":                    "dst is missing",
		"--mount typ=bind":                  `unknown key "typ"`,
		"--memory-limit many":               "for example 64MiB",
		"--cpus 0.5 --cpu-quota 5":          "give one",
		"--cpus 0.001":                      "from 0.01 up",
		"--uidmap 0:1":                      "CONTAINER:HOST:LENGTH",
		"--uidmap 0:x:1":                    "not a number",
		"--umask 9":                         "octal",
		"--with-ns network":                 "TYPE:PATH",
		"--rlimit nofile":                   "--rlimit nofile",
		"--seccomp-profile /does/not/exist": "no such file",
		"--sysctl kernel.msgmax":            "NAME=VALUE",
		"--hugepage-limit 2MB":              "PAGESIZE=SIZE",
		"--no-such-flag":                    "no-such-flag",
	} {
		if _, err := requestOf(t, strings.Fields(flags)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", flags, err, want)
		}
	}
}

func TestTree(t *testing.T) {
	got := strings.Join(tree([]*api.Snapshot{{Name: "b", Parent: "a"}, {Name: "a"}, {Name: "c", Parent: "b"}, {Name: "d", Parent: "a"}}), "\n")
	if want := "a\n\\_ b\n  \\_ c\n\\_ d"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestFlatten(t *testing.T) {
	rows, err := flatten([]byte(`{"a":1,"b":{"c":[2,{"d":"x"}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rows {
		got = append(got, strings.Join(r, "="))
	}
	if want := "a=1 b.c.0=2 b.c.1.d=x"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// TestEveryCommandHasUsage walks the whole tree, so that help and manual are complete.
func TestEveryCommandHasUsage(t *testing.T) {
	var walk func(path string, commands []*cli.Command)
	walk = func(path string, commands []*cli.Command) {
		for _, c := range commands {
			name := path + " " + c.Name
			if c.Usage == "" {
				t.Errorf("%s has no usage", name)
			}
			if c.Action == nil && len(c.Subcommands) == 0 {
				t.Errorf("%s does nothing", name)
			}
			walk(name, c.Subcommands)
		}
	}
	walk("minictr", newApp().Commands)
	if page := icli.Manual(newApp()); !strings.Contains(page, `.SS "minictr images pull`) {
		t.Errorf("manual page:\n%s", page)
	}
}

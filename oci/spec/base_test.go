package spec

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestBaseDocument(t *testing.T) {
	path := filepath.Join(t.TempDir(), "base.json")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := func() Input {
		return Input{ID: "c", Request: Request{
			Args: []string{"true"}, Env: []string{"A=own"}, Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Hard: 1, Soft: 1}},
			Mounts: []Mount{{Type: "bind", Source: "/tmp", Target: "/data/own"}}, CapDrop: []string{"ALL"}, Seccomp: "unconfined",
		}, Defaults: Defaults{Base: path}}
	}
	write(`{"ociVersion":"1.0.2","process":{"terminal":true,"args":["sh"],"cwd":"/x","env":["A=base","B=base"],"noNewPrivileges":true,
		"capabilities":{"bounding":["CAP_SYS_ADMIN"]},"rlimits":[{"type":"RLIMIT_NOFILE","hard":7,"soft":7},{"type":"RLIMIT_CORE","hard":9,"soft":9}]},
		"hostname":"base","mounts":[{"destination":"/data","type":"tmpfs","source":"tmpfs"},{"destination":"/proc","type":"bind","source":"/x"}],
		"annotations":{"from":"base"},"hooks":{"prestart":[{"path":"/bin/true"}]},
		"linux":{"seccomp":{"defaultAction":"SCMP_ACT_KILL"},"namespaces":[{"type":"user"}],"resources":{"pids":{"limit":99}}}}`)
	s, _, err := Build(in())
	if err != nil {
		t.Fatal(err)
	}
	p := s.Process
	if p.Terminal || p.Args[0] != "true" || p.Cwd != "/" || len(p.Capabilities.Bounding) != 0 || s.Linux.Seccomp != nil || s.Hostname == "base" {
		t.Errorf("the base changes what the request decides: %+v", p)
	}
	if !slices.Contains(p.Env, "A=own") || !slices.Contains(p.Env, "B=base") || slices.Contains(p.Env, "A=base") {
		t.Errorf("environment %v", p.Env)
	}
	if len(p.Rlimits) != 2 || p.Rlimits[0].Hard != 1 || p.Rlimits[1].Hard != 7 {
		t.Errorf("limits %v", p.Rlimits)
	}
	//lint:ignore SA1019 what old bases have
	if s.Annotations["from"] != "base" || s.Hooks == nil || len(s.Hooks.Prestart) != 1 || *s.Linux.Resources.Pids.Limit != 99 {
		t.Errorf("annotations %v, hooks %v, resources %+v", s.Annotations, s.Hooks, s.Linux.Resources)
	}
	at := func(target string) int {
		return slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == target })
	}
	if at("/data") < 0 || at("/data") > at("/data/own") || s.Mounts[at("/proc")].Type != "proc" {
		t.Errorf("mounts %v", s.Mounts)
	}

	write(`{"proces":{}}`)
	if _, _, err := Build(in()); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), path) {
		t.Errorf("a misspelt base: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Build(in()); !errdefs.IsNotFound(err) {
		t.Errorf("a base that is not there: %v", err)
	}
}

func TestDefaults(t *testing.T) {
	caps := []string{"NET_RAW"}
	uid := uint32(7)
	s, _, err := Build(Input{
		ID: "c", Defaults: Defaults{Capabilities: &caps, Inheritable: true, Env: []string{"A=default", "PATH=/default", "C=default"}},
		Request: Request{Args: []string{"true"}, Env: []string{"C"}, Devices: []Device{{Source: "/dev/x", UID: &uid}}},
		Devices: func(p string) ([]specs.LinuxDevice, error) { return []specs.LinuxDevice{{Path: p, Type: "c"}}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if c := s.Process.Capabilities; !slices.Equal(c.Bounding, []string{"CAP_NET_RAW"}) || !slices.Equal(c.Inheritable, c.Bounding) || len(c.Ambient) != 0 {
		t.Errorf("capabilities %+v", c)
	}
	if env := s.Process.Env; !slices.Contains(env, "A=default") || !slices.Contains(env, "PATH=/default") || slices.Contains(env, "C=default") {
		t.Errorf("environment %v", s.Process.Env)
	}
	if d := s.Linux.Devices; len(d) != 1 || *d[0].UID != 7 || d[0].GID != nil {
		t.Errorf("devices %+v", d)
	}
	none := []string{}
	s, _, err = Build(Input{ID: "c", Defaults: Defaults{Capabilities: &none}, Request: Request{Args: []string{"true"}}})
	if err != nil || len(s.Process.Capabilities.Bounding) != 0 {
		t.Errorf("no default capabilities: %v, %v", s.Process.Capabilities, err)
	}
}

func TestPrivilegedDevices(t *testing.T) {
	for _, tc := range []struct {
		request Request
		nodes   int
		allowed bool
	}{
		{Request{Privileged: true}, 1, true},
		{Request{Privileged: true, PrivilegedWithoutHostDevices: true}, 0, false},
		{Request{Privileged: true, PrivilegedWithoutHostDevices: true, PrivilegedAllDevicesAllowed: true}, 0, true},
		{Request{PrivilegedAllDevicesAllowed: true}, 0, false},
	} {
		tc.request.Args = []string{"true"}
		s, _, err := Build(Input{ID: "c", Request: tc.request, Devices: func(string) ([]specs.LinuxDevice, error) {
			return []specs.LinuxDevice{{Path: "/dev/sda", Type: "b"}}, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Linux.Devices) != tc.nodes || s.Linux.Resources.Devices[0].Allow != tc.allowed {
			t.Errorf("%+v: devices %v, rules %v", tc.request, s.Linux.Devices, s.Linux.Resources.Devices)
		}
	}
}

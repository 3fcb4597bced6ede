package bundle_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/oci/bundle"
	"github.com/minirt/mini/oci/spec"
)

func sound(t testing.TB) *specs.Spec {
	t.Helper()
	s, err := spec.Default("")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWriteAndLoad(t *testing.T) {
	dir := t.TempDir()
	s := sound(t)
	for _, host := range []string{"one", "two"} { // the second replaces the first
		s.Hostname = host
		if err := bundle.Write(dir, s); err != nil {
			t.Fatal(err)
		}
	}
	got, err := bundle.Load(dir)
	if err != nil || got.Hostname != "two" {
		t.Fatalf("got %+v, %v", got, err)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("leftovers: %v", entries)
	}
	if info, _ := os.Stat(filepath.Join(dir, bundle.Config)); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if err := bundle.Write(filepath.Join(dir, "none"), s); err == nil {
		t.Error("written into no directory")
	}
}

func TestLoadRefuses(t *testing.T) {
	if _, err := bundle.Load(t.TempDir()); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
	for _, data := range []string{"", "{", "[]", `{"ociVersion":1}`, "{}{}"} {
		if _, err := bundle.Decode([]byte(data)); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%q: got %v", data, err)
		}
	}
}

func TestValidate(t *testing.T) {
	if err := bundle.Validate(sound(t)); err != nil {
		t.Fatalf("a sound document: %v", err)
	}
	for want, change := range map[string]func(*specs.Spec){
		`ociVersion "2.0.0" isn't one of 1.x`: func(s *specs.Spec) { s.Version = "2.0.0" },
		"root.path is missing":                func(s *specs.Spec) { s.Root = nil },
		"process is missing":                  func(s *specs.Spec) { s.Process = nil },
		`process.cwd "a" must be absolute`:    func(s *specs.Spec) { s.Process.Cwd = "a" },
		"process.args names no program":       func(s *specs.Spec) { s.Process.Args = nil },
		`process.env "A" isn't KEY=VALUE`:     func(s *specs.Spec) { s.Process.Env = []string{"A"} },
		`process.rlimits "X" is unknown`:      func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "X"}} },
		"process.rlimits RLIMIT_CPU is given twice": func(s *specs.Spec) {
			s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CPU"}, {Type: "RLIMIT_CPU"}}
		},
		`process.capabilities.bounding "CAP_FLY" is unknown`:   func(s *specs.Spec) { s.Process.Capabilities.Bounding = []string{"CAP_FLY"} },
		"process.capabilities.effective CAP_SYS_ADMIN isn't":   func(s *specs.Spec) { s.Process.Capabilities.Effective = []string{"CAP_SYS_ADMIN"} },
		"process.capabilities.ambient CAP_CHOWN must be":       func(s *specs.Spec) { s.Process.Capabilities.Ambient = []string{"CAP_CHOWN"} },
		`mounts[0].destination "x" must be absolute`:           func(s *specs.Spec) { s.Mounts[0].Destination = "x" },
		"mounts[0].source is missing":                          func(s *specs.Spec) { s.Mounts[0].Source, s.Mounts[0].Options = "", []string{"bind"} },
		`hooks.poststop[0].path "x" must be absolute`:          func(s *specs.Spec) { s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "x"}}} },
		"mounts[2].options gid=5: 5 isn't mapped":              func(s *specs.Spec) { s.Linux.GIDMappings = []specs.LinuxIDMapping{{Size: 1}} },
		"linux is missing":                                     func(s *specs.Spec) { s.Linux = nil },
		"linux.namespaces[1].type pid is given twice":          func(s *specs.Spec) { s.Linux.Namespaces[1].Type = specs.PIDNamespace },
		`linux.namespaces[0].type "x" is unknown`:              func(s *specs.Spec) { s.Linux.Namespaces[0].Type = "x" },
		`linux.namespaces[0].path "x" must be absolute`:        func(s *specs.Spec) { s.Linux.Namespaces[0].Path = "x" },
		"linux.namespaces has no mount namespace":              func(s *specs.Spec) { s.Linux.Namespaces = nil },
		`hostname "container" would be the host's`:             func(s *specs.Spec) { s.Linux.Namespaces = nil },
		"linux.uidMappings need a user namespace":              func(s *specs.Spec) { s.Linux.UIDMappings = []specs.LinuxIDMapping{{Size: 1}} },
		"linux.uidMappings and gidMappings are needed":         func(s *specs.Spec) { s.Linux.Namespaces[0].Type = specs.UserNamespace },
		"process.user.uid 5 isn't mapped":                      func(s *specs.Spec) { s.Process.User.UID, s.Linux.UIDMappings = 5, []specs.LinuxIDMapping{{Size: 1}} },
		"linux.devices[0].type \"x\" is unknown":               func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/d", Type: "x"}} },
		`linux.seccomp.architectures "x" is unknown`:           func(s *specs.Spec) { s.Linux.Seccomp = &specs.LinuxSeccomp{Architectures: []specs.Arch{"x"}} },
		"linux.seccomp.syscalls[0].names is empty":             func(s *specs.Spec) { s.Linux.Seccomp = &specs.LinuxSeccomp{Syscalls: []specs.LinuxSyscall{{}}} },
		`linux.rootfsPropagation "x" is unknown`:               func(s *specs.Spec) { s.Linux.RootfsPropagation = "x" },
		`linux.maskedPaths "x" must be absolute`:               func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"x"} },
		"linux.timeOffsets need a time namespace":              func(s *specs.Spec) { s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {}} },
		"linux.resources.devices[0].access \"x\" has a letter": func(s *specs.Spec) { s.Linux.Resources.Devices[0].Access = "x" },
		"linux.resources.memory.swap 1 is memory and swap together": func(s *specs.Spec) {
			s.Linux.Resources.Memory = &specs.LinuxMemory{Limit: new(int64(2)), Swap: new(int64(1))}
		},
	} {
		s := sound(t)
		change(s)
		err := bundle.Validate(s)
		if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	if bundle.Validate(nil) == nil {
		t.Error("no document is sound")
	}
}

// TestEveryCapabilityIsKnown compares this package's words with oci/spec's.
func TestEveryCapabilityIsKnown(t *testing.T) {
	s, _, err := spec.Build(spec.Input{ID: "x", Request: spec.Request{Args: []string{"sh"}, CapAdd: []string{"ALL"}}})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(s.Process.Capabilities.Bounding); n != 41 {
		t.Errorf("%d capabilities", n)
	}
	if err := bundle.Validate(s); err != nil {
		t.Error(err)
	}
}

func FuzzDecodeAndValidate(f *testing.F) {
	data, err := json.Marshal(sound(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"linux":{"namespaces":[{}],"seccomp":{"syscalls":[{"args":[{}]}]},"resources":{"memory":{}}},"hooks":{},"process":{"capabilities":{}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := bundle.Decode(data)
		if err != nil {
			return
		}
		if err := bundle.Validate(s); err == nil && (s.Process == nil || s.Linux == nil || s.Root == nil) {
			t.Error("a document with nothing to run is sound")
		}
	})
}

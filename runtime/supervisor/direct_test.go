package supervisor

import (
	"slices"
	"testing"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer/configs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestDirectRequest(t *testing.T) {
	type change = func(*configs.Config, *specs.Process)
	umask, score := uint32(0o27), -5
	for name, test := range map[string]struct {
		change change
		why    string
	}{
		"as usual":           {func(*configs.Config, *specs.Process) {}, ""},
		"terminal":           {func(_ *configs.Config, p *specs.Process) { p.Terminal = true }, "a terminal"},
		"no root":            {func(c *configs.Config, _ *specs.Process) { c.RootlessEUID = true }, "no root"},
		"systemd":            {func(c *configs.Config, _ *specs.Process) { c.Cgroups.Systemd = true }, "systemd's cgroups"},
		"no cgroups":         {func(c *configs.Config, _ *specs.Process) { c.Cgroups = nil }, "systemd's cgroups"},
		"update":             {func(c *configs.Config, _ *specs.Process) { c.Cgroups.SkipDevices = true }, "a container being updated"},
		"label":              {func(_ *configs.Config, p *specs.Process) { p.SelinuxLabel = "x" }, "a SELinux label"},
		"container's label":  {func(c *configs.Config, _ *specs.Process) { c.ProcessLabel = "x" }, "a SELinux label"},
		"apparmor":           {func(_ *configs.Config, p *specs.Process) { p.ApparmorProfile = "x" }, "an AppArmor profile"},
		"container's armor":  {func(c *configs.Config, _ *specs.Process) { c.AppArmorProfile = "x" }, "an AppArmor profile"},
		"scheduler":          {func(_ *configs.Config, p *specs.Process) { p.Scheduler = &specs.Scheduler{} }, "a scheduler"},
		"io priority":        {func(c *configs.Config, _ *specs.Process) { c.IOPriority = &configs.IOPriority{} }, "an io priority"},
		"affinity":           {func(_ *configs.Config, p *specs.Process) { p.ExecCPUAffinity = &specs.CPUAffinity{} }, "a processor affinity"},
		"personality":        {func(c *configs.Config, _ *specs.Process) { c.Personality = &configs.LinuxPersonality{} }, "a personality"},
		"memory policy":      {func(c *configs.Config, _ *specs.Process) { c.MemoryPolicy = &configs.LinuxMemoryPolicy{} }, "a memory policy"},
		"rdt":                {func(c *configs.Config, _ *specs.Process) { c.IntelRdt = &configs.IntelRdt{} }, "Intel RDT"},
		"death signal":       {func(c *configs.Config, _ *specs.Process) { c.ParentDeathSignal = 9 }, "a parent death signal"},
		"no capabilities":    {func(_ *configs.Config, p *specs.Process) { p.Capabilities = nil }, "no capability sets"},
		"NUL":                {func(_ *configs.Config, p *specs.Process) { p.Args = []string{"a", "b\x00c"} }, "a NUL byte"},
		"NUL in the values":  {func(_ *configs.Config, p *specs.Process) { p.Env = append(p.Env, "A=\x00") }, "a NUL byte"},
		"empty command":      {func(_ *configs.Config, p *specs.Process) { p.Args = []string{""} }, "a command or directory that is missing"},
		"no HOME":            {func(_ *configs.Config, p *specs.Process) { p.Env = []string{"PATH=/bin"} }, "an environment that libcontainer completes"},
		"no PATH":            {func(_ *configs.Config, p *specs.Process) { p.Env = []string{"HOME=/"} }, "a program that is not looked for in absolute directories"},
		"no PATH but a path": {func(_ *configs.Config, p *specs.Process) { p.Env, p.Args = []string{"HOME=/"}, []string{"./x"} }, ""},
		"bad limit": {func(_ *configs.Config, p *specs.Process) { p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_X"}} },
			`process: rlimit "RLIMIT_X": no such limit: invalid argument`},
	} {
		c := &configs.Config{Cgroups: &cgroups.Cgroup{Resources: &cgroups.Resources{}}, Umask: &umask, OomScoreAdj: &score}
		p := &specs.Process{Args: []string{"x"}, Cwd: "/", Env: []string{"PATH=/bin", "HOME=/root"}, Capabilities: &specs.LinuxCapabilities{}}
		test.change(c, p)
		r, why := directRequest("c", c, p)
		if why != test.why {
			t.Errorf("%s: %q, want %q", name, why, test.why)
		}
		if why == "" && (r.Umask != 0o27 || r.OOMScoreAdj != "-5" || r.Keyring != "_ses.c") {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestEnvironment(t *testing.T) {
	for _, test := range []struct {
		env, want []string
		fit       bool
	}{
		{[]string{"HOME=/", "A=1"}, []string{"HOME=/", "A=1"}, true},
		{[]string{"A=1", "HOME=/", "A=2", "B==", "HOME=/x"}, []string{"A=2", "B==", "HOME=/x"}, true},
		{[]string{"HOME=/", "HOME="}, nil, false}, // libcontainer leaves both out
		{[]string{"A=1"}, []string{"A=1"}, false},
		{[]string{"HOME=/", "A"}, nil, false},
		{[]string{"HOME=/", "=A"}, nil, false},
	} {
		if got, fit := environment(test.env); fit != test.fit || test.want != nil && !slices.Equal(got, test.want) {
			t.Errorf("%q: %q, %t; want %q, %t", test.env, got, fit, test.want, test.fit)
		}
	}
}

func TestCandidates(t *testing.T) {
	for _, test := range []struct {
		program, path string
		want          []string
	}{
		{"x", "/bin:/usr/bin", []string{"/bin/x", "/usr/bin/x"}},
		{"x", "/bin//:/a/../b", []string{"/bin/x", "/b/x"}},
		{"/x", "bin", []string{"/x"}},
		{"./x", "", []string{"./x"}},
		{"x", "/bin:", nil}, // the empty one is the directory
		{"x", "bin:/bin", nil},
		{"x", "", nil},
	} {
		if got := candidates(test.program, []string{"A=b", "PATH=" + test.path}); !slices.Equal(got, test.want) {
			t.Errorf("%s in %q: %q, want %q", test.program, test.path, got, test.want)
		}
	}
}

func TestNamespacesOf(t *testing.T) {
	flags, paths := namespacesOf(configs.Namespaces{
		{Type: configs.NEWNS}, {Type: configs.NEWPID, Path: "/pid"}, {Type: configs.NEWNET, Path: "/net"}, {Type: configs.NEWUSER, Path: "/user"},
	})
	if flags != unix.CLONE_NEWNS|unix.CLONE_NEWUSER || !slices.Equal(paths, []string{"/net", "/pid"}) {
		t.Errorf("flags %#x, paths %q", flags, paths)
	}
}

func TestCapabilitiesOf(t *testing.T) {
	c, err := capabilitiesOf(&specs.LinuxCapabilities{Bounding: []string{"CAP_CHOWN", "CAP_KILL", "CAP_NO_SUCH", "chown"}, Ambient: []string{"CAP_SYS_ADMIN"}})
	if err != nil {
		t.Fatal(err)
	}
	if c.Bounding != 1<<unix.CAP_CHOWN|1<<unix.CAP_KILL || c.Ambient != 1<<unix.CAP_SYS_ADMIN || c.Effective != 0 || c.Last < unix.CAP_SYS_ADMIN {
		t.Errorf("%+v", c)
	}
}

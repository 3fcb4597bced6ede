package spec

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestBuildExec(t *testing.T) {
	container := build(t, Request{User: "app", Env: []string{"A=1"}, Cwd: "/srv", Terminal: true})
	image := build(t, Request{User: "app", Env: []string{"HOME=/chosen"}})
	for name, c := range map[string]struct {
		of   *specs.Spec
		exec Exec
		want string
	}{
		"as the container":     {container, Exec{Args: []string{"a"}}, "a | 1000:1001 1001,2000,2001 | /srv | A=1 HOME=/home/app HOSTNAME=c1 TERM=xterm | 14 true false"},
		"another user":         {container, Exec{Args: []string{"a"}, User: "root"}, "a | 0:0 0 | /srv | A=1 HOME=/root HOSTNAME=c1 TERM=xterm | 14 true false"},
		"the image's home":     {image, Exec{Args: []string{"a"}, User: "root"}, "a | 0:0 0 | / | HOME=/chosen HOSTNAME=c1 | 14 true false"},
		"a home of its own":    {container, Exec{Args: []string{"a"}, User: "root", Env: []string{"HOME=/x"}}, "a | 0:0 0 | /srv | A=1 HOME=/x HOSTNAME=c1 TERM=xterm | 14 true false"},
		"environment":          {container, Exec{Args: []string{"a"}, Env: []string{"A", "B=2"}, Cwd: "/"}, "a | 1000:1001 1001,2000,2001 | / | B=2 HOME=/home/app HOSTNAME=c1 TERM=xterm | 14 true false"},
		"terminal":             {image, Exec{Args: []string{"a"}, Terminal: true}, "a | 1000:1001 1001,2000,2001 | / | HOME=/chosen HOSTNAME=c1 TERM=xterm | 14 true true"},
		"privileged":           {image, Exec{Args: []string{"a"}, Privileged: true, AllowNewPrivileges: true}, "a | 1000:1001 1001,2000,2001 | / | HOME=/chosen HOSTNAME=c1 | 41 false false"},
		"one capability more":  {image, Exec{Args: []string{"a"}, CapAdd: []string{"net_admin"}}, "a | 1000:1001 1001,2000,2001 | / | HOME=/chosen HOSTNAME=c1 | 15 true false"},
		"a number without one": {image, Exec{Args: []string{"a"}, User: "77:88"}, "a | 77:88 88 | / | HOME=/chosen HOSTNAME=c1 | 14 true false"},
	} {
		t.Run(name, func(t *testing.T) {
			before := show(c.of)
			p, err := buildExec(c.of, c.exec, accounts(), fullHost())
			if err != nil {
				t.Fatal(err)
			}
			env := slices.DeleteFunc(slices.Sorted(slices.Values(p.Env)), func(kv string) bool { return strings.HasPrefix(kv, "PATH=") })
			gids := strings.Trim(show(p.User.AdditionalGids), "[]")
			got := strings.Join(p.Args, " ") + " | " + show(p.User.UID) + ":" + show(p.User.GID) + " " + gids + " | " + p.Cwd + " | " +
				strings.Join(env, " ") + " | " + show(len(p.Capabilities.Bounding)) + " " + show(p.NoNewPrivileges) + " " + show(p.Terminal)
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if show(c.of) != before {
				t.Error("the container's document changed")
			}
		})
	}
}

func TestBuildExecRefusals(t *testing.T) {
	container := build(t, Request{})
	poor := fullHost()
	poor.Capabilities = []string{"CAP_CHOWN"}
	for name, c := range map[string]struct {
		of    *specs.Spec
		exec  Exec
		class error
	}{
		"no command":        {container, Exec{}, errdefs.ErrInvalidArgument},
		"no container":      {nil, Exec{Args: []string{"a"}}, errdefs.ErrInvalidArgument},
		"relative cwd":      {container, Exec{Args: []string{"a"}, Cwd: "x"}, errdefs.ErrInvalidArgument},
		"NUL":               {container, Exec{Args: []string{"a\x00"}}, errdefs.ErrInvalidArgument},
		"unknown user":      {container, Exec{Args: []string{"a"}, User: "who"}, errdefs.ErrNotFound},
		"capability absent": {container, Exec{Args: []string{"a"}, CapAdd: []string{"SYS_ADMIN"}}, errdefs.ErrFailedPrecondition},
	} {
		if _, err := buildExec(c.of, c.exec, accounts(), poor); !errors.Is(err, c.class) {
			t.Errorf("%s: got %v, want %v", name, err, c.class)
		}
	}
	if _, err := BuildExec(container, Exec{Args: []string{"a"}, User: "root"}, "/nowhere", fullHost()); err == nil {
		t.Error("a root filesystem that isn't there was read")
	}
}

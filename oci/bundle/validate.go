package bundle

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Validate checks a document against the runtime specification, as far as it can be without the host. The error joins
// every complaint; each names the field and says what to do. Class: ErrInvalidArgument.
func Validate(s *specs.Spec) error {
	if s == nil {
		return fmt.Errorf("there is no document: %w", errdefs.ErrInvalidArgument)
	}
	c := &complaints{}
	c.version(s)
	c.root(s)
	c.process(s.Process)
	c.mounts(s)
	c.hooks(s.Hooks)
	if s.Linux == nil {
		c.add("linux", "is missing: a container on Linux needs its namespaces there")
	} else {
		c.linux(s)
	}
	return errors.Join(c.list...)
}

// complaints collects what is wrong with a document.
type complaints struct{ list []error }

func (c *complaints) add(field, format string, args ...any) {
	c.list = append(c.list, fmt.Errorf("%s %s: %w", field, fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument))
}

func (c *complaints) version(s *specs.Spec) {
	major, _, ok := strings.Cut(s.Version, ".")
	switch {
	case s.Version == "":
		c.add("ociVersion", "is missing: write %q", specs.Version)
	case !ok || major != "1":
		c.add("ociVersion", "%q isn't one of 1.x: this runtime knows up to %s", s.Version, specs.Version)
	}
}

func (c *complaints) root(s *specs.Spec) {
	if s.Root == nil || s.Root.Path == "" {
		c.add("root.path", "is missing: name the root filesystem's directory")
	}
}

func (c *complaints) process(p *specs.Process) {
	if p == nil {
		c.add("process", "is missing: nothing could be started")
		return
	}
	if !path.IsAbs(p.Cwd) {
		c.add("process.cwd", "%q must be absolute, like /", p.Cwd)
	}
	if len(p.Args) == 0 || p.Args[0] == "" {
		c.add("process.args", "names no program")
	}
	if p.ConsoleSize != nil && !p.Terminal {
		c.add("process.consoleSize", "is set without a terminal: set process.terminal, or leave it out")
	}
	for _, kv := range p.Env {
		if key, _, ok := strings.Cut(kv, "="); !ok || key == "" {
			c.add("process.env", "%q isn't KEY=VALUE", kv)
		}
	}
	seen := make(map[string]bool)
	for _, l := range p.Rlimits {
		if !slices.Contains(rlimits(), l.Type) {
			c.add("process.rlimits", "%q is unknown; for example RLIMIT_NOFILE", l.Type)
		}
		if seen[l.Type] {
			c.add("process.rlimits", "%s is given twice: keep one", l.Type)
		}
		if seen[l.Type] = true; l.Soft > l.Hard {
			c.add("process.rlimits", "%s: soft %d is above hard %d", l.Type, l.Soft, l.Hard)
		}
	}
	if a := p.OOMScoreAdj; a != nil && (*a < -1000 || *a > 1000) {
		c.add("process.oomScoreAdj", "%d must be from -1000 to 1000", *a)
	}
	c.capabilities(p.Capabilities)
}

// capabilities checks names, and that effective and ambient are possible (capabilities(7)).
func (c *complaints) capabilities(set *specs.LinuxCapabilities) {
	if set == nil {
		return
	}
	for _, s := range []struct {
		name string
		caps []string
	}{
		{"bounding", set.Bounding}, {"effective", set.Effective}, {"permitted", set.Permitted},
		{"inheritable", set.Inheritable}, {"ambient", set.Ambient},
	} {
		for _, name := range s.caps {
			if !slices.Contains(capabilities(), name) {
				c.add("process.capabilities."+s.name, "%q is unknown; for example CAP_NET_ADMIN", name)
			}
		}
	}
	for _, name := range set.Effective {
		if !slices.Contains(set.Permitted, name) {
			c.add("process.capabilities.effective", "%s isn't permitted: add it there", name)
		}
	}
	for _, name := range set.Ambient {
		if !slices.Contains(set.Permitted, name) || !slices.Contains(set.Inheritable, name) {
			c.add("process.capabilities.ambient", "%s must be permitted and inheritable: add it there", name)
		}
	}
}

func (c *complaints) mounts(s *specs.Spec) {
	for i, m := range s.Mounts {
		field := fmt.Sprintf("mounts[%d]", i)
		if !path.IsAbs(m.Destination) {
			c.add(field+".destination", "%q must be absolute", m.Destination)
		}
		bind := slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
		if bind && m.Source == "" {
			c.add(field+".source", "is missing: a bind onto %s needs one", m.Destination)
		}
		if (len(m.UIDMappings) == 0) != (len(m.GIDMappings) == 0) {
			c.add(field, "%s: an idmapped mount needs both uidMappings and gidMappings", m.Destination)
		}
		if s.Linux != nil {
			c.owners(field, m, s.Linux)
		}
	}
}

// owners refuses mounts that give their files to someone the user namespace does not have: the kernel answers EINVAL.
func (c *complaints) owners(field string, m specs.Mount, l *specs.Linux) {
	for _, o := range m.Options {
		key, value, _ := strings.Cut(o, "=")
		ids := l.UIDMappings
		if key == "gid" {
			ids = l.GIDMappings
		} else if key != "uid" {
			continue
		}
		if id, err := strconv.ParseUint(value, 10, 32); err == nil && len(ids) > 0 && !holds(ids, uint32(id)) {
			c.add(field+".options", "%s: %d isn't mapped in the user namespace: map it, or leave the option out", o, id)
		}
	}
}

func (c *complaints) hooks(h *specs.Hooks) {
	if h == nil {
		return
	}
	for _, l := range []struct {
		name string
		list []specs.Hook
	}{
		//lint:ignore SA1019 deprecated, and still what many hooks are written for
		{"prestart", h.Prestart},
		{"createRuntime", h.CreateRuntime}, {"createContainer", h.CreateContainer},
		{"startContainer", h.StartContainer}, {"poststart", h.Poststart}, {"poststop", h.Poststop},
	} {
		for i, hook := range l.list {
			field := fmt.Sprintf("hooks.%s[%d]", l.name, i)
			if !path.IsAbs(hook.Path) {
				c.add(field+".path", "%q must be absolute", hook.Path)
			}
			if hook.Timeout != nil && *hook.Timeout <= 0 {
				c.add(field+".timeout", "%d must be above 0 seconds, or left out", *hook.Timeout)
			}
		}
	}
}

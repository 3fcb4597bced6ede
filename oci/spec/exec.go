package spec

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// BuildExec makes the document of a process executed in a running container. What the request does not set is as the
// container's first process has it: user, groups, directory, environment, limits, security. rootfs is where another user
// is looked up: the mounted root filesystem, or /proc/PID/root; empty: users must be numbers. Errors are as Build's.
func BuildExec(container *specs.Spec, e Exec, rootfs string, h Host) (*specs.Process, error) {
	if e.User == "" || rootfs == "" {
		return buildExec(container, e, nil, h)
	}
	files, err := OpenRootfs(rootfs)
	if err != nil {
		return nil, fmt.Errorf("exec: %w", err)
	}
	defer files.Close()
	return buildExec(container, e, files, h)
}

func buildExec(container *specs.Spec, e Exec, files fs.FS, h Host) (*specs.Process, error) {
	if container == nil || container.Process == nil {
		return nil, invalid("exec: the container's document has no process to take after")
	}
	if len(e.Args) == 0 || e.Args[0] == "" {
		return nil, invalid("exec: no command was given")
	}
	for i, a := range e.Args {
		if strings.ContainsRune(a, 0) {
			return nil, invalid("exec: argument %d (%q) has a NUL byte, which no program can receive", i, a)
		}
	}
	p, err := cloneProcess(container.Process)
	if err != nil {
		return nil, err
	}
	if p.Cwd, err = workingDirectory(e.Cwd, p.Cwd); err != nil {
		return nil, fmt.Errorf("exec: %w", err)
	}
	p.Args, p.CommandLine = e.Args, ""
	p.Terminal, p.ConsoleSize = e.Terminal, nil
	if e.Terminal {
		p.ConsoleSize = e.ConsoleSize
	}
	b := &builder{host: &h, files: files, spec: &specs.Spec{Process: p, Linux: container.Linux}, req: &Request{}, in: &Input{}}
	if b.spec.Linux == nil {
		b.spec.Linux = &specs.Linux{}
	}
	for _, step := range []func(*builder, Exec) error{execUser, execEnv, execPrivileges} {
		if err := step(b, e); err != nil {
			return nil, fmt.Errorf("exec: %w", err)
		}
	}
	if len(b.warnings) > 0 {
		return nil, unable("exec: %s", strings.Join(b.warnings, "; ")) // nobody reads an exec's warnings
	}
	return p, nil
}

// cloneProcess copies deeply, so that the container's document stays as it is.
func cloneProcess(p *specs.Process) (*specs.Process, error) {
	data, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	c := &specs.Process{}
	return c, json.Unmarshal(data, c)
}

// execUser resolves another user than the container's.
func execUser(b *builder, e Exec) error {
	if e.User == "" {
		return nil
	}
	id, err := resolveUser(b.files, e.User)
	if err != nil {
		return err
	}
	was := b.spec.Process.User
	b.spec.Process.User = specs.User{UID: id.uid, GID: id.gid, AdditionalGids: supplementary(id.gid, id.groups), Umask: was.Umask}
	if id.uid != was.UID {
		b.home = id.home
		if err := b.dropHome(was.UID); err != nil {
			return err
		}
	}
	return b.checkMapped(id.uid, id.gid)
}

// dropHome removes HOME when it is the other user's, and so was set for that user and not by the image.
func (b *builder) dropHome(uid uint32) error {
	was, err := resolveUser(b.files, fmt.Sprint(uid))
	if err != nil {
		return err
	}
	env := environment{list: b.spec.Process.Env}
	if home, ok := env.get("HOME"); ok && home == was.home {
		if err := env.apply("HOME"); err != nil {
			return err
		}
	}
	b.spec.Process.Env = env.list
	return nil
}

// execEnv puts the request's variables over the container's.
func execEnv(b *builder, e Exec) error {
	env := environment{list: b.spec.Process.Env}
	if e.Terminal {
		env.setDefault("TERM=xterm")
	}
	removed := false
	for _, kv := range e.Env {
		if err := env.apply(kv); err != nil {
			return err
		}
		removed = removed || kv == "HOME"
	}
	if b.home != "" && !removed {
		env.setDefault("HOME=" + b.home)
	}
	b.spec.Process.Env = env.list
	return nil
}

// execPrivileges widens what the process may do; a privileged exec has everything but leaves the container's seccomp
// filter and namespaces as they are.
func execPrivileges(b *builder, e Exec) error {
	p := b.spec.Process
	if e.AllowNewPrivileges {
		p.NoNewPrivileges = false
	}
	if !e.Privileged && len(e.CapAdd) == 0 {
		return nil
	}
	var base, ambient []string
	if p.Capabilities != nil {
		base, ambient = p.Capabilities.Bounding, p.Capabilities.Ambient
	}
	if e.Privileged {
		base = b.allCapabilities()
		if p.ApparmorProfile != "" {
			p.ApparmorProfile = "unconfined"
		}
	}
	set, err := b.tweak(base, e.CapAdd, nil)
	if err != nil {
		return err
	}
	sets := capabilitySets(set, ambient)
	p.Capabilities = &sets
	return nil
}

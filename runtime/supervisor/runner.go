package supervisor

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

// runner carries a container's processes out: libcontainer in this process (native.go), or an OCI runtime's binary
// (external.go). It is told one thing at a time, except for exec and processes.
type runner interface {
	// prepare reads the bundle and makes what comes before a process; it returns the container's cgroups, or none when
	// they are not known before there is a process in them.
	prepare() (cgroups map[string]string, err error)
	// premake begins what may be made beside the rest, once the record says that it may exist.
	premake()
	// owner is the host's number of the container's root, who owns its pipes.
	owner() (uid, gid int, err error)
	// create makes the first process, which does not run the program before release. With restore set, the process is
	// that of a checkpoint and runs at once.
	create(io childIO) (pid int, err error)
	release() error
	// exec runs one more process; first is a pidfd of the container's first one.
	exec(spec *specs.Process, io childIO, first *os.File) (pid int, err error)
	// processes lists all processes in the container's cgroup.
	processes() ([]int, error)
	// killsAll says whether the kernel ends all processes with the first, because it has a PID namespace of its own.
	killsAll() bool
	pause() error
	resume() error
	paused() (bool, error)
	update(r *specs.LinuxResources) error
	checkpoint(c wire.Checkpoint) error
	// destroy removes cgroups and state, whatever is left of them. No process lives any more.
	destroy() error
}

// newRunner chooses the runner of a container. With load the container exists already.
func (s *Supervisor) newRunner(start wire.Start, load bool) (runner, error) {
	if start.Runtime != "" {
		return newExternal(start, load)
	}
	return newNative(start, &s.filters, s.Log, load)
}

// loadSpec reads the bundle's config.json and makes its relative paths absolute: this process serves many bundles, and
// its working directory is none of theirs.
func loadSpec(dir string) (*specs.Spec, error) {
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w: %w", dir, err, errdefs.ErrInvalidArgument)
	}
	var spec specs.Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		return nil, fmt.Errorf("bundle %s: config.json: %w: %w", dir, err, errdefs.ErrInvalidArgument)
	}
	if err := checkSpec(dir, &spec); err != nil {
		return nil, err
	}
	if !filepath.IsAbs(spec.Root.Path) {
		spec.Root.Path = filepath.Join(dir, spec.Root.Path)
	}
	for i, m := range spec.Mounts {
		if isBind(m) && !filepath.IsAbs(m.Source) {
			spec.Mounts[i].Source = filepath.Join(dir, m.Source)
		}
	}
	return &spec, nil
}

func checkSpec(dir string, spec *specs.Spec) error {
	problem := ""
	switch {
	case spec.Root == nil:
		problem = "root is missing"
	case spec.Linux == nil:
		problem = "linux is missing"
	default:
		return checkProcess("bundle "+dir+": config.json: process", spec.Process)
	}
	return fmt.Errorf("bundle %s: config.json: %s: %w", dir, problem, errdefs.ErrInvalidArgument)
}

func checkProcess(where string, p *specs.Process) error {
	problem := ""
	switch {
	case p == nil:
		problem = "is missing"
	case len(p.Args) == 0:
		problem = "has no args: name a command"
	case !filepath.IsAbs(p.Cwd):
		problem = fmt.Sprintf("has cwd %q: it must begin with /", p.Cwd)
	default:
		return nil
	}
	return fmt.Errorf("%s %s: %w", where, problem, errdefs.ErrInvalidArgument)
}

func isBind(m specs.Mount) bool {
	if m.Type == "bind" {
		return true
	}
	for _, o := range m.Options {
		if o == "bind" || o == "rbind" {
			return true
		}
	}
	return false
}

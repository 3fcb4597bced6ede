package supervisor

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	_ "github.com/opencontainers/cgroups/devices" // device rules: libcontainer refuses them without
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/runtime/supervisor/confine"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// native runs a container with libcontainer in this process.
type native struct {
	start   wire.Start
	spec    *specs.Spec // until the container is created
	filters *confine.Filters
	log     *slog.Logger

	mu      sync.Mutex
	ctr     *libcontainer.Container
	ownPIDs bool // it has a PID namespace of its own
	groups  map[string]string
	ready   *readyMounts   // until the container is created
	made    sync.WaitGroup // premake
}

func newNative(s wire.Start, filters *confine.Filters, log *slog.Logger, load bool) (*native, error) {
	n := &native{start: s, filters: filters, log: log}
	if load {
		// A state that cannot be read spoils what needs it, and is told then; the process is watched all the same.
		if _, err := n.container(); err != nil {
			n.ownPIDs = false
		}
	}
	return n, nil
}

// stateRoot is where libcontainer keeps its state, in a directory with the container's id.
func (n *native) stateRoot() string { return filepath.Join(n.start.Dir, "state") }

func (n *native) stateDir() string { return filepath.Join(n.stateRoot(), n.start.ID) }

// container returns libcontainer's object, loaded from its state file when it was let go.
func (n *native) container() (*libcontainer.Container, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ctr == nil {
		ctr, err := libcontainer.Load(n.stateRoot(), n.start.ID)
		if err != nil {
			return nil, fmt.Errorf("container %s: its state in %s: %w", n.start.ID, n.stateDir(), plain(err))
		}
		n.set(ctr)
	}
	return n.ctr, nil
}

// set enters libcontainer's object. The lock is held.
func (n *native) set(ctr *libcontainer.Container) {
	config := ctr.Config()
	n.ctr, n.ownPIDs = ctr, config.Namespaces.IsPrivate(configs.NEWPID)
}

func (n *native) prepare() (map[string]string, error) {
	spec, err := loadSpec(n.start.Dir)
	if err != nil {
		return nil, err
	}
	config, err := n.config(spec)
	if err != nil {
		return nil, err
	}
	if n.start.Restore == "" {
		n.ready = prepareMounts(spec, config)
	}
	ctr, err := libcontainer.Create(n.stateRoot(), n.start.ID, config)
	if err != nil {
		n.ready.close()
		if errors.Is(err, libcontainer.ErrExist) {
			return nil, fmt.Errorf("container %s: %s is left of an earlier one: delete it: %w", n.start.ID, n.stateDir(), errdefs.ErrAlreadyExists)
		}
		return nil, fmt.Errorf("%w: %w", plain(err), errdefs.ErrInvalidArgument)
	}
	n.mu.Lock()
	n.set(ctr)
	n.spec = spec
	n.mu.Unlock()
	state, err := ctr.State()
	if err != nil {
		return nil, err
	}
	// libcontainer removes entries of its own map as it removes the cgroups.
	n.groups = maps.Clone(state.CgroupPaths)
	return maps.Clone(state.CgroupPaths), nil
}

// config is libcontainer's form of the bundle's configuration.
func (n *native) config(spec *specs.Spec) (*configs.Config, error) {
	config, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{
		CgroupName: n.start.ID, UseSystemdCgroup: n.start.SystemdCgroup, NoPivotRoot: n.start.NoPivot,
		Spec: spec, RootlessEUID: os.Geteuid() != 0, RootlessCgroups: os.Geteuid() != 0 || spec.Linux == nil || spec.Linux.CgroupsPath == "",
	})
	if err != nil {
		return nil, fmt.Errorf("bundle %s: config.json: %w: %w", n.start.Dir, plain(err), errdefs.ErrInvalidArgument)
	}
	for i, l := range config.Labels {
		if strings.HasPrefix(l, "bundle=") { // libcontainer takes the working directory for the bundle
			config.Labels[i] = "bundle=" + n.start.Dir
		}
	}
	if spec.Annotations[criuLabel] == "" { // else somebody knows better
		config.Labels = append(config.Labels, criuLabel+"="+n.criuConfig())
	}
	return config, nil
}

// premake makes the directories of the cgroups, ten on cgroup v1, while the process is created on another processor;
// libcontainer takes them as it finds them.
func (n *native) premake() {
	groups := n.groups
	n.groups = nil
	if n.start.SystemdCgroup || len(groups) < 2 {
		n.ready.leaveCgroups()
		return
	}
	n.made.Go(func() {
		for _, dir := range groups {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				n.ready.leaveCgroups()
				return // libcontainer tries again, and tells
			}
		}
		n.ready.fillCgroups(groups)
	})
}

func (n *native) owner() (uid, gid int, err error) {
	ctr, err := n.container()
	if err != nil {
		return 0, 0, err
	}
	config := ctr.Config()
	if uid, err = config.HostRootUID(); err != nil {
		return 0, 0, err
	}
	gid, err = config.HostRootGID()
	return uid, gid, err
}

func (n *native) create(io childIO) (int, error) {
	ctr, err := n.container()
	if err != nil {
		return 0, err
	}
	p, err := libcontainerProcess(n.spec.Process, io, n.start.Stdio)
	if err != nil {
		return 0, err
	}
	n.spec = nil
	n.made.Wait()
	defer n.ready.close()
	p.Init = true
	if n.start.Restore != "" {
		err = n.restore(ctr, p)
	} else {
		err = n.run(ctr, p)
	}
	if err != nil {
		return 0, err
	}
	return p.Pid()
}

// release lets the first process run its program: libcontainer's init waits until the other end of a named pipe is
// opened, and writes a byte into it. libcontainer's own Exec would leave a thread behind if the process died before.
func (n *native) release() error {
	if n.start.Restore != "" {
		return nil
	}
	path := filepath.Join(n.stateDir(), "exec.fifo")
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("container %s: its process was started already: %w", n.start.ID, err)
	}
	defer unix.Close(fd)
	if err := os.Remove(path); err != nil {
		return err
	}
	deadline := time.Now().Add(releaseTimeout)
	for buf := make([]byte, 1); ; {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		_, err := unix.Poll(poll, int(time.Until(deadline).Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("poll", err)
		}
		if poll[0].Revents == 0 {
			return fmt.Errorf("container %s: its process did not begin within %s: %w", n.start.ID, releaseTimeout, errdefs.ErrUnavailable)
		}
		if _, err := unix.Read(fd, buf); !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return nil // the byte, or the end: then it died, and its exit tells
		}
	}
}

const releaseTimeout = 30 * time.Second

func (n *native) exec(spec *specs.Process, io childIO, first *os.File) (int, error) {
	ctr, err := n.container()
	if err != nil {
		return 0, err
	}
	pid, err := n.direct(ctr, spec, io, first)
	if err == nil {
		return pid, nil
	}
	n.log.Debug("an exec takes the long way", "id", n.start.ID, "error", err)
	size := wire.Stdio{}
	if spec.ConsoleSize != nil {
		size.Width, size.Height = uint16(spec.ConsoleSize.Width), uint16(spec.ConsoleSize.Height)
	}
	p, err := libcontainerProcess(spec, io, size)
	if err != nil {
		return 0, err
	}
	if err := n.run(ctr, p); err != nil {
		return 0, err
	}
	return p.Pid()
}

// run has libcontainer create a process, with the filter of its seccomp profile when that is known already.
func (n *native) run(ctr *libcontainer.Container, p *libcontainer.Process) error {
	config := ctr.Config()
	if filter := n.filters.Get(config.Seccomp); filter != nil {
		defer filter.Close()
		p.ExtraFiles = []*os.File{filter}
	}
	if err := ctr.Start(p); err != nil {
		if about := profileError(p.AppArmorProfile, err); about != nil {
			return about
		}
		return startError(p.Args, p.Cwd, err)
	}
	return nil
}

func (n *native) processes() ([]int, error) {
	ctr, err := n.container()
	if err != nil {
		return nil, err
	}
	pids, err := ctr.Processes()
	return pids, plain(err)
}

func (n *native) killsAll() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ownPIDs
}

func (n *native) pause() error {
	ctr, err := n.container()
	if err != nil {
		return err
	}
	return turned(ctr.Pause())
}

func (n *native) resume() error {
	ctr, err := n.container()
	if err != nil {
		return err
	}
	if err := ctr.Resume(); !errors.Is(err, libcontainer.ErrNotPaused) {
		return turned(err)
	}
	return nil
}

// turned says of a container that has just ended that it cannot be paused or resumed any more.
func turned(err error) error {
	if errors.Is(err, libcontainer.ErrNotRunning) {
		return fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition)
	}
	return plain(err)
}

func (n *native) paused() (bool, error) {
	ctr, err := n.container()
	if err != nil {
		return false, err
	}
	status, err := ctr.Status()
	return status == libcontainer.Paused, plain(err)
}

func (n *native) update(r *specs.LinuxResources) error {
	ctr, err := n.container()
	if err != nil {
		return err
	}
	config := ctr.Config()
	if config.Cgroups, err = updated(config.Cgroups, r); err != nil {
		return err
	}
	if err := ctr.Set(config); err != nil {
		return fmt.Errorf("container %s: new limits: %w: %w", n.start.ID, plain(err), errdefs.ErrInvalidArgument)
	}
	n.forget() // it would start nothing more, because SkipDevices is set; the state file does not have that
	return nil
}

// forget lets libcontainer's object go; it is loaded again when it is needed.
func (n *native) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ctr = nil
}

func (n *native) destroy() error {
	n.made.Wait()
	n.ready.close()
	ctr, err := n.container()
	if err == nil {
		err = ctr.Destroy()
	}
	if err == nil {
		n.forget()
	}
	return plain(err)
}

// libcontainerProcess translates a process of the runtime spec.
func libcontainerProcess(s *specs.Process, io childIO, size wire.Stdio) (*libcontainer.Process, error) {
	limits, err := rlimits(s.Rlimits)
	if err != nil {
		return nil, err
	}
	affinity, err := configs.ConvertCPUAffinity(s.ExecCPUAffinity)
	if err != nil {
		return nil, fmt.Errorf("process: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	p := &libcontainer.Process{
		Args: s.Args, Env: s.Env, Cwd: s.Cwd, UID: int(s.User.UID), GID: int(s.User.GID),
		NoNewPrivileges: &s.NoNewPrivileges, AppArmorProfile: s.ApparmorProfile, Label: s.SelinuxLabel,
		Rlimits: limits, Scheduler: s.Scheduler, IOPriority: s.IOPriority, CPUAffinity: affinity,
		ConsoleSocket: io.console, ConsoleWidth: size.Width, ConsoleHeight: size.Height,
	}
	for _, g := range s.User.AdditionalGids {
		p.AdditionalGroups = append(p.AdditionalGroups, int(g))
	}
	if c := s.Capabilities; c != nil {
		p.Capabilities = &configs.Capabilities{
			Bounding: c.Bounding, Effective: c.Effective, Inheritable: c.Inheritable, Permitted: c.Permitted, Ambient: c.Ambient,
		}
	}
	// A nil *os.File in an interface is not nil.
	if io.stdin != nil {
		p.Stdin = io.stdin
	}
	if io.stdout != nil {
		p.Stdout = io.stdout
	}
	if io.stderr != nil {
		p.Stderr = io.stderr
	}
	return p, nil
}

// rlimits translates names (getrlimit(2)) to numbers.
func rlimits(list []specs.POSIXRlimit) ([]configs.Rlimit, error) {
	numbers := map[string]int{
		"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
		"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
		"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE,
		"RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS,
		"RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
		"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
	}
	var limits []configs.Rlimit
	for _, l := range list {
		number, ok := numbers[l.Type]
		if !ok {
			return nil, fmt.Errorf("process: rlimit %q: no such limit: %w", l.Type, errdefs.ErrInvalidArgument)
		}
		limits = append(limits, configs.Rlimit{Type: number, Hard: l.Hard, Soft: l.Soft})
	}
	return limits, nil
}

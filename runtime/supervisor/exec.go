package supervisor

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

// exec runs one more process in a running container.
func (s *Supervisor) exec(req wire.Exec, files []*os.File) (wire.StartResult, []*os.File, error) {
	s.warm.touch()
	began := time.Now()
	if req.Exec == "" {
		return wire.StartResult{}, nil, fmt.Errorf("exec in %s: the exec id is empty: %w", name(req.Process), errdefs.ErrInvalidArgument)
	}
	defer s.starts.begin(req.Process)()
	c, first, err := s.running(containerKey(req.Process))
	if err != nil {
		return wire.StartResult{}, nil, err
	}
	if len(req.Spec) > 0 {
		return s.execFleeting(c, first, req, files)
	}
	spec, err := loadProcess(req.Dir)
	if err != nil {
		return wire.StartResult{}, nil, err
	}
	spec.Terminal = req.Stdio.Terminal
	if req.Stdio.Width != 0 && req.Stdio.Height != 0 {
		spec.ConsoleSize = &specs.Box{Width: uint(req.Stdio.Width), Height: uint(req.Stdio.Height)}
	}
	p := s.newProcess(req.Process, req.Dir, req.Stdio)
	create := func(io childIO) (int, error) { return c.rt.exec(spec, io, first.pidfd) }
	// The process runs as soon as it exists; its record can only follow.
	err = s.launch(c, p, req.Attach, files, create, func() error {
		return record{Exec: &req, PID: p.pid, StartTime: p.startTime, OOMBase: p.oomBase}.save(req.Dir)
	})
	if err != nil {
		return wire.StartResult{}, nil, err
	}
	result, held := s.started(c, p)
	result.Created = time.Since(began)
	return result, held, nil
}

// execFleeting runs a process that leaves nothing: see wire.Exec.
func (s *Supervisor) execFleeting(c *container, first *process, req wire.Exec, files []*os.File) (_ wire.StartResult, _ []*os.File, err error) {
	began := time.Now()
	var spec specs.Process
	if err := json.Unmarshal(req.Spec, &spec); err != nil {
		return wire.StartResult{}, nil, fmt.Errorf("%s: its document: %w: %w", name(req.Process), err, errdefs.ErrInvalidArgument)
	}
	if err := checkProcess(name(req.Process), &spec); err != nil {
		return wire.StartResult{}, nil, err
	}
	own, err := ownStreams(req, files)
	if err != nil {
		return wire.StartResult{}, nil, err
	}
	p := s.newProcess(req.Process, "", wire.Stdio{Log: wire.Log{Driver: "none"}})
	if err := c.reserve(p); err != nil {
		return wire.StartResult{}, nil, err
	}
	defer func() {
		if err != nil {
			c.release(p)
		}
	}()
	p.oomBase = oomKills(c.cgroups)
	pid, err := c.rt.exec(&spec, own, first.pidfd)
	if err != nil {
		return wire.StartResult{}, nil, err
	}
	if err := s.adoptChild(p, pid); err != nil {
		return wire.StartResult{}, nil, s.undoLaunch(p, pid, err)
	}
	c.publish(p)
	result, held := s.started(c, p)
	result.Created = time.Since(began)
	return result, held, nil
}

// fleeting says that a process leaves nothing when it has ended.
func (p *process) fleeting() bool { return p.dir == "" }

// ownStreams makes a client's descriptors the streams of a process. They are non-blocking for the client's sake, which is
// a property of the open file, and programs do not expect that of theirs.
func ownStreams(req wire.Exec, files []*os.File) (childIO, error) {
	if req.Attach == nil || req.Attach.Stdin || req.Stdio.Terminal || req.Stdio.Stdin {
		return childIO{}, fmt.Errorf("%s: without a directory it has output streams and nothing else: %w", name(req.Process), errdefs.ErrInvalidArgument)
	}
	_, out, errOut, err := pick(*req.Attach, files)
	if err != nil {
		return childIO{}, err
	}
	for _, f := range []*os.File{out, errOut} {
		if f == nil {
			continue
		}
		if err := unix.SetNonblock(int(f.Fd()), false); err != nil {
			return childIO{}, os.NewSyscallError("fcntl", err)
		}
	}
	return childIO{stdout: out, stderr: errOut}, nil
}

func loadProcess(dir string) (*specs.Process, error) {
	var p specs.Process
	path := filepath.Join(dir, "process.json")
	if err := loadJSON(path, &p); err != nil {
		return nil, err
	}
	return &p, checkProcess(path, &p)
}

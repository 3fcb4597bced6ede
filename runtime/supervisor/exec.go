package supervisor

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

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

func loadProcess(dir string) (*specs.Process, error) {
	var p specs.Process
	path := filepath.Join(dir, "process.json")
	if err := loadJSON(path, &p); err != nil {
		return nil, err
	}
	return &p, checkProcess(path, &p)
}

package cri

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/stdio"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

const (
	// maxOutput is what ExecSync keeps of both streams, in bytes. The CRI says 16 MB of each (CVE-2022-1708,
	// CVE-2022-31030), but the kubelet's client takes no message above 16 MiB: the rest of the answer has the last KiB.
	maxOutput = 16<<20 - 1<<10
	// truncated ends an output that was cut, within the limit.
	truncated = "\n[the rest of the output was dropped: the limit is 16 MiB]\n"
	// drainTime is how long output is taken at most after the process has ended, when somebody whom it left behind holds
	// its streams and goes on writing.
	drainTime = 5 * time.Second
	// killTime is how long a killed process may take to be gone.
	killTime = 10 * time.Second
)

// ExecSync runs a command in a container and waits for its end.
func (s *runtimeServer) ExecSync(ctx context.Context, r *v1.ExecSyncRequest) (*v1.ExecSyncResponse, error) {
	timeout, err := seconds("exec timeout", r.GetTimeout())
	if err != nil {
		return nil, err
	}
	if err := checkCommand(r.GetCmd()); err != nil {
		return nil, err
	}
	c, err := s.running(ctx, r.GetContainerId())
	if err != nil {
		return nil, err
	}
	pipes, streams, err := stdio.Open(false, true, true)
	if err != nil {
		return nil, err
	}
	defer pipes.Close()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout,
			fmt.Errorf("command %q in container %s ran longer than %s and was killed: %w", r.GetCmd()[0], c.ID, timeout, context.DeadlineExceeded))
		defer cancel()
	}
	p, err := s.Engine.Exec(ctx, Namespace, c.ID, engine.ExecOptions{
		Process: spec.Exec{Args: r.GetCmd()}, Fleeting: true, Streams: streams,
	})
	if err != nil {
		return nil, err
	}
	wait := func(ctx context.Context) (wire.Exit, error) {
		exit, err := p.Wait(ctx)
		if err != nil {
			s.killExec(ctx, c.ID, p)
			pipes.Close()
			return exit, err
		}
		time.AfterFunc(drainTime, pipes.Close)
		return exit, nil
	}
	var stdout, stderr output
	exit, err := pipes.Deliver(ctx, wait, stdout.add, stderr.add)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if err != nil {
		return nil, err
	}
	fit(&stdout, &stderr)
	return &v1.ExecSyncResponse{Stdout: stdout.take(), Stderr: stderr.take(), ExitCode: int32(exit.Code)}, nil
}

func checkCommand(cmd []string) error {
	if len(cmd) == 0 || cmd[0] == "" {
		return invalid("exec: the command is empty: name a program")
	}
	return checkWords("command", cmd)
}

// killExec ends a process that nobody waits for any more, and waits until it is gone.
func (s *runtimeServer) killExec(ctx context.Context, container string, p engine.Process) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTime)
	defer cancel()
	if err := s.Engine.Signal(ctx, Namespace, container, p.ExecID, int(unix.SIGKILL), false); err != nil {
		return // it has ended by itself
	}
	if _, err := p.Wait(ctx); err != nil {
		s.Log.Warn("a command has not ended after SIGKILL", "container", container, "pid", p.PID, "error", err)
	}
}

// output is what is kept of a stream: its beginning.
type output struct {
	data []byte
	cut  bool
}

func (o *output) add(more []byte) error {
	if room := maxOutput - len(o.data); len(more) > room {
		more, o.cut = more[:room], true
	}
	o.data = append(o.data, more...)
	return nil
}

// fit cuts the longer of two outputs, or both to the half, so that they fit the answer together.
func fit(a, b *output) {
	if len(a.data) < len(b.data) {
		a, b = b, a
	}
	if len(a.data)+len(b.data) > maxOutput {
		a.limit(maxOutput - min(len(b.data), maxOutput/2))
		b.limit(maxOutput / 2)
	}
}

func (o *output) limit(n int) {
	if len(o.data) > n {
		o.data, o.cut = o.data[:n], true
	}
}

func (o *output) take() []byte {
	if o.cut {
		return append(o.data[:len(o.data)-len(truncated)], truncated...)
	}
	return o.data
}

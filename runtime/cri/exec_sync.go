package cri

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/engine"
)

const (
	// maxOutput is what ExecSync keeps of each stream, in bytes: the CRI says 16 MB (CVE-2022-1708, CVE-2022-31030).
	maxOutput = 16 << 20
	// truncated ends an output that was cut, within the limit.
	truncated = "\n[the rest of the output was dropped: the limit is 16 MiB]\n"
	// drainTime is how long output is still taken after the process has ended, while somebody it left behind holds its
	// streams.
	drainTime = 2 * time.Second
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
	stdout, outFile, err := newCapture()
	if err != nil {
		return nil, err
	}
	defer stdout.close()
	stderr, errFile, err := newCapture()
	if err != nil {
		outFile.Close()
		return nil, err
	}
	defer stderr.close()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout,
			fmt.Errorf("command %q in container %s ran longer than %s and was killed: %w", r.GetCmd()[0], c.ID, timeout, context.DeadlineExceeded))
		defer cancel()
	}
	p, err := s.Engine.Exec(ctx, Namespace, c.ID, engine.ExecOptions{
		Process: spec.Exec{Args: r.GetCmd()}, AutoRemove: true, Streams: &engine.Streams{Stdout: outFile, Stderr: errFile},
	})
	if err != nil {
		return nil, err
	}
	exit, err := p.Wait(ctx)
	if err != nil {
		s.killExec(ctx, c.ID, p)
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, err
	}
	deadline := time.Now().Add(drainTime)
	return &v1.ExecSyncResponse{Stdout: stdout.take(deadline), Stderr: stderr.take(deadline), ExitCode: int32(exit.Code)}, nil
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
	if err := s.Engine.Signal(ctx, Namespace, container, p.ExecID, int(unix.SIGKILL), false); err == nil {
		_, err = p.Wait(ctx)
		if err != nil {
			s.Log.Warn("a command has not ended after SIGKILL", "container", container, "pid", p.PID, "error", err)
		}
	}
}

// capture reads one stream into memory, and throws away what is too much.
type capture struct {
	from *os.File
	done chan struct{} // the stream has ended, or its deadline has passed
	data bytes.Buffer
	cut  bool
}

// newCapture begins to read; what is written to the file is captured. The file is the caller's to close.
func newCapture() (*capture, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("exec: %w", err)
	}
	c := &capture{from: r, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		// An error ends the capture as the end of the stream does: take sets a deadline, close closes.
		if _, err := c.data.ReadFrom(io.LimitReader(r, maxOutput)); err != nil {
			return
		}
		n, _ := io.Copy(io.Discard, r)
		c.cut = n > 0
	}()
	return c, w, nil
}

// take returns what was captured when the stream ends, or at the deadline.
func (c *capture) take(deadline time.Time) []byte {
	if err := c.from.SetReadDeadline(deadline); err != nil && !errors.Is(err, os.ErrClosed) {
		c.from.Close()
	}
	<-c.done
	data := c.data.Bytes()
	if c.cut {
		data = append(data[:maxOutput-len(truncated)], truncated...)
	}
	return data
}

// close ends the capture. It may follow take.
func (c *capture) close() { c.from.Close() }

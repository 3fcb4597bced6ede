package cri

import (
	"context"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/engine"
)

// Exec gives the URL at which a command's streams are taken up.
func (s *runtimeServer) Exec(ctx context.Context, r *v1.ExecRequest) (*v1.ExecResponse, error) {
	if err := checkCommand(r.GetCmd()); err != nil {
		return nil, err
	}
	if err := checkStreams(r.GetTty(), r.GetStdin(), r.GetStdout(), r.GetStderr()); err != nil {
		return nil, err
	}
	c, err := s.running(ctx, r.GetContainerId())
	if err != nil {
		return nil, err
	}
	r.ContainerId = c.ID
	return s.Streams.GetExec(r)
}

// Attach gives the URL at which the streams of a container's first process are taken up.
func (s *runtimeServer) Attach(ctx context.Context, r *v1.AttachRequest) (*v1.AttachResponse, error) {
	if err := checkStreams(r.GetTty(), r.GetStdin(), r.GetStdout(), r.GetStderr()); err != nil {
		return nil, err
	}
	c, err := s.running(ctx, r.GetContainerId())
	if err != nil {
		return nil, err
	}
	r.ContainerId = c.ID
	return s.Streams.GetAttach(r)
}

// PortForward gives the URL at which connections to a pod's ports are made.
func (s *runtimeServer) PortForward(ctx context.Context, r *v1.PortForwardRequest) (*v1.PortForwardResponse, error) {
	for _, port := range r.GetPort() {
		if port < 1 || port > 65535 {
			return nil, invalid("port %d: ports go from 1 to 65535", port)
		}
	}
	p, err := s.pod(ctx, r.GetPodSandboxId())
	if err != nil {
		return nil, err
	}
	if p.State != engine.PodReady {
		return nil, unable("pod %s is not ready: its network is gone", p.ID)
	}
	r.PodSandboxId = p.ID
	return s.Streams.GetPortForward(r)
}

// checkStreams holds the CRI's rules for the streams of exec and attach.
func checkStreams(tty, stdin, stdout, stderr bool) error {
	if tty && stderr {
		return invalid("a terminal has no stderr of its own: leave one of the two out")
	}
	if !stdin && !stdout && !stderr {
		return invalid("no stream is asked for: give one of stdin, stdout and stderr")
	}
	return nil
}

package daemon

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/cri"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/network/netns"
	"github.com/minirt/mini/runtime/pin"
	"github.com/minirt/mini/runtime/stream"
)

// streamer is what the streaming server runs things with: the processes and networks of the CRI's pods.
type streamer struct {
	stream.Processes
	stream.Forwarder
}

func newStreamer(d *Daemon) streamer {
	return streamer{
		Processes: stream.Processes{Engine: d.engine, Namespace: cri.Namespace, Log: d.Log},
		Forwarder: stream.Forwarder{Dialer: podDialer{d.engine}},
	}
}

// podDialer connects from within the network namespaces of pods.
type podDialer struct{ engine *engine.Engine }

// DialPod is of stream.Dialer.
func (p podDialer) DialPod(ctx context.Context, pod, network, address string) (net.Conn, error) {
	path, err := p.engine.PodNamespace(ctx, cri.Namespace, pod, pin.Network)
	if err != nil {
		return nil, err
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	return netns.Dial(ctx, path, network, to)
}

// urls gives the CRI the streaming server's addresses.
type urls struct{ *stream.Server }

func (u urls) GetExec(r *v1.ExecRequest) (*v1.ExecResponse, error) {
	url, err := u.ExecURL(r.ContainerId, r.Cmd, stream.Options{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Tty})
	return &v1.ExecResponse{Url: url}, err
}

func (u urls) GetAttach(r *v1.AttachRequest) (*v1.AttachResponse, error) {
	url, err := u.AttachURL(r.ContainerId, stream.Options{Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr, Terminal: r.Tty})
	return &v1.AttachResponse{Url: url}, err
}

func (u urls) GetPortForward(r *v1.PortForwardRequest) (*v1.PortForwardResponse, error) {
	url, err := u.PortForwardURL(r.PodSandboxId, r.Port)
	return &v1.PortForwardResponse{Url: url}, err
}

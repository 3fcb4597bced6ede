package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"
	protocols "k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/runtime/client"
)

const (
	transportSPDY      = "spdy"
	transportWebSocket = "websocket"
)

// streamFlags are those of the commands that stream over the runtime's HTTP server.
func streamFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "transport", Aliases: []string{"r"}, Value: transportSPDY, Usage: "`PROTOCOL` of the streams: spdy or websocket"},
		&cli.StringFlag{Name: "tls-sni", Aliases: []string{"tls-server-name"}, Value: "localhost", Usage: "`NAME` that the streaming server's certificate is for"},
		&cli.StringFlag{Name: "tls-ca", TakesFile: true, Usage: "`FILE` with the authority of the streaming server's certificate"},
		&cli.StringFlag{Name: "tls-cert", TakesFile: true, Usage: "`FILE` with a client certificate for the streaming server"},
		&cli.StringFlag{Name: "tls-key", TakesFile: true, Usage: "`FILE` with its key"},
	}
}

// streamer opens streams as the flags say.
type streamer struct {
	transport string
	config    *rest.Config
	debug     func(format string, args ...any)
}

func newStreamer(c *cli.Context, r *runtime) (streamer, error) {
	s := streamer{transport: c.String("transport"), debug: func(string, ...any) {}}
	if r.Debug {
		s.debug = r.console
	}
	if s.transport != transportSPDY && s.transport != transportWebSocket {
		return s, fmt.Errorf("--transport %q: use spdy or websocket: %w", s.transport, errdefs.ErrInvalidArgument)
	}
	tls, err := streamTLS(c.String("tls-sni"), c.String("tls-ca"), c.String("tls-cert"), c.String("tls-key"))
	s.config = &rest.Config{TLSClientConfig: tls}
	return s, err
}

// streamTLS is how an https:// URL of the runtime is trusted: without an authority as its socket is, which has given the
// URL.
func streamTLS(name, ca, cert, key string) (rest.TLSClientConfig, error) {
	if (cert == "") != (key == "") {
		return rest.TLSClientConfig{}, fmt.Errorf("--tls-cert and --tls-key belong together: give both or none: %w", errdefs.ErrInvalidArgument)
	}
	if ca == "" && cert == "" {
		return rest.TLSClientConfig{Insecure: true}, nil
	}
	return rest.TLSClientConfig{ServerName: name, CAFile: ca, CertFile: cert, KeyFile: key, Insecure: ca == ""}, nil
}

// parseStreamURL completes what a runtime has answered: some leave host and scheme to the kubelet's server.
func parseStreamURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("the runtime's streaming URL: %w", err)
	}
	if u.Host == "" {
		u.Host = "127.0.0.1:10250"
	}
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	return u, nil
}

// streams is what of a process is attached.
type streams struct {
	in, tty bool
}

// run carries the streams of an exec or attach until the process ends or the detach keys are typed. A code other than 0
// is an icli.ExitError.
func (s streamer) run(ctx context.Context, address string, st streams) error {
	u, err := parseStreamURL(address)
	if err != nil {
		return err
	}
	s.debug("debug: %s %s", s.transport, u)
	executor, err := s.executor(u, st)
	if err != nil {
		return err
	}
	ctx, detach := context.WithCancel(ctx)
	defer detach()
	o := remotecommand.StreamOptions{Stdout: os.Stdout, Tty: st.tty}
	if !st.tty {
		o.Stderr = os.Stderr
	}
	left := false
	if st.in {
		o.Stdin = os.Stdin
	}
	if st.tty {
		restore, err := rawStreams(&o, func() { left = true; detach() })
		if err != nil {
			return err
		}
		defer restore()
	}
	err = executor.StreamWithContext(ctx, o)
	if left {
		return nil
	}
	return streamError(err)
}

// rawStreams hands the local terminal to the process; leave is called when the detach keys are typed.
func rawStreams(o *remotecommand.StreamOptions, leave func()) (restore func(), err error) {
	term, err := icli.RawTerminal()
	if err != nil || term == nil {
		return func() {}, err
	}
	o.TerminalSizeQueue = &sizes{first: term.Size(), more: term.Changes}
	if o.Stdin != nil {
		keys, err := client.ParseDetachKeys(icli.DefaultDetachKeys)
		if err != nil {
			term.Restore()
			return nil, err
		}
		o.Stdin = client.DetachReader(o.Stdin, keys, leave)
	}
	return term.Restore, nil
}

// sizes gives the terminal's sizes to the stream.
type sizes struct {
	first client.Size
	more  <-chan client.Size
}

// Next is the next size; nil for no more.
func (s *sizes) Next() *remotecommand.TerminalSize {
	size := s.first
	if s.first = (client.Size{}); size == (client.Size{}) {
		var ok bool
		if size, ok = <-s.more; !ok {
			return nil
		}
	}
	return &remotecommand.TerminalSize{Width: uint16(size.Width), Height: uint16(size.Height)}
}

func (s streamer) executor(u *url.URL, st streams) (remotecommand.Executor, error) {
	if s.transport == transportSPDY {
		return remotecommand.NewSPDYExecutor(s.config, http.MethodPost, u)
	}
	// Before version 5 the end of the input cannot be told over a WebSocket (KEP-4006): without input that does not matter.
	versions := []string{protocols.StreamProtocolV5Name}
	if !st.in {
		versions = append(versions, protocols.StreamProtocolV4Name)
	}
	return remotecommand.NewWebSocketExecutorForProtocols(s.config, http.MethodGet, u.String(), versions...)
}

// dialer opens connections for port-forward.
func (s streamer) dialer(u *url.URL) (httpstream.Dialer, error) {
	if s.transport == transportWebSocket {
		return portforward.NewSPDYOverWebsocketDialerForStreaming(u, s.config)
	}
	transport, upgrader, err := spdy.RoundTripperFor(s.config)
	if err != nil {
		return nil, err
	}
	return spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, u), nil
}

// streamError makes an exit code of an error that is one, and says more where the transport was refused.
func streamError(err error) error {
	var code exec.CodeExitError
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return nil
	case errors.As(err, &code):
		return icli.ExitError{Code: code.ExitStatus()}
	case httpstream.IsUpgradeFailure(err):
		return fmt.Errorf("%w: the runtime does not speak this protocol: try the other --transport", err)
	}
	return err
}

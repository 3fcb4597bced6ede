package stream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream/wsstream"
	"k8s.io/utils/exec"
)

// routes has no other door than a token. A client of SPDY posts, one of WebSocket gets.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for verb, serve := range map[string]func(http.ResponseWriter, *http.Request, request){
		"exec": s.remoteCommand, "attach": s.remoteCommand, "portforward": s.portForward,
	} {
		handler := s.redeeming(verb, serve)
		mux.HandleFunc("GET /"+verb+"/{token}", handler)
		mux.HandleFunc("POST /"+verb+"/{token}", handler)
	}
	return mux
}

// redeeming serves one token. The request's context then ends with the connection, or with the server.
func (s *Server) redeeming(verb string, serve func(http.ResponseWriter, *http.Request, request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.enter() {
			http.Error(w, ErrStopping.Error(), http.StatusServiceUnavailable)
			return
		}
		defer s.handlers.Done()
		req, ok := s.tokens.redeem(verb, r.PathValue("token"))
		if !ok {
			http.Error(w, "no such address: it was used already or has expired: ask for a new one", http.StatusNotFound)
			return
		}
		ctx, leave := context.WithCancelCause(r.Context())
		defer leave(context.Canceled)
		defer context.AfterFunc(s.ctx, func() { leave(context.Cause(s.ctx)) })()
		t := &taker{ResponseWriter: w, server: s, leave: leave}
		defer t.close()
		serve(t, r.WithContext(ctx), req)
	}
}

// enter counts a handler, unless Stop waits for them already.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.handlers.Add(1)
	}
	return !s.stopped
}

func (s *Server) remoteCommand(w http.ResponseWriter, r *http.Request, req request) {
	o := remotecommand.Options{Stdin: req.options.Stdin, Stdout: req.options.Stdout, Stderr: req.options.Stderr, TTY: req.options.Terminal}
	c := &command{runtime: s.runtime, request: req}
	switch {
	case wsstream.IsWebSocketRequestWithStreamCloseProtocol(r):
		s.serveV5(w, r, c)
	case req.verb == "exec":
		remotecommand.ServeExec(w, r, c, "", "", req.container, req.command, &o,
			s.config.IdleTimeout, s.config.CreationTimeout, remotecommand.SupportedStreamingProtocols)
	default:
		remotecommand.ServeAttach(w, r, c, "", "", req.container, &o,
			s.config.IdleTimeout, s.config.CreationTimeout, remotecommand.SupportedStreamingProtocols)
	}
}

// command is what the protocols of remotecommand call, for one request.
type command struct {
	runtime Runtime
	request request
}

// ExecInContainer is of remotecommand.Executor.
func (c *command) ExecInContainer(ctx context.Context, _, _, container string, cmd []string, in io.Reader, out, errOut io.WriteCloser,
	tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	defer closeOutput(out, errOut)
	code, err := c.runtime.Exec(ctx, container, cmd, c.streams(in, out, errOut, tty, resize))
	if err != nil {
		return err
	}
	if code != 0 {
		return exec.CodeExitError{Err: fmt.Errorf("exit code %d", code), Code: code}
	}
	return nil
}

// AttachContainer is of remotecommand.Attacher.
func (c *command) AttachContainer(ctx context.Context, _, _, container string, in io.Reader, out, errOut io.WriteCloser,
	tty bool, resize <-chan remotecommand.TerminalSize) error {
	defer closeOutput(out, errOut)
	return c.runtime.Attach(ctx, container, c.streams(in, out, errOut, tty, resize))
}

// streams has only those that were asked for: on a WebSocket the others are there too, and lead nowhere.
func (c *command) streams(in io.Reader, out, errOut io.Writer, tty bool, resize <-chan remotecommand.TerminalSize) Streams {
	s, o := Streams{Terminal: tty, Resize: resize}, c.request.options
	if o.Stdin {
		s.Stdin = in
	}
	if o.Stdout {
		s.Stdout = out
	}
	if o.Stderr {
		s.Stderr = errOut
	}
	return s
}

// closeOutput gives the client an orderly end of each stream; the connection's end would reset what it has not read.
func closeOutput(list ...io.Closer) {
	for _, c := range list {
		if c != nil {
			c.Close()
		}
	}
}

func (s *Server) portForward(w http.ResponseWriter, r *http.Request, req request) {
	f := newForwarder(r.Context(), s.runtime)
	defer f.end()
	if wsstream.IsWebSocketRequestWithTunnelingProtocol(r) {
		s.serveTunnel(w, r, func(w http.ResponseWriter, r *http.Request) { s.forward(w, r, f, req) })
		return
	}
	s.forward(w, r, f, req)
}

func (s *Server) forward(w http.ResponseWriter, r *http.Request, f *forwarder, req request) {
	portforward.ServePortForward(w, r, f, req.pod, "", &portforward.V4Options{Ports: req.ports},
		s.config.IdleTimeout, s.config.CreationTimeout, portforward.SupportedProtocols)
}

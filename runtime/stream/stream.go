// Package stream serves the streams of CRI's Exec, Attach and PortForward: a small HTTP server beside the CRI socket,
// whose addresses CRI hands out. It speaks what k8s.io/cri-streaming speaks (SPDY and WebSocket, remotecommand v1 to v4,
// port forwarding), and on WebSocket also what kubectl asks of an API server: remotecommand v5, and SPDY tunnelled
// through a WebSocket. It translates and never decides: what happens is a Runtime's matter.
//
// Of cri-streaming only the protocols are used, not its server: that one has tokens of 48 bits, is bound only after it
// has given addresses away, passes no word of a client that has left, and needs a REST framework for three routes.
package stream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// Runtime is what the server wants of who runs containers; Processes and Forwarder together are one.
type Runtime interface {
	// Exec runs a command in a container and returns its exit code when its output has been written. An error says that
	// it did not run, or that its end is not known. Stdin's end closes the command's standard input.
	Exec(ctx context.Context, container string, command []string, s Streams) (code int, err error)
	// Attach joins the streams to the container's first process, until that ends or ctx does.
	Attach(ctx context.Context, container string, s Streams) error
	// PortForward joins a stream to a connection to a port of localhost in the pod's network, until both directions have
	// ended or ctx has. It closes the stream.
	PortForward(ctx context.Context, pod string, port int32, stream io.ReadWriteCloser) error
}

// Streams are those that the client has asked for; the others are nil.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Terminal       bool
	// Resize gives the sizes of the client's terminal, in characters, and is closed when there will be no more; nil when
	// the client's protocol has none.
	Resize <-chan remotecommand.TerminalSize
}

var (
	// ErrClientGone is the cause of a context's end when the client's connection has broken.
	ErrClientGone = fmt.Errorf("the client has gone: %w", errdefs.ErrAborted)
	// ErrStopping is the cause when the server is to stop.
	ErrStopping = fmt.Errorf("the streaming server is stopping: %w", errdefs.ErrUnavailable)
)

// Config says where and how to serve. The zero value of a field is its default.
type Config struct {
	Address string // host:port, by default 127.0.0.1:0; port 0 is any free one
	// CertFile and KeyFile, in PEM, make it serve TLS. They are read again when they change.
	CertFile, KeyFile string
	TokenLife         time.Duration // how long an address may wait for its client; 1 min
	IdleTimeout       time.Duration // a connection without a byte in either direction; 4 h
	CreationTimeout   time.Duration // for a client to open its SPDY streams; 30 s
}

func (c Config) withDefaults() Config {
	if c.Address == "" {
		c.Address = "127.0.0.1:0"
	}
	if c.TokenLife == 0 {
		c.TokenLife = time.Minute
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = 4 * time.Hour
	}
	if c.CreationTimeout == 0 {
		c.CreationTimeout = remotecommand.DefaultStreamCreationTimeout
	}
	return c
}

// Server gives addresses out and serves them.
type Server struct {
	config   Config
	runtime  Runtime
	log      *slog.Logger
	tokens   *tokens
	listener net.Listener
	http     *http.Server
	base     url.URL

	ctx      context.Context // of all connections
	stop     context.CancelCauseFunc
	mu       sync.Mutex
	stopped  bool
	conns    map[*conn]struct{} // those taken over from net/http, which does not know them any more
	handlers sync.WaitGroup
}

// New listens, so that addresses can be given out; they are served by Serve.
func New(config Config, runtime Runtime, log *slog.Logger) (*Server, error) {
	config = config.withDefaults()
	s := &Server{config: config, runtime: runtime, log: log, tokens: newTokens(config.TokenLife), conns: map[*conn]struct{}{}}
	secure, err := tlsConfig(config.CertFile, config.KeyFile, log)
	if err != nil {
		return nil, fmt.Errorf("streaming server: %w", err)
	}
	if s.listener, err = net.Listen("tcp", config.Address); err != nil {
		return nil, fmt.Errorf("streaming server: %w: %w: choose another address or port", err, errdefs.ErrUnavailable)
	}
	s.base = url.URL{Scheme: "http", Host: reachable(s.listener.Addr())}
	if secure != nil {
		s.base.Scheme = "https"
		s.listener = tls.NewListener(s.listener, secure)
	}
	s.ctx, s.stop = context.WithCancelCause(context.Background())
	s.http = &http.Server{
		Handler: s.routes(), ReadHeaderTimeout: config.CreationTimeout, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// reachable is where a client on this machine finds a listener: one on all addresses is on the loopback's too, also when
// it was made for IPv6, which Go then makes for both.
func reachable(a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
	}
	return a.String()
}

// Addr is where it listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve serves until Stop. Its error is nil then.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("streaming server on %s: %w", s.base.Host, err)
	}
	return nil
}

// stopGrace is how long clients may take to hear how their streams have ended: without a word SPDY's believe in success.
const stopGrace = 2 * time.Second

// Stop ends all connections and waits for what served them. It may be called without Serve.
func (s *Server) Stop() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.stop(ErrStopping)
	s.http.Close()
	s.listener.Close() // Serve may never have taken it
	for end := time.Now().Add(stopGrace); s.connected() && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	s.mu.Lock()
	for c := range s.conns {
		c.abort()
	}
	s.mu.Unlock()
	s.handlers.Wait()
}

func (s *Server) connected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns) > 0
}

// ExecURL is the address at which a client gets the streams of a command, which runs when the client comes.
func (s *Server) ExecURL(container string, command []string, o Options) (string, error) {
	if len(command) == 0 {
		return "", fmt.Errorf("exec in container %q: no command was given: %w", container, errdefs.ErrInvalidArgument)
	}
	if err := o.check("exec in", container); err != nil {
		return "", err
	}
	return s.url("exec", request{container: container, command: command, options: o})
}

// AttachURL is the address at which a client gets the streams of a container's first process.
func (s *Server) AttachURL(container string, o Options) (string, error) {
	if err := o.check("attach to", container); err != nil {
		return "", err
	}
	return s.url("attach", request{container: container, options: o})
}

// PortForwardURL is the address at which a client gets connections into a pod. A client of SPDY names the ports itself;
// one of plain WebSocket gets those given here.
func (s *Server) PortForwardURL(pod string, ports []int32) (string, error) {
	if pod == "" {
		return "", fmt.Errorf("port forward: the pod's id is empty: %w", errdefs.ErrInvalidArgument)
	}
	for _, p := range ports {
		if p < 1 || p > 65535 {
			return "", fmt.Errorf("port forward to pod %s: port %d: use 1 to 65535: %w", pod, p, errdefs.ErrInvalidArgument)
		}
	}
	return s.url("portforward", request{pod: pod, ports: ports})
}

// Options are the streams that a client wants.
type Options struct{ Stdin, Stdout, Stderr, Terminal bool }

func (o Options) check(verb, container string) error {
	problem := ""
	switch {
	case container == "":
		problem = "its id is empty"
	case o.Terminal && o.Stderr:
		problem = "a terminal has no stderr of its own: ask for stdout only"
	case !o.Stdin && !o.Stdout && !o.Stderr:
		problem = "ask for at least one of stdin, stdout and stderr"
	default:
		return nil
	}
	return fmt.Errorf("%s container %q: %s: %w", verb, container, problem, errdefs.ErrInvalidArgument)
}

func (s *Server) url(verb string, r request) (string, error) {
	r.verb = verb
	token, err := s.tokens.issue(r)
	if err != nil {
		return "", err
	}
	return s.base.JoinPath(verb, token).String(), nil
}

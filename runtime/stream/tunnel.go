package stream

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"

	"golang.org/x/net/websocket"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// tunnelPrefix comes before the inner protocol's name in the subprotocol that a client asks for.
const tunnelPrefix = spdy.HeaderSpdy31 + "+"

// serveTunnel serves SPDY whose bytes travel in the messages of a WebSocket, as kubectl forwards ports: what comes out of
// the tunnel is given to serve as if it were a connection that wants to become SPDY.
func (s *Server) serveTunnel(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
	handshake := func(c *websocket.Config, _ *http.Request) error {
		for _, p := range c.Protocol {
			if strings.HasPrefix(p, tunnelPrefix) {
				c.Protocol = []string{p}
				return nil
			}
		}
		return fmt.Errorf("no subprotocol of %v begins with %s", c.Protocol, tunnelPrefix)
	}
	handler := func(ws *websocket.Conn) {
		ws.PayloadType = websocket.BinaryFrame
		inner := r.Clone(r.Context())
		inner.Header = http.Header{}
		inner.Header.Set(httpstream.HeaderConnection, httpstream.HeaderUpgrade)
		inner.Header.Set(httpstream.HeaderUpgrade, spdy.HeaderSpdy31)
		inner.Header.Set(httpstream.HeaderProtocolVersion, strings.TrimPrefix(ws.Config().Protocol[0], tunnelPrefix))
		serve(&tunnel{ws: ws, header: http.Header{}}, inner)
	}
	websocket.Server{Handshake: handshake, Handler: handler}.ServeHTTP(w, r)
}

// tunnel is the ResponseWriter of the connection inside. Its answer goes nowhere: the WebSocket's has been given.
type tunnel struct {
	ws     *websocket.Conn
	header http.Header
}

func (t *tunnel) Header() http.Header         { return t.header }
func (t *tunnel) WriteHeader(int)             {}
func (t *tunnel) Write(p []byte) (int, error) { return len(p), nil }

// Hijack is of http.Hijacker.
func (t *tunnel) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return t.ws, bufio.NewReadWriter(bufio.NewReader(t.ws), bufio.NewWriter(t.ws)), nil
}

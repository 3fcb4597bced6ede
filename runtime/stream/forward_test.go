package stream

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/websocket"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
)

var dialers = map[string]func(address string) (httpstream.Dialer, error){
	"spdy": func(address string) (httpstream.Dialer, error) {
		u, err := url.Parse(address)
		if err != nil {
			return nil, err
		}
		transport, upgrader, err := spdy.RoundTripperFor(&rest.Config{})
		if err != nil {
			return nil, err
		}
		return spdy.NewDialer(upgrader, &http.Client{Transport: transport}, "POST", u), nil
	},
	"tunnel": func(address string) (httpstream.Dialer, error) {
		u, err := url.Parse(address)
		if err != nil {
			return nil, err
		}
		return portforward.NewSPDYOverWebsocketDialer(u, &rest.Config{})
	},
}

// forward has client-go forward a local port, which it returns, to one of pod "p".
func forward(t *testing.T, s *Server, dial func(string) (httpstream.Dialer, error), port int) (local int, stop func()) {
	t.Helper()
	address, err := s.PortForwardURL("p", nil)
	if err != nil {
		t.Fatal(err)
	}
	dialer, err := dial(address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready := make(chan struct{})
	f, err := portforward.NewOnAddressesWithContext(ctx, dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf("0:%d", port)}, ready, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- f.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("forward ports: %v", err)
	}
	stop = sync.OnceFunc(func() { cancel(); <-ended })
	t.Cleanup(stop)
	ports, err := f.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	return int(ports[0].Local), stop
}

// listen serves each connection with a function.
func listen(t *testing.T, address string, serve func(*net.TCPConn)) int {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// answer reads all, until the client has half closed, and only then answers with as much.
func answer(c *net.TCPConn) {
	data, _ := io.ReadAll(c)
	c.Write(data)
}

func dialTCP(t *testing.T, port int) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func TestPortForward(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcde\n"), 50_000)
	for name, dial := range dialers {
		for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
			t.Run(name+" "+address, func(t *testing.T) {
				t.Parallel()
				s, e, _ := serve(t, Config{})
				e.only6 = strings.HasPrefix(address, "[")
				local, _ := forward(t, s, dial, listen(t, address, answer))
				var clients sync.WaitGroup
				for range 5 {
					c := dialTCP(t, local)
					clients.Go(func() {
						go func() { c.Write(data); c.CloseWrite() }()
						if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, data) {
							t.Errorf("got %d bytes of %d, error %v", len(got), len(data), err)
						}
					})
				}
				clients.Wait()
			})
		}
	}
}

// The pod may say all it has to say first, and still listen.
func TestPortForwardOfAPodThatHalfCloses(t *testing.T) {
	client, pod := tcpPair(t)
	stream, far := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- join(client, stream) }()
	go func() { pod.Write([]byte("bye")); pod.CloseWrite() }()
	expect(t, far, "bye")
	stopped := make(chan []byte)
	go func() { data, _ := io.ReadAll(pod); stopped <- data }()
	far.Close()
	<-stopped
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func tcpPair(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	accepted := make(chan *net.TCPConn, 1)
	end := make(chan struct{})
	t.Cleanup(func() { close(end) })
	port := listen(t, "127.0.0.1:0", func(c *net.TCPConn) { accepted <- c; <-end })
	return dialTCP(t, port), <-accepted
}

// The reason for a connection that cannot be made is on the error stream.
func TestPortForwardToNobody(t *testing.T) {
	for name, dial := range dialers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _, _ := serve(t, Config{})
			address, err := s.PortForwardURL("p", nil)
			if err != nil {
				t.Fatal(err)
			}
			dialer, err := dial(address)
			if err != nil {
				t.Fatal(err)
			}
			conn, protocol, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
			if err != nil || protocol != portforward.PortForwardProtocolV1Name {
				t.Fatalf("protocol %q, error %v", protocol, err)
			}
			defer conn.Close()
			var streams []httpstream.Stream
			for _, kind := range []string{"error", "data"} {
				stream, err := conn.CreateStream(http.Header{"streamType": {kind}, "port": {"1"}, "requestID": {"0"}})
				if err != nil {
					t.Fatal(err)
				}
				streams = append(streams, stream)
			}
			if told, _ := io.ReadAll(streams[0]); !strings.Contains(string(told), "connect to port 1 in pod p") || !strings.Contains(string(told), "refused") {
				t.Errorf("the client was told %q, want why", told)
			}
		})
	}
}

// A client that goes takes its connections into the pod with it.
func TestPortForwardClientGoes(t *testing.T) {
	for name, dial := range dialers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _, _ := serve(t, Config{})
			accepted, ended := make(chan struct{}), make(chan struct{})
			port := listen(t, "127.0.0.1:0", func(c *net.TCPConn) {
				close(accepted)
				io.Copy(io.Discard, c)
				close(ended)
			})
			local, stop := forward(t, s, dial, port)
			dialTCP(t, local).Write([]byte("x"))
			<-accepted
			stop()
			select {
			case <-ended:
			case <-time.After(5 * time.Second):
				t.Error("the connection into the pod is still open")
			}
		})
	}
}

// The channels of a plain WebSocket: data 0 and errors 1, which begin with the port.
func TestPortForwardByChannels(t *testing.T) {
	s, _, _ := serve(t, Config{})
	port := listen(t, "127.0.0.1:0", func(c *net.TCPConn) { io.Copy(c, c) })
	address, err := s.PortForwardURL("p", []int32{int32(port)})
	if err != nil {
		t.Fatal(err)
	}
	ws, err := websocket.Dial(strings.Replace(address, "http", "ws", 1), "v4.channel.k8s.io", "http://localhost")
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	var heads [2][]byte
	for i := range heads {
		if err := websocket.Message.Receive(ws, &heads[i]); err != nil {
			t.Fatal(err)
		}
	}
	little := []byte{byte(port), byte(port >> 8)}
	if !bytes.Equal(heads[0], append([]byte{0}, little...)) || !bytes.Equal(heads[1], append([]byte{1}, little...)) {
		t.Errorf("the channels begin with %v and %v, want the port %v", heads[0], heads[1], little)
	}
	if err := websocket.Message.Send(ws, []byte("\x00hello")); err != nil {
		t.Fatal(err)
	}
	var got []byte
	if err := websocket.Message.Receive(ws, &got); err != nil || string(got) != "\x00hello" {
		t.Errorf("%q, error %v", got, err)
	}
}

func TestPortForwardOfAnUnknownPod(t *testing.T) {
	stream, far := net.Pipe()
	defer far.Close()
	err := Forwarder{newLocalEngine()}.PortForward(t.Context(), "q", 80, stream)
	if err == nil || strings.Count(err.Error(), "pod q: not found") != 1 {
		t.Errorf("error %v, want that the pod is not found, once", err)
	}
}

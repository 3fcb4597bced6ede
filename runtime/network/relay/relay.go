// Package relay copies what comes to a port of the host to a container, for the addresses from which the kernel forwards
// nothing: ::1, and the host's IPv6 addresses where the container has none. It is one listener and one goroutine a port, in
// the daemon; a connection costs what it copies by splice(2). While no daemon runs, nobody answers there.
//
// Which ports that are, the caller decides.
package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Route is a port of the host and where it leads.
type Route struct {
	Protocol string         // tcp or udp
	At       netip.AddrPort // of the host; an unspecified address stands for all of IPv6
	To       netip.AddrPort
}

const (
	// dialTimeout is how long a container may take to accept a connection.
	dialTimeout = 10 * time.Second
	// idleUDP ends a client's flow of datagrams; Docker's.
	idleUDP = 90 * time.Second
	// flowsUDP is how many clients one port of UDP has at once.
	flowsUDP = 1024
	// largest datagram in bytes.
	largest = 65535
)

// Relays are all that are open, by who has them. The zero value is ready but for Log.
type Relays struct {
	Log *slog.Logger

	mu   sync.Mutex
	open map[string][]*relay
}

// relay is one open port.
type relay struct {
	Route
	listener io.Closer
	ctx      context.Context
	cancel   context.CancelFunc
	done     sync.WaitGroup
	log      *slog.Logger
}

// Open opens the routes of a holder, all of them or none. An error of the kernel is in what it returns.
func (r *Relays) Open(holder string, routes []Route) error {
	var all []*relay
	for _, route := range routes {
		one, err := open(route, r.Log)
		if err != nil {
			closeAll(all)
			return fmt.Errorf("listen on %s/%s: %w", route.At, route.Protocol, err)
		}
		all = append(all, one)
	}
	if len(all) == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		r.open = map[string][]*relay{}
	}
	r.open[holder] = append(r.open[holder], all...)
	return nil
}

// Close closes what a holder has; connections end.
func (r *Relays) Close(holder string) {
	r.mu.Lock()
	all := r.open[holder]
	delete(r.open, holder)
	r.mu.Unlock()
	closeAll(all)
}

// CloseAll closes everything.
func (r *Relays) CloseAll() {
	r.mu.Lock()
	var all []*relay
	for _, list := range r.open {
		all = append(all, list...)
	}
	r.open = nil
	r.mu.Unlock()
	closeAll(all)
}

func closeAll(all []*relay) {
	for _, one := range all {
		one.cancel()
		one.listener.Close()
	}
	for _, one := range all {
		one.done.Wait()
	}
}

func open(route Route, log *slog.Logger) (*relay, error) {
	one := &relay{Route: route, log: log}
	one.ctx, one.cancel = context.WithCancel(context.Background())
	// IPv4 is the kernel's: an unspecified address is that of IPv6 alone.
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var inner error
		err := c.Control(func(fd uintptr) { inner = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1) })
		return errors.Join(err, inner)
	}}
	switch route.Protocol {
	case "tcp":
		l, err := config.Listen(one.ctx, "tcp6", route.At.String())
		if err != nil {
			one.cancel()
			return nil, err
		}
		one.listener = l
		one.done.Go(func() { one.accept(l) })
	case "udp":
		l, err := config.ListenPacket(one.ctx, "udp6", route.At.String())
		if err != nil {
			one.cancel()
			return nil, err
		}
		one.listener = l
		one.done.Go(func() { one.receive(l.(*net.UDPConn)) })
	default:
		one.cancel()
		return nil, fmt.Errorf("protocol %s: tcp and udp are relayed", route.Protocol)
	}
	return one, nil
}

// accept takes connections until the listener is closed.
func (r *relay) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if r.ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return
		}
		if err != nil { // too many open files: it passes
			r.log.Warn("a connection to a published port is not accepted", "port", r.At, "error", err)
			select {
			case <-time.After(time.Second):
			case <-r.ctx.Done():
				return
			}
			continue
		}
		r.done.Go(func() { r.join(conn.(*net.TCPConn)) })
	}
}

// join copies both ways until both have ended.
func (r *relay) join(client *net.TCPConn) {
	defer client.Close()
	ctx, cancel := context.WithTimeout(r.ctx, dialTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.To.String())
	if err != nil {
		_ = client.SetLinger(0) // the client sees a reset, as where nobody listens
		return
	}
	server := conn.(*net.TCPConn)
	defer server.Close()
	defer context.AfterFunc(r.ctx, func() { client.Close(); server.Close() })()
	var both sync.WaitGroup
	for _, way := range [][2]*net.TCPConn{{client, server}, {server, client}} {
		both.Go(func() {
			_, _ = io.Copy(way[1], way[0]) // whichever end it was, the other one is told
			_ = way[1].CloseWrite()
			_ = way[0].CloseRead()
		})
	}
	both.Wait()
}

// receive takes datagrams until the socket is closed. Each client has a socket of its own towards the container, by which
// the answers find back.
func (r *relay) receive(l *net.UDPConn) {
	var mu sync.Mutex
	flows := map[netip.AddrPort]net.Conn{}
	buffer := make([]byte, largest)
	for {
		n, from, err := l.ReadFromUDPAddrPort(buffer)
		if r.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			break
		}
		if err != nil {
			continue // an error that an earlier answer has met
		}
		mu.Lock()
		to := flows[from]
		full := len(flows) >= flowsUDP
		mu.Unlock()
		if to == nil {
			if full {
				continue
			}
			if to, err = net.Dial("udp", r.To.String()); err != nil {
				continue
			}
			mu.Lock()
			flows[from] = to
			mu.Unlock()
			r.done.Go(func() {
				answer(to, l, from)
				mu.Lock()
				delete(flows, from)
				mu.Unlock()
				to.Close()
			})
		}
		_ = to.SetReadDeadline(time.Now().Add(idleUDP))
		_, _ = to.Write(buffer[:n]) // lost, as datagrams are
	}
	mu.Lock()
	defer mu.Unlock()
	for _, to := range flows {
		to.Close()
	}
}

// answer sends a container's datagrams back to a client, until none has come either way for a while.
func answer(from net.Conn, l *net.UDPConn, to netip.AddrPort) {
	buffer := make([]byte, largest)
	for {
		n, err := from.Read(buffer)
		if errors.Is(err, unix.ECONNREFUSED) { // nobody listens there yet
			continue
		}
		if err != nil {
			return
		}
		if _, err := l.WriteToUDPAddrPort(buffer[:n], to); err != nil {
			return
		}
		_ = from.SetReadDeadline(time.Now().Add(idleUDP))
	}
}

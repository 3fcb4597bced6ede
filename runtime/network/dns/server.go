// Package dns answers for the names of containers in the networks that users make: one server for each network, on its
// gateway's addresses, and one directory for all of them, which knows whose question it is by the address that it comes
// from. So a container in several networks sees the names of all of them, whichever server it asks, and a container sees
// no names of others' networks.
//
// Names that no network of the client knows go to the client's own resolvers or to the host's; a single label does not
// leave the host, and neither does any question of a container whose networks are all internal, or data would get out in
// the names. Questions that come from no container are refused: that ends the loop when the host's resolver is, by
// whatever way, one of these servers.
//
// The servers listen on ports that the kernel chooses; the daemon's rules lead port 53 of the gateway there. So they are
// in nobody's way: neither in that of a server of the host on port 53 of every address, nor of a container that publishes
// its port 53.
package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// ttl is for how many seconds clients may remember an answer: containers come and go.
	ttl = 5
	// forwards is how many questions of one network may be on their way to the resolvers at once.
	forwards = 128
	// patience is for how long each resolver is waited for.
	patience = 2 * time.Second
	// idle ends TCP connections on which nothing comes.
	idle = 8 * time.Second
)

// Config is one network's server.
type Config struct {
	Addresses []netip.Addr // of the network's gateway
	Port      uint16       // 0: one that the kernel chooses
	As        netip.Addr   // who asks, whatever the question's address says; not valid: that says it
	Directory *Directory
	Resolvers func() []netip.AddrPort // of the host; nil: those of /etc/resolv.conf
	Log       *slog.Logger
}

// Endpoint is where a server listens for what comes to port 53 of the address.
type Endpoint struct {
	Protocol string // udp, tcp
	At       netip.AddrPort
}

// Server answers until it is closed.
type Server struct {
	config    Config
	slots     chan struct{}
	servers   []*dns.Server
	endpoints []Endpoint
	ctx       context.Context
	cancel    context.CancelFunc
}

// Listen opens a server on each address, in the network namespace of the calling thread.
func Listen(ctx context.Context, c Config) (*Server, error) {
	if c.Resolvers == nil {
		c.Resolvers = newResolvers("/etc/resolv.conf").get
	}
	s := &Server{config: c, slots: make(chan struct{}, forwards)}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for _, addr := range c.Addresses {
		if err := s.listen(ctx, addr); err != nil {
			return nil, errors.Join(fmt.Errorf("dns server on %s: %w", addr, err), s.Close())
		}
	}
	return s, nil
}

func (s *Server) listen(ctx context.Context, addr netip.Addr) error {
	at := netip.AddrPortFrom(addr, s.config.Port).String()
	packets, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", at)
	if err != nil {
		return err
	}
	s.serve(&dns.Server{PacketConn: packets})
	if err := s.note("udp", packets.LocalAddr()); err != nil {
		return err
	}
	streams, err := (&net.ListenConfig{}).Listen(ctx, "tcp", at)
	if err != nil {
		return err
	}
	s.serve(&dns.Server{Listener: streams, MaxTCPQueries: -1, IdleTimeout: func() time.Duration { return idle }})
	return s.note("tcp", streams.Addr())
}

func (s *Server) note(protocol string, at net.Addr) error {
	ap, err := netip.ParseAddrPort(at.String())
	s.endpoints = append(s.endpoints, Endpoint{protocol, ap})
	return err
}

// serve returns when the server can be shut down.
func (s *Server) serve(d *dns.Server) {
	started := make(chan struct{})
	d.Handler, d.ReadTimeout, d.WriteTimeout = dns.HandlerFunc(s.handle), patience, patience
	d.NotifyStartedFunc = func() { close(started) }
	s.servers = append(s.servers, d)
	failed := make(chan struct{})
	go func() {
		defer close(failed)
		if err := d.ActivateAndServe(); err != nil && s.ctx.Err() == nil {
			s.config.Log.Error("a network's dns server has ended", "error", err)
		}
	}()
	select {
	case <-started:
	case <-failed:
	}
}

// Endpoints are where the server listens.
func (s *Server) Endpoints() []Endpoint { return s.endpoints }

// Close ends the server; questions that are under way get no answer.
func (s *Server) Close() error {
	s.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var errs []error
	for _, d := range s.servers {
		errs = append(errs, d.ShutdownContext(ctx))
	}
	return errors.Join(errs...)
}

// handle runs in a goroutine of its own for each question.
func (s *Server) handle(w dns.ResponseWriter, question *dns.Msg) {
	answer := s.answer(w.RemoteAddr(), question)
	if _, tcp := w.RemoteAddr().(*net.TCPAddr); !tcp {
		size := dns.MinMsgSize
		if o := question.IsEdns0(); o != nil {
			size = max(size, int(o.UDPSize()))
		}
		answer.Truncate(size)
	}
	_ = w.WriteMsg(answer) // a client that has gone asks again, or does not
}

func (s *Server) answer(from net.Addr, question *dns.Msg) *dns.Msg {
	if len(question.Question) != 1 || question.Opcode != dns.OpcodeQuery {
		return code(question, dns.RcodeNotImplemented)
	}
	ap, err := netip.ParseAddrPort(from.String())
	if err != nil {
		return code(question, dns.RcodeServerFailure)
	}
	asker := ap.Addr().Unmap()
	if s.config.As.IsValid() {
		asker = s.config.As
	}
	c, ok := s.config.Directory.client(asker)
	if !ok {
		return code(question, dns.RcodeRefused)
	}
	q := question.Question[0]
	name := strings.TrimSuffix(q.Name, ".")
	if addr, ok := addressOf(name); ok {
		if host, ok := s.config.Directory.reverse(c, addr); ok {
			return local(question, reverseRecords(q, host))
		}
	} else if addrs, ok := s.config.Directory.lookup(c, name); ok {
		return local(question, records(q, addrs))
	}
	switch {
	case !strings.Contains(name, "."):
		return code(question, dns.RcodeNameError)
	case !c.outside:
		return code(question, dns.RcodeServerFailure)
	}
	_, tcp := from.(*net.TCPAddr)
	return s.forward(c, question, tcp)
}

func code(question *dns.Msg, rcode int) *dns.Msg {
	m := new(dns.Msg).SetRcode(question, rcode)
	m.RecursionAvailable = true
	return m
}

func local(question *dns.Msg, answer []dns.RR) *dns.Msg {
	m := code(question, dns.RcodeSuccess)
	m.Answer = answer
	return m
}

// records are the addresses of the kind that is asked for; for other kinds there are none, which is no error.
func records(q dns.Question, addrs []netip.Addr) []dns.RR {
	var all []dns.RR
	for _, a := range addrs {
		head := dns.RR_Header{Name: q.Name, Class: dns.ClassINET, Ttl: ttl}
		switch {
		case a.Is4() && (q.Qtype == dns.TypeA || q.Qtype == dns.TypeANY):
			head.Rrtype = dns.TypeA
			all = append(all, &dns.A{Hdr: head, A: a.AsSlice()})
		case a.Is6() && (q.Qtype == dns.TypeAAAA || q.Qtype == dns.TypeANY):
			head.Rrtype = dns.TypeAAAA
			all = append(all, &dns.AAAA{Hdr: head, AAAA: a.AsSlice()})
		}
	}
	return all
}

func reverseRecords(q dns.Question, host string) []dns.RR {
	if q.Qtype != dns.TypePTR && q.Qtype != dns.TypeANY {
		return nil
	}
	return []dns.RR{&dns.PTR{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: ttl}, Ptr: dns.Fqdn(host)}}
}

package dns

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func host(id, network string, names []string, ips ...string) Host {
	h := Host{ID: id, Network: "id-of-" + network, NetworkName: network, Names: names, Outside: true}
	for _, ip := range ips {
		h.IPs = append(h.IPs, netip.MustParseAddr(ip))
	}
	return h
}

// upstream is a resolver that answers every question for an address with 192.0.2.7, until the test ends.
func upstream(t testing.TB, handle dns.HandlerFunc) netip.AddrPort {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(packets.LocalAddr().String())
	streams, err := net.Listen("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: handle}, {Listener: streams, Handler: handle}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return at
}

func always(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.Answer = records(q.Question[0], []netip.Addr{netip.MustParseAddr("192.0.2.7")})
	_ = w.WriteMsg(m)
}

func serve(t testing.TB, d *Directory, resolvers ...netip.AddrPort) *Server {
	t.Helper()
	s, err := Listen(t.Context(), Config{
		Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Directory: d,
		Resolvers: func() []netip.AddrPort { return resolvers }, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// asked asks the server by a protocol, as the client that has 127.0.0.1.
func asked(t testing.TB, s *Server, protocol, name string, kind uint16) *dns.Msg {
	t.Helper()
	i := slices.IndexFunc(s.Endpoints(), func(e Endpoint) bool { return e.Protocol == protocol })
	answer, _, err := (&dns.Client{Net: protocol}).Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(name), kind), s.Endpoints()[i].At.String())
	if err != nil {
		t.Fatalf("%s by %s: %v", name, protocol, err)
	}
	return answer
}

func text(m *dns.Msg) string {
	var all []string
	for _, rr := range m.Answer {
		all = append(all, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(all)
	return strings.TrimSpace(dns.RcodeToString[m.Rcode] + " " + strings.Join(all, " "))
}

func TestAnswers(t *testing.T) {
	d := &Directory{}
	d.Set(host("me", "red", []string{"me"}, "127.0.0.1"))
	d.Set(host("me", "blue", []string{"me"}, "10.2.0.1"))
	d.Set(host("a", "red", []string{"web-1", "Web"}, "10.1.0.2", "fd00::2"))
	d.Set(host("b", "red", []string{"web-2", "web"}, "10.1.0.3"))
	d.Set(host("c", "blue", []string{"db"}, "10.2.0.4"))
	d.Set(host("x", "green", []string{"secret"}, "10.3.0.2"))
	s := serve(t, d, upstream(t, always))
	for _, row := range []struct {
		name string
		kind uint16
		want string
	}{
		{"web-1", dns.TypeA, "NOERROR 10.1.0.2"},
		{"WEB-1", dns.TypeAAAA, "NOERROR fd00::2"},
		{"web", dns.TypeA, "NOERROR 10.1.0.2 10.1.0.3"},
		{"web", dns.TypeANY, "NOERROR 10.1.0.2 10.1.0.3 fd00::2"},
		{"web-2", dns.TypeAAAA, "NOERROR"},
		{"web-2", dns.TypeMX, "NOERROR"},
		{"web-2.red", dns.TypeA, "NOERROR 10.1.0.3"},
		{"db", dns.TypeA, "NOERROR 10.2.0.4"},
		{"db.red", dns.TypeA, "NOERROR 192.0.2.7"},
		{"secret", dns.TypeA, "NXDOMAIN"},
		{"secret.green", dns.TypeA, "NOERROR 192.0.2.7"},
		{"none", dns.TypeAAAA, "NXDOMAIN"},
		{"example.com", dns.TypeA, "NOERROR 192.0.2.7"},
		{"2.0.1.10.in-addr.arpa", dns.TypePTR, "NOERROR web-1.red."},
		{"2.0.1.10.in-addr.arpa", dns.TypeA, "NOERROR"},
		{"2.0.3.10.in-addr.arpa", dns.TypePTR, "NOERROR"}, // of a network of others: the resolver's answer
		{"", dns.TypeNS, "NXDOMAIN"},
	} {
		for _, protocol := range []string{"udp", "tcp"} {
			if got := text(asked(t, s, protocol, row.name, row.kind)); got != row.want {
				t.Errorf("%s %s by %s: %s; want %s", row.name, dns.TypeToString[row.kind], protocol, got, row.want)
			}
		}
	}
	d.Set(host("a", "red", []string{"new"}, "10.1.0.2"))
	d.Remove("c", "id-of-blue")
	d.Remove("c", "id-of-blue")
	for name, want := range map[string]string{"web-1": "NXDOMAIN", "new": "NOERROR 10.1.0.2", "web": "NOERROR 10.1.0.3", "db": "NXDOMAIN"} {
		if got := text(asked(t, s, "udp", name, dns.TypeA)); got != want {
			t.Errorf("afterwards %s: %s; want %s", name, got, want)
		}
	}
	d.Remove("me", "id-of-red")
	if got := text(asked(t, s, "udp", "web", dns.TypeA)); got != "REFUSED" {
		t.Errorf("a client that has left: %s", got)
	}
}

func TestForward(t *testing.T) {
	other := upstream(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Answer = records(q.Question[0], []netip.Addr{netip.MustParseAddr("192.0.2.8")})
		_ = w.WriteMsg(m)
	})
	refusing := upstream(t, func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(code(q, dns.RcodeRefused)) })
	unknown := upstream(t, func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(code(q, dns.RcodeNameError)) })
	large := upstream(t, func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		for i := range 60 {
			m.Answer = append(m.Answer, records(q.Question[0], []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})})...)
		}
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
			m.Truncate(dns.MinMsgSize)
		}
		_ = w.WriteMsg(m)
	})
	for what, row := range map[string]struct {
		resolvers []netip.AddrPort
		own       []netip.AddrPort
		inside    bool
		want      string
	}{
		"the first":                     {resolvers: []netip.AddrPort{upstream(t, always), other}, want: "NOERROR 192.0.2.7"},
		"one that refuses":              {resolvers: []netip.AddrPort{refusing, other}, want: "NOERROR 192.0.2.8"},
		"one that knows there is none":  {resolvers: []netip.AddrPort{unknown, other}, want: "NXDOMAIN"},
		"none":                          {want: "SERVFAIL"},
		"the client's own":              {resolvers: []netip.AddrPort{upstream(t, always)}, own: []netip.AddrPort{other}, want: "NOERROR 192.0.2.8"},
		"of an internal network, never": {resolvers: []netip.AddrPort{other}, inside: true, want: "SERVFAIL"},
	} {
		d := &Directory{}
		me := host("me", "red", []string{"me"}, "127.0.0.1")
		me.Upstreams, me.Outside = row.own, !row.inside
		d.Set(me)
		if got := text(asked(t, serve(t, d, row.resolvers...), "udp", "example.com", dns.TypeA)); got != row.want {
			t.Errorf("%s: %s; want %s", what, got, row.want)
		}
	}
	d := &Directory{}
	d.Set(host("me", "red", []string{"me"}, "127.0.0.1"))
	s := serve(t, d, large)
	if m := asked(t, s, "udp", "example.com", dns.TypeA); !m.Truncated {
		t.Error("a large answer is not marked as cut")
	}
	if m := asked(t, s, "tcp", "example.com", dns.TypeA); len(m.Answer) != 60 {
		t.Errorf("by tcp %d records", len(m.Answer))
	}
}

// TestNoLoop: a resolver that asks this server again gets nothing, as it is no container.
func TestNoLoop(t *testing.T) {
	d := &Directory{}
	d.Set(host("me", "red", []string{"me"}, "127.0.0.2"))
	s := serve(t, d)
	for _, name := range []string{"me", "example.com"} {
		if got := text(asked(t, s, "udp", name, dns.TypeA)); got != "REFUSED" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestForwardsAreBounded: what is too much is refused at once, and names of the network are answered all the while.
func TestForwardsAreBounded(t *testing.T) {
	release := make(chan struct{})
	slow := upstream(t, func(w dns.ResponseWriter, q *dns.Msg) {
		<-release
		always(w, q)
	})
	d := &Directory{}
	d.Set(host("me", "red", []string{"me"}, "127.0.0.1"))
	s := serve(t, d, slow)
	var wg sync.WaitGroup
	for i := range forwards {
		wg.Go(func() {
			_, _, _ = (&dns.Client{Timeout: 5 * time.Second}).Exchange(new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.example.com.", i), dns.TypeA), s.Endpoints()[0].At.String())
		})
	}
	for len(s.slots) < forwards {
		time.Sleep(time.Millisecond)
	}
	if got := text(asked(t, s, "udp", "one.too.many", dns.TypeA)); got != "SERVFAIL" {
		t.Errorf("one too many: %s", got)
	}
	if got := text(asked(t, s, "udp", "me", dns.TypeA)); got != "NOERROR 127.0.0.1" {
		t.Errorf("meanwhile: %s", got)
	}
	close(release)
	wg.Wait()
}

func TestListenFails(t *testing.T) {
	_, err := Listen(context.Background(), Config{Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.77")}, Directory: &Directory{}, Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "192.0.2.77") {
		t.Errorf("an address of others: %v", err)
	}
}

func TestResolvers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	r := newResolvers(path)
	if got := r.get(); got != nil {
		t.Errorf("no file: %v", got)
	}
	write := func(text string, at time.Time) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	write("# nameserver 9.9.9.9\nsearch x\nnameserver 192.0.2.1\nnameserver bad\nnameserver\n  nameserver fe80::1%eth0 \n", now)
	if got := r.get(); got != nil {
		t.Errorf("looked again at once: %v", got)
	}
	r.looked = time.Time{}
	if got := fmt.Sprint(r.get()); got != "[192.0.2.1:53 [fe80::1%eth0]:53]" {
		t.Errorf("got %s", got)
	}
	write("nameserver 192.0.2.2\n", now.Add(time.Hour))
	r.looked = time.Time{}
	if got := fmt.Sprint(r.get()); got != "[192.0.2.2:53]" {
		t.Errorf("when it has changed: %s", got)
	}
}

func TestAddressOf(t *testing.T) {
	for _, ip := range []string{"10.1.2.3", "fd00::1234:5", "0.0.0.0"} {
		name, err := dns.ReverseAddr(ip)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := addressOf(strings.ToUpper(strings.TrimSuffix(name, "."))); !ok || got.String() != ip {
			t.Errorf("%s: %v, %t", name, got, ok)
		}
	}
	for _, bad := range []string{"", "in-addr.arpa", "3.2.1.in-addr.arpa", "256.2.1.10.in-addr.arpa", "x.2.1.10.in-addr.arpa", "1.ip6.arpa", strings.Repeat("g.", 32) + "ip6.arpa", strings.Repeat("01.", 32) + "ip6.arpa"} {
		if got, ok := addressOf(bad); ok {
			t.Errorf("%s: %v", bad, got)
		}
	}
}

func FuzzAddressOf(f *testing.F) {
	f.Add("3.2.1.10.in-addr.arpa")
	f.Add(strings.Repeat("a.", 32) + "ip6.arpa")
	f.Fuzz(func(t *testing.T, name string) {
		addr, ok := addressOf(name)
		if !ok {
			return
		}
		back, err := dns.ReverseAddr(addr.String())
		if again, ok := addressOf(strings.TrimSuffix(back, ".")); err != nil || !ok || again != addr {
			t.Errorf("%q: %s, then %s, %v", name, addr, again, err)
		}
	})
}

func FuzzParseResolvers(f *testing.F) {
	f.Add("nameserver 1.2.3.4\nnameserver ::1%lo\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range parseResolvers(text) {
			if !r.IsValid() || r.Port() != 53 {
				t.Errorf("%q: %s", text, r)
			}
		}
	})
}

// FuzzHandle gives the server whatever a container may send.
func FuzzHandle(f *testing.F) {
	for _, name := range []string{"web.", "example.com.", "3.2.1.10.in-addr.arpa."} {
		data, err := new(dns.Msg).SetQuestion(name, dns.TypeA).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	d := &Directory{}
	inside := host("me", "red", []string{"web"}, "10.0.0.2")
	inside.Outside = false
	d.Set(inside)
	s := &Server{config: Config{Directory: d}}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := new(dns.Msg)
		if m.Unpack(data) != nil {
			return
		}
		answer := s.answer(&net.UDPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 5353}, m)
		if _, err := answer.Pack(); err != nil && answer.Rcode == dns.RcodeSuccess {
			t.Errorf("an answer that cannot be sent: %v", err)
		}
	})
}

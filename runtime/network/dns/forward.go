package dns

import (
	"bufio"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// forward asks the resolvers one after the other. An answer that does not fit a packet goes back as it is: the client
// then asks by TCP, and so does the next forward.
func (s *Server) forward(c client, question *dns.Msg, tcp bool) *dns.Msg {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default: // resolvers that do not answer are no reason to pile questions up
		return code(question, dns.RcodeServerFailure)
	}
	upstreams := c.upstreams
	if len(upstreams) == 0 {
		upstreams = s.config.Resolvers()
	}
	by := &dns.Client{Net: "udp", Timeout: patience, UDPSize: dns.DefaultMsgSize}
	if tcp {
		by.Net = "tcp"
	}
	asked := question.Copy()
	asked.Id = dns.Id() // the client's could be guessed
	for _, upstream := range upstreams {
		answer, _, err := by.ExchangeContext(s.ctx, asked, upstream.String())
		if err != nil || answer.Rcode == dns.RcodeRefused || answer.Rcode == dns.RcodeServerFailure {
			continue
		}
		answer.Id = question.Id
		return answer
	}
	return code(question, dns.RcodeServerFailure)
}

// resolvers are those of a resolv.conf, which is read again when it has changed.
type resolvers struct {
	path string

	mu      sync.Mutex
	looked  time.Time // when the file was last looked at
	changed time.Time // its time then
	list    []netip.AddrPort
}

func newResolvers(path string) *resolvers { return &resolvers{path: path} }

const lookEvery = time.Second

func (r *resolvers) get() []netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.looked) < lookEvery {
		return r.list
	}
	r.looked = time.Now()
	info, err := os.Stat(r.path)
	if err != nil || info.ModTime().Equal(r.changed) {
		return r.list // one that is being replaced comes again
	}
	if data, err := os.ReadFile(r.path); err == nil {
		r.list, r.changed = parseResolvers(string(data)), info.ModTime()
	}
	return r.list
}

// parseResolvers reads the servers of a resolv.conf(5).
func parseResolvers(text string) []netip.AddrPort {
	var list []netip.AddrPort
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if addr, err := netip.ParseAddr(fields[1]); err == nil {
			list = append(list, netip.AddrPortFrom(addr, 53))
		}
	}
	return list
}

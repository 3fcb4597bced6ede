// Package rtnl sends rtnetlink requests, several at once where they belong together: the kernel works them off in order
// during one system call, so that a link with its addresses and routes costs one wait for the kernel's lock, not one for
// each message. It has the few requests of a pod's start and end; what is done once in a daemon's life, vishvananda's
// library does.
package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"github.com/minirt/mini/runtime/network/netns"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Conn is a socket in one network namespace. It is for several goroutines.
type Conn struct {
	mu sync.Mutex
	fd int
}

// Request is one message; its answer is an acknowledgement or an error.
type Request struct {
	what string
	*nl.NetlinkRequest
}

func request(what string, kind, flags int, body ...nl.NetlinkRequestData) Request {
	r := nl.NewNetlinkRequest(kind, flags|unix.NLM_F_ACK)
	for _, b := range body {
		r.AddData(b)
	}
	return Request{what, r}
}

// Open opens a socket in the namespace of the calling thread.
func Open() (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	// The kernel then says in words what it did not like (Linux 4.12), and does not send the request back.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	return &Conn{fd: fd}, nil
}

// OpenIn opens a socket in another namespace.
func OpenIn(ns *os.File) (*Conn, error) {
	var c *Conn
	err := netns.Do(ns, func() (err error) {
		c, err = Open()
		return err
	})
	return c, err
}

// Close closes the socket.
func (c *Conn) Close() error { return unix.Close(c.fd) }

// Do sends the requests together and returns the errors of all of them joined. The kernel goes on after one that it
// refuses.
func (c *Conn) Do(requests ...Request) error {
	_, err := c.exchange(requests)
	return err
}

// Index is the number of a link. Its error is unix.ENODEV when there is none of the name.
func (c *Conn) Index(name string) (int, error) {
	replies, err := c.exchange([]Request{request("link "+name, unix.RTM_GETLINK, 0,
		nl.NewIfInfomsg(unix.AF_UNSPEC), nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))})
	if err != nil {
		return 0, err
	}
	for _, r := range replies {
		if r.Header.Type == unix.RTM_NEWLINK && len(r.Data) >= unix.SizeofIfInfomsg {
			return int(nl.DeserializeIfInfomsg(r.Data).Index), nil
		}
	}
	return 0, fmt.Errorf("link %s: the kernel's answer does not tell of it", name)
}

// exchange returns what came besides the acknowledgements.
func (c *Conn) exchange(requests []Request) ([]syscall.NetlinkMessage, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var batch []byte
	waiting := map[uint32]string{}
	for _, r := range requests {
		batch = append(batch, r.Serialize()...)
		for len(batch)%unix.NLMSG_ALIGNTO != 0 {
			batch = append(batch, 0)
		}
		waiting[r.Seq] = r.what
	}
	if err := unix.Sendto(c.fd, batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	var replies []syscall.NetlinkMessage
	var errs []error
	buffer := make([]byte, 64<<10)
	for len(waiting) > 0 {
		n, err := receive(c.fd, buffer)
		if err != nil {
			return nil, fmt.Errorf("netlink: %w", err)
		}
		messages, err := syscall.ParseNetlinkMessage(buffer[:n])
		if err != nil {
			return nil, fmt.Errorf("netlink: %w", err)
		}
		for _, m := range messages {
			what, ours := waiting[m.Header.Seq]
			switch {
			case !ours: // of a request whose answer was not waited for
			case m.Header.Type != unix.NLMSG_ERROR:
				m.Data = append([]byte(nil), m.Data...)
				replies = append(replies, m)
			default:
				delete(waiting, m.Header.Seq)
				if err := answer(m); err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", what, err))
				}
			}
		}
	}
	return replies, errors.Join(errs...)
}

func receive(fd int, buffer []byte) (int, error) {
	for {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// answer reads struct nlmsgerr: the error, the head of the request, and with NLM_F_ACK_TLVS attributes with words.
func answer(m syscall.NetlinkMessage) error {
	const head = 4 + unix.SizeofNlMsghdr
	if len(m.Data) < head {
		return errors.New("a short answer of the kernel")
	}
	code := int32(binary.NativeEndian.Uint32(m.Data))
	if code == 0 {
		return nil
	}
	errno := unix.Errno(-code)
	if m.Header.Flags&unix.NLM_F_ACK_TLVS != 0 {
		if attrs, err := nl.ParseRouteAttr(m.Data[head:]); err == nil {
			for _, a := range attrs {
				if a.Attr.Type == unix.NLMSGERR_ATTR_MSG {
					return fmt.Errorf("%w (%s)", errno, nl.BytesToString(a.Value))
				}
			}
		}
	}
	return errno
}

// Veth is a pair of links, the one of the host in a bridge.
type Veth struct {
	Host   string
	Master int // number of the bridge
	MTU    int
	Peer   string           // name of the other end
	MAC    net.HardwareAddr // of the other end
	NS     *os.File         // where the other end is
}

// NewVeth makes a pair, the host's end up. The other cannot come up with it: when the kernel opens the peer, the two are
// not yet connected (veth_newlink; ENOTCONN).
func NewVeth(v Veth) Request {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	peer.AddChild(nl.NewIfInfomsg(unix.AF_UNSPEC))
	peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(v.Peer))
	peer.AddRtAttr(unix.IFLA_ADDRESS, v.MAC)
	peer.AddRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(v.MTU)))
	peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(v.NS.Fd())))
	return request("make the veth pair "+v.Host+" and "+v.Peer, unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL,
		up(), nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(v.Host)), nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(v.MTU))),
		nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(v.Master))), info)
}

func up() *nl.IfInfomsg {
	m := nl.NewIfInfomsg(unix.AF_UNSPEC)
	m.Flags, m.Change = unix.IFF_UP, unix.IFF_UP
	return m
}

// SetUp brings a link up.
func SetUp(link int) Request {
	m := up()
	m.Index = int32(link)
	return request("bring the interface up", unix.RTM_NEWLINK, 0, m)
}

// Hairpin lets a bridge send a packet out where it came in. Where br_netfilter is on, as Kubernetes wants it, the
// destination of a packet is rewritten before the bridge decides; a pod that reaches itself by a port of the host then
// has its packet sent back to it by the bridge.
func Hairpin(name string) Request {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_SLAVE_KIND, nl.NonZeroTerminated("bridge"))
	info.AddRtAttr(nl.IFLA_INFO_SLAVE_DATA, nil).AddRtAttr(nl.IFLA_BRPORT_MODE, nl.Uint8Attr(1))
	return request("let "+name+" be answered by itself", unix.RTM_NEWLINK, 0, nl.NewIfInfomsg(unix.AF_UNSPEC),
		nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)), info)
}

// Isolate keeps a port of a bridge from the other ports that are isolated, but not from the bridge itself (Linux 4.18).
func Isolate(name string) Request {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_SLAVE_KIND, nl.NonZeroTerminated("bridge"))
	info.AddRtAttr(nl.IFLA_INFO_SLAVE_DATA, nil).AddRtAttr(nl.IFLA_BRPORT_ISOLATED, nl.Uint8Attr(1))
	return request("keep "+name+" from its neighbours", unix.RTM_NEWLINK, 0, nl.NewIfInfomsg(unix.AF_UNSPEC),
		nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)), info)
}

// SetMaster puts a link into a bridge, and brings it up.
func SetMaster(name string, master int) Request {
	return request("put "+name+" into the bridge", unix.RTM_NEWLINK, 0, up(),
		nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)), nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(master))))
}

// DeleteLink deletes a link, and the other end of a pair.
func DeleteLink(name string) Request {
	return request("delete link "+name, unix.RTM_DELLINK, 0, nl.NewIfInfomsg(unix.AF_UNSPEC),
		nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
}

// NewAddress gives a link an address. IPv6 addresses are used at once, without a look for duplicates that takes a
// second: who hands them out knows that there are none.
func NewAddress(link int, p netip.Prefix) Request {
	m := &nl.IfAddrmsg{IfAddrmsg: unix.IfAddrmsg{Family: Family(p.Addr()), Prefixlen: uint8(p.Bits()), Index: uint32(link)}}
	addr := p.Addr().AsSlice()
	body := []nl.NetlinkRequestData{m, nl.NewRtAttr(unix.IFA_LOCAL, addr), nl.NewRtAttr(unix.IFA_ADDRESS, addr)}
	if p.Addr().Is6() {
		m.Flags = unix.IFA_F_NODAD
	} else {
		broadcast := p.Masked().Addr().AsSlice()
		for i := p.Bits(); i < 32; i++ {
			broadcast[i/8] |= 1 << (7 - i%8)
		}
		body = append(body, nl.NewRtAttr(unix.IFA_BROADCAST, broadcast))
	}
	return request("give the interface the address "+p.String(), unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, body...)
}

// NewDefaultRoute sends everything of the gateway's family to it.
func NewDefaultRoute(link int, gateway netip.Addr) Request {
	m := nl.NewRtMsg()
	m.Family = Family(gateway)
	return request("route by way of "+gateway.String(), unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE,
		m, nl.NewRtAttr(unix.RTA_GATEWAY, gateway.AsSlice()), nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(link))))
}

// Family is AF_INET or AF_INET6.
func Family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

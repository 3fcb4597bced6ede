package rtnl

import (
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Child is a link that hangs on another one: macvlan, with a hardware address of its own, or ipvlan, with its parent's.
type Child struct {
	Kind   string // macvlan or ipvlan
	Parent int    // number of the link
	Name   string
	MTU    int
	MAC    net.HardwareAddr // of macvlan
	Mode   uint32
	Flags  uint16   // of ipvlan
	NS     *os.File // where it is made
}

// NewChild makes a link in a namespace, that hangs on one of this namespace.
func NewChild(c Child) Request {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(c.Kind))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	if c.Kind == "macvlan" {
		data.AddRtAttr(nl.IFLA_MACVLAN_MODE, nl.Uint32Attr(c.Mode))
	} else {
		data.AddRtAttr(nl.IFLA_IPVLAN_MODE, nl.Uint16Attr(uint16(c.Mode)))
		data.AddRtAttr(nl.IFLA_IPVLAN_FLAG, nl.Uint16Attr(c.Flags))
	}
	body := []nl.NetlinkRequestData{
		nl.NewIfInfomsg(unix.AF_UNSPEC), nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(c.Name)), nl.NewRtAttr(unix.IFLA_LINK, nl.Uint32Attr(uint32(c.Parent))),
		nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(c.NS.Fd()))), nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(c.MTU))), info,
	}
	if len(c.MAC) > 0 {
		body = append(body, nl.NewRtAttr(unix.IFLA_ADDRESS, c.MAC))
	}
	return request(fmt.Sprintf("make the %s link %s", c.Kind, c.Name), unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body...)
}

// NewDeviceRoute sends everything of a family to a link, without a gateway.
func NewDeviceRoute(link int, family uint8) Request {
	m := nl.NewRtMsg()
	m.Family, m.Scope = family, unix.RT_SCOPE_LINK
	return request("route by way of the link", unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE,
		m, nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(link))))
}

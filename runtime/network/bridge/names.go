package bridge

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/netip"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

// names are what the things of one daemon are called on the host. Another daemon's are different.
type names struct {
	bridge string
	table  string
	veth   string // what the names of the host's ends begin with
	ifb    string // what the names of the devices that limit a pod's sending begin with
	user   string // what the names of the bridges of users' networks begin with
}

// namesOf derives the names from the daemon's: the bridge is called after it as far as a link's name has room (15
// characters; netdevice(7)), and marked by a hash where it has not.
func namesOf(daemon string) names {
	sum := sha256.Sum256([]byte(daemon))
	mark := hex.EncodeToString(sum[:2])
	clean := regexp.MustCompile(`[^a-zA-Z0-9_-]`).ReplaceAllString(daemon, "_")
	n := names{bridge: clean + "0", table: clean, veth: "mv" + mark, ifb: "mi" + mark, user: "mb" + mark}
	if len(n.bridge) >= unix.IFNAMSIZ {
		n.bridge = clean[:9] + "-" + mark
	}
	// A table's name begins with a letter (nft(8)).
	if first := n.table[0]; first < 'A' {
		n.table = "_" + n.table
	}
	return n
}

// bridgeOf is the bridge of a user's network: 6 characters that say whose it is and 8 of the network's id.
func (n names) bridgeOf(id string) string { return n.user + id[:min(8, len(id))] }

// isBridge says whether a link is one of the daemon's bridges, as far as names tell.
func (n names) isBridge(link string) bool {
	return link == n.bridge || strings.HasPrefix(link, n.user)
}

// newVeth is a random name for a host's end: 6 characters that say whose it is and 8 that say which.
func (n names) newVeth() string {
	var b [4]byte
	rand.Read(b[:]) // never fails
	return n.veth + hex.EncodeToString(b[:])
}

// ifbOf is the device that belongs to a host's end.
func (n names) ifbOf(veth string) string { return n.ifb + veth[len(n.veth):] }

// macOf is the hardware address of the pod with the address: locally administered, and the same for the same address, so
// that a neighbour that remembers it does not remember a wrong one.
func macOf(addr netip.Addr) net.HardwareAddr {
	b := addr.AsSlice()
	return append(net.HardwareAddr{0x0a, 0x58}, b[len(b)-4:]...)
}

// ulaOf is a subnet of unique local addresses (RFC 4193) of its own for each machine and daemon, the same after restarts.
func ulaOf(machine, daemon string) netip.Prefix {
	sum := sha256.Sum256([]byte(machine + "\x00" + daemon))
	var b [16]byte
	b[0] = 0xfd
	copy(b[1:6], sum[:])
	return netip.PrefixFrom(netip.AddrFrom16(b), 64)
}

// candidates are the IPv4 subnets that one is chosen from when none is configured.
func candidates() []netip.Prefix {
	var all []netip.Prefix
	for second := byte(88); second < 120; second++ {
		all = append(all, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, second}), 16))
	}
	return all
}

package bridge

import (
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/network/netns"
	"github.com/minirt/mini/runtime/network/networktest"
	"github.com/minirt/mini/runtime/network/rtnl"
	"github.com/vishvananda/netlink"
)

// TestRestore starts the daemon again: with all in place, with the bridge gone, and with the rules gone.
func TestRestore(t *testing.T) {
	lan := networktest.NewLAN(t, 1500)
	n := fresh(t, Config{})
	one := attach(t, n, request(t, "one", published("tcp", "", 8080, 7)))
	two := attach(t, n, request(t, "two"))
	lost := attach(t, n, request(t, "lost")) // the daemon is killed before this one's record has the attachment
	networktest.Serve(t, one.NetNS, "one", netip.MustParseAddrPort("[::]:7"))
	check := func(when string) {
		t.Helper()
		wantAnswer(t, when, lan.Path, "tcp", ap(lan.Host4, 8080), "one")
		wantAnswer(t, when, two.NetNS, "tcp", ap(one.ip(t, true), 7), "one")
	}
	check("before")
	again := reopen(t, Config{}, one.Attachment, two.Attachment)
	check("after a restart")
	if slices.Contains(hostLinks(t), lost.Links[0].HostInterface) {
		t.Error("the link of a pod without a record is left")
	}
	if err := again.Detach(t.Context(), lost.Request, nil); err != nil {
		t.Error(err)
	}
	r := request(t, "three", published("tcp", "", 8080, 80))
	if _, err := again.Attach(t.Context(), r); !errdefs.IsAlreadyExists(err) || !strings.Contains(err.Error(), "default/one") {
		t.Errorf("the port of a pod from before: %v", err)
	}
	r.Ports = nil
	three := attach(t, again, r)
	for _, p := range []pod{one, two} {
		if three.ip(t, false) == p.ip(t, false) || three.ip(t, true) == p.ip(t, true) {
			t.Errorf("%v was given twice", three.IPs)
		}
	}

	link, err := netlink.LinkByName(n.pods.link)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkDel(link); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "nft", "flush", "ruleset")
	all := []network.Attachment{one.Attachment, two.Attachment, three.Attachment}
	again = reopen(t, Config{}, all...)
	check("without the bridge and the rules")

	// Without a restart, the next pod makes the bridge again.
	if link, err = netlink.LinkByName(n.pods.link); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkDel(link); err != nil {
		t.Fatal(err)
	}
	four := attach(t, again, request(t, "four"))
	check("after the next pod")
	for _, p := range []pod{one, two, three, four} {
		if err := again.Detach(t.Context(), p.Request, &p.Attachment); err != nil {
			t.Error(err)
		}
	}
	again.reapNow(t.Context())
	if got := used(again); got != 0 {
		t.Errorf("%d still in use", got)
	}
}

// TestAfterAReboot has records and nothing else.
func TestAfterAReboot(t *testing.T) {
	n := fresh(t, Config{})
	one := attach(t, n, request(t, "one", published("tcp", "", 8080, 7)))
	if err := n.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := netns.Delete(one.NetNS); err != nil {
		t.Fatal(err)
	}
	again := reopen(t, Config{}, one.Attachment)
	if err := again.Detach(t.Context(), one.Request, &one.Attachment); err != nil {
		t.Error(err)
	}
	again.reapNow(t.Context())
	if got := used(again); got != 0 {
		t.Errorf("%d still in use", got)
	}
}

func TestDetachWithTheRequestAlone(t *testing.T) {
	n := fresh(t, Config{})
	one := attach(t, n, request(t, "one"))
	// Another daemon of the name knows nothing of it, and its sweep has not seen it.
	again, err := New(Config{Name: "minitest", Log: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.Attach(t.Context(), one.Request); !errdefs.IsUnavailable(err) {
		t.Errorf("attached before Restore: %v", err)
	}
	for range 2 {
		if err := again.Detach(t.Context(), one.Request, nil); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Eventually(t, time.Second, "the host's end is gone", func() bool {
		return !slices.Contains(hostLinks(t), one.Links[0].HostInterface)
	})
}

func TestCollect(t *testing.T) {
	n := fresh(t, Config{})
	one := attach(t, n, request(t, "one"))
	ns, err := netns.Open(networktest.Namespace(t))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	stray := n.names.newVeth()
	if err := n.conn.Do(rtnl.NewVeth(rtnl.Veth{Host: stray, Master: n.pods.index, MTU: 1500, Peer: "eth0", MAC: macOf(netip.MustParseAddr("10.1.1.1")), NS: ns})); err != nil {
		t.Fatal(err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = n.names.ifbOf(stray)
	if err := netlink.LinkAdd(&netlink.Ifb{LinkAttrs: attrs}); err != nil {
		t.Fatal(err)
	}
	if err := n.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := hostLinks(t)
	if slices.Contains(left, stray) || slices.Contains(left, attrs.Name) || !slices.Contains(left, one.Links[0].HostInterface) {
		t.Errorf("links: %v", left)
	}
}

func TestPrepareAndClaim(t *testing.T) {
	n := fresh(t, Config{})
	prepare := func() (string, network.Attachment) {
		path := networktest.Namespace(t)
		ns, err := netns.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer ns.Close()
		a, err := n.Prepare(t.Context(), ns)
		if err != nil {
			t.Fatal(err)
		}
		return path, a
	}
	path, a := prepare()
	if err := n.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	claimed, err := n.Claim(t.Context(), network.Request{ID: "claimed", NetNS: path, Ports: []network.Port{published("tcp", "", 8080, 7)}}, a)
	if err != nil {
		t.Fatal(err)
	}
	networktest.Serve(t, path, "claimed", netip.MustParseAddrPort("[::]:7"))
	wantAnswer(t, "claimed", "", "tcp", netip.MustParseAddrPort("127.0.0.1:8080"), "claimed")

	path, a = prepare()
	if _, err := n.Claim(t.Context(), network.Request{ID: "late", NetNS: path, Ports: []network.Port{published("tcp", "", 8080, 7)}}, a); !errdefs.IsAlreadyExists(err) {
		t.Errorf("claimed with a port that is taken: %v", err)
	}
	_, a = prepare()
	for _, now := range []bool{false, true} {
		if err := n.Discard(t.Context(), a, now); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Detach(t.Context(), network.Request{ID: "claimed"}, &claimed); err != nil {
		t.Fatal(err)
	}
	n.reapNow(t.Context())
	if got := used(n); got != 0 {
		t.Errorf("%d still in use", got)
	}
}

// TestBandwidth measures a megabyte at 8 Mbit/s, which takes a second less what the bucket holds.
func TestBandwidth(t *testing.T) {
	testenv.Long(t)
	n := fresh(t, Config{})
	for _, test := range []struct {
		name string
		b    network.Bandwidth
	}{
		{"to the pod", network.Bandwidth{Ingress: 8e6}},
		{"from the pod", network.Bandwidth{Egress: 8e6}},
		{"both", network.Bandwidth{Ingress: 8e6, Egress: 8e6}},
	} {
		r := request(t, "limited")
		r.Bandwidth = test.b
		p := attach(t, n, r)
		for _, toPod := range []bool{true, false} {
			took := send(t, n, p, toPod, 1<<20)
			limited := toPod && test.b.Ingress > 0 || !toPod && test.b.Egress > 0
			if limited != (took > 700*time.Millisecond) || took > 3*time.Second {
				t.Errorf("%s: a megabyte, to the pod %v, took %s", test.name, toPod, took)
			}
		}
		if err := n.Detach(t.Context(), p.Request, &p.Attachment); err != nil {
			t.Fatal(err)
		}
		n.reapNow(t.Context())
		for _, l := range hostLinks(t) {
			if strings.HasPrefix(l, n.names.ifb) {
				t.Errorf("%s is left", l)
			}
		}
	}
}

// send sends bytes between the host and the pod, and measures until the last one has arrived.
func send(t *testing.T, n *Network, p pod, toPod bool, bytes int) time.Duration {
	t.Helper()
	listenAt, dialFrom, at := p.NetNS, "", p.ip(t, false)
	if !toPod {
		listenAt, dialFrom, at = "", p.NetNS, n.pods.subnets[0].Gateway()
	}
	var l net.Listener
	listen := func() (err error) {
		l, err = net.Listen("tcp", ap(at, 0).String())
		return err
	}
	var conn net.Conn
	dial := func() (err error) {
		conn, err = net.Dial("tcp", l.Addr().String())
		return err
	}
	for _, step := range []struct {
		where string
		do    func() error
	}{{listenAt, listen}, {dialFrom, dial}} {
		do := step.do
		if step.where != "" {
			do = func() error { return netns.DoAt(step.where, step.do) }
		}
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	defer l.Close()
	begin := time.Now()
	go func() {
		_, _ = conn.Write(make([]byte, bytes))
		conn.Close()
	}()
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if got, err := io.Copy(io.Discard, in); err != nil || got != int64(bytes) {
		t.Fatalf("%d bytes arrived, %v", got, err)
	}
	return time.Since(begin)
}

// TestTheLinkGoes with the namespace, and without it a little later; until then its address is nobody's.
func TestTheLinkGoes(t *testing.T) {
	testenv.Long(t)
	n := fresh(t, Config{})
	for _, deleted := range []bool{true, false} {
		p := attach(t, n, request(t, "short"))
		if err := n.Detach(t.Context(), p.Request, &p.Attachment); err != nil {
			t.Fatal(err)
		}
		if got := used(n); got != 3 {
			t.Errorf("%d in use, want the addresses and the link", got)
		}
		begin := time.Now()
		if deleted {
			if err := netns.Delete(p.NetNS); err != nil {
				t.Fatal(err)
			}
		}
		testenv.Eventually(t, 5*time.Second, "the addresses are free", func() bool { return used(n) == 0 })
		if took := time.Since(begin); deleted == (took > reapAfter) {
			t.Errorf("namespace deleted %v: %s", deleted, took)
		}
		if slices.Contains(hostLinks(t), p.Links[0].HostInterface) {
			t.Error("the link is left")
		}
	}
}

// TestAgain attaches to a namespace that still has the interface of before.
func TestAgain(t *testing.T) {
	n := fresh(t, Config{})
	r := request(t, "again")
	for range 3 {
		p := attach(t, n, r)
		if err := n.Detach(t.Context(), r, &p.Attachment); err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkAttach measures a pod's attachment, as it is from nothing, and as it is when the interface was made before.
func BenchmarkAttach(b *testing.B) {
	two := []network.Port{published("tcp", "", 8080, 80), published("tcp", "", 8443, 443)}
	b.Run("plain", func(b *testing.B) { attachDetach(b, false, nil) })
	b.Run("plain, two ports", func(b *testing.B) { attachDetach(b, false, two) })
	b.Run("prepared", func(b *testing.B) { attachDetach(b, true, nil) })
	b.Run("prepared, two ports", func(b *testing.B) { attachDetach(b, true, two) })
}

func attachDetach(b *testing.B, prepared bool, ports []network.Port) {
	n := fresh(b, Config{})
	var attaching, detaching []time.Duration
	for b.Loop() {
		b.StopTimer()
		ns, err := netns.New()
		if err != nil {
			b.Fatal(err)
		}
		path := b.TempDir() + "/ns"
		if err := netns.Pin(ns, path); err != nil {
			b.Fatal(err)
		}
		var a network.Attachment
		if prepared {
			if a, err = n.Prepare(b.Context(), ns); err != nil {
				b.Fatal(err)
			}
		}
		r := network.Request{ID: "one", NetNS: path, Ports: ports}
		b.StartTimer()
		begin := time.Now()
		if prepared {
			a, err = n.Claim(b.Context(), r, a)
		} else {
			a, err = n.Attach(b.Context(), r)
		}
		if err != nil {
			b.Fatal(err)
		}
		attaching = append(attaching, time.Since(begin))
		begin = time.Now()
		if err := n.Detach(b.Context(), r, &a); err != nil {
			b.Fatal(err)
		}
		detaching = append(detaching, time.Since(begin))
		b.StopTimer()
		ns.Close()
		if err := netns.Delete(path); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	for what, all := range map[string][]time.Duration{"attach": attaching, "detach": detaching} {
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds()), "µs/"+what+"-median")
	}
}

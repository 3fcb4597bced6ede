package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/network/netns"
	"github.com/minirt/mini/runtime/network/networktest"
)

// provider has a configuration directory of its own.
func provider(t testing.TB, bin []string, change ...func(*Config)) *Network {
	t.Helper()
	testenv.Root(t)
	c := Config{Name: "minitest", ConfDir: t.TempDir(), CacheDir: t.TempDir(), BinDirs: bin, MaxConfNum: 1,
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))}
	for _, f := range change {
		f(&c)
	}
	n, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *Network) write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(n.config.ConfDir, file), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (f fakes) conf(name, version string, plugins ...string) string {
	var list []string
	for _, p := range plugins {
		list = append(list, fmt.Sprintf(`{"type":%q,"notes":%q,"capabilities":{"portMappings":true}}`, p, f.notes))
	}
	return fmt.Sprintf(`{"cniVersion":%q,"name":%q,"plugins":[%s]}`, version, name, strings.Join(list, ","))
}

func request(t testing.TB, name string) network.Request {
	return network.Request{ID: "id-" + name, Name: name, Namespace: "default", UID: "uid", NetNS: networktest.Namespace(t),
		Ports: []network.Port{{Protocol: "tcp", HostPort: 8080, ContainerPort: 80}}}
}

// stored is an attachment as the record gives it back.
func stored(t testing.TB, a network.Attachment) *network.Attachment {
	t.Helper()
	data, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var back network.Attachment
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	return &back
}

func TestAddAndDel(t *testing.T) {
	f := newFakes(t, "one", "two")
	n := provider(t, []string{f.bin})
	r := request(t, "web")
	if n.Configured(t.Context()) {
		t.Error("configured by nothing")
	}
	if _, err := n.Attach(t.Context(), r); !errdefs.IsUnavailable(err) {
		t.Errorf("without a configuration: %v", err)
	}
	if s := n.Status(t.Context()); s.Ready || !strings.Contains(s.Message, "put a .conflist there") {
		t.Errorf("status %+v", s)
	}
	n.write(t, "10-a.conflist", f.conf("net", "1.0.0", "one", "two"))
	if s := n.Status(t.Context()); !s.Ready || !n.Configured(t.Context()) {
		t.Errorf("status %+v", s)
	}
	a, err := n.Attach(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(a.IPs) != "[10.1.0.2 fd00:1::2]" || a.Links[0].Interface != "eth0" || a.Links[0].Network != "net" ||
		fmt.Sprint(a.Links[0].Addresses, a.Links[0].Gateways) != "[fd00:1::2/64 10.1.0.2/24] [fd00:1::1 10.1.0.1]" || a.DNS.Servers[0] != "10.0.0.10" {
		t.Errorf("attachment %+v", a)
	}
	calls := f.calls()
	if len(calls) != 2 || calls[1].Config.PrevResult == nil {
		t.Fatalf("calls %+v", calls)
	}
	if c := calls[0]; c.NetNS != r.NetNS || c.ContainerID != r.ID || !strings.Contains(c.Args, "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=id-web;K8S_POD_UID=uid") ||
		!strings.Contains(fmt.Sprint(c.Config.RuntimeConfig), "hostPort:8080") {
		t.Errorf("called with %+v", c)
	}
	if err := n.Check(t.Context(), r, a); err != nil {
		t.Error(err)
	}
	if got := f.brief(); got != "CHECK one eth0, CHECK two eth0" {
		t.Error(got)
	}
	f.fail("two", "CHECK", "the link is down")
	if err := n.Check(t.Context(), r, a); err == nil || !strings.Contains(err.Error(), "the link is down") {
		t.Errorf("check: %v", err)
	}
	f.calls()

	// The configuration changes, libcni's cache is lost, and the daemon starts again: DEL is as ADD was.
	n.write(t, "10-a.conflist", f.conf("other", "1.0.0", "two"))
	again := provider(t, []string{f.bin}, func(c *Config) { c.ConfDir = n.config.ConfDir })
	if err := again.Detach(t.Context(), network.Request{ID: r.ID, NetNS: r.NetNS}, stored(t, a)); err != nil {
		t.Fatal(err)
	}
	calls = f.calls()
	if len(calls) != 2 || calls[0].Config.Type != "two" || calls[1].Config.Name != "net" {
		t.Fatalf("calls %+v", calls)
	}
	for _, c := range calls {
		if c.Config.PrevResult == nil || !strings.Contains(fmt.Sprint(c.Config.RuntimeConfig), "hostPort:8080") || c.NetNS == "" {
			t.Errorf("DEL without what ADD gave: %+v", c)
		}
	}
	// After a reboot the namespace is gone.
	if err := netns.Delete(r.NetNS); err != nil {
		t.Fatal(err)
	}
	if err := n.Detach(t.Context(), r, stored(t, a)); err != nil {
		t.Fatal(err)
	}
	if calls = f.calls(); len(calls) != 2 || calls[0].NetNS != "" {
		t.Errorf("calls %+v", calls)
	}
}

func TestAFailingChainLeavesNothing(t *testing.T) {
	f := newFakes(t, "one", "two")
	n := provider(t, []string{f.bin})
	n.write(t, "10-a.conflist", f.conf("net", "1.0.0", "one", "two"))
	r := request(t, "web")
	for _, test := range []struct{ how, want string }{
		{"no room left", "no room left"}, {"again", "not now"},
	} {
		f.fail("two", "ADD", test.how)
		_, err := n.Attach(t.Context(), r)
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), `type="two"`) || !strings.Contains(err.Error(), "network net (10-a.conflist)") {
			t.Errorf("%s: %v", test.how, err)
		}
		if errdefs.IsUnavailable(err) != (test.how == "again") {
			t.Errorf("%s: class of %v", test.how, err)
		}
		if got := f.brief(); got != "ADD one eth0, ADD two eth0, DEL two eth0, DEL one eth0" {
			t.Error(got)
		}
	}
	// A plugin whose DEL fails too does not keep the others from theirs.
	f.fail("two", "DEL", "boom")
	if _, err := n.Attach(t.Context(), r); err == nil || !strings.Contains(err.Error(), "boom") {
		t.Error(err)
	}
	if got := f.brief(); got != "ADD one eth0, ADD two eth0, DEL two eth0, DEL one eth0" {
		t.Error(got)
	}
	if err := os.Remove(filepath.Join(f.bin, "two")); err != nil {
		t.Fatal(err)
	}
	_, err := n.Attach(t.Context(), r)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "install the plugin") {
		t.Error(err)
	}
	if got := f.brief(); got != "ADD one eth0, DEL one eth0" {
		t.Error(got)
	}
	if s := n.Status(t.Context()); s.Ready || !strings.Contains(s.Message, "plugin two is in none of the directories") {
		t.Errorf("status %+v", s)
	}
}

func TestAPluginThatHangs(t *testing.T) {
	f := newFakes(t, "one")
	n := provider(t, []string{f.bin}, func(c *Config) { c.Timeout = time.Second })
	n.write(t, "10-a.conflist", f.conf("net", "1.0.0", "one"))
	f.fail("one", "ADD", "hang")
	begin := time.Now()
	if _, err := n.Attach(t.Context(), request(t, "web")); err == nil || !strings.Contains(err.Error(), "did not end within 1s") {
		t.Error(err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
	if got := f.brief(); got != "ADD one eth0, DEL one eth0" {
		t.Error(got)
	}
}

func TestWithoutARecord(t *testing.T) {
	f := newFakes(t, "one", "two")
	n := provider(t, []string{f.bin})
	n.write(t, "10-a.conflist", f.conf("net", "1.0.0", "one"))
	r := request(t, "web")
	if _, err := n.Attach(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	f.calls()
	// The cache tells which configuration it was.
	n.write(t, "10-a.conflist", f.conf("other", "1.0.0", "two"))
	if err := n.Detach(t.Context(), r, nil); err != nil {
		t.Fatal(err)
	}
	if got := f.brief(); got != "DEL one eth0" {
		t.Error(got)
	}
	// Killed during ADD there is no cache: the configuration of now is the best guess.
	if err := n.Detach(t.Context(), r, nil); err != nil {
		t.Fatal(err)
	}
	if got := f.brief(); got != "DEL two eth0" {
		t.Error(got)
	}
}

func TestCollect(t *testing.T) {
	f := newFakes(t, "one")
	n := provider(t, []string{f.bin}, func(c *Config) { c.MaxConfNum = 0 })
	n.write(t, "10-a.conflist", f.conf("net", "1.1.0", "one"))
	n.write(t, "20-b.conflist", f.conf("old", "0.4.0", "one"))
	keep, lost := request(t, "keep"), request(t, "lost")
	a, err := n.Attach(t.Context(), keep)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.CNI) != 2 || a.Links[1].Interface != "eth1" || len(a.IPs) != 2 {
		t.Errorf("attachment %+v", a)
	}
	if _, err := n.Attach(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	f.calls()
	again := provider(t, []string{f.bin}, func(c *Config) { c.ConfDir, c.CacheDir, c.MaxConfNum = n.config.ConfDir, n.config.CacheDir, 0 })
	if err := again.Restore(t.Context(), []network.Attachment{a}); err != nil {
		t.Fatal(err)
	}
	if err := again.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range f.calls() {
		got = append(got, c.Command+" "+c.ContainerID+" "+c.Config.Name)
		if c.Command == "GC" {
			valid := fmt.Sprint(c.Config.Attachments)
			if !strings.Contains(valid, "id-keep") || !strings.Contains(valid, "eth1") || strings.Contains(valid, "id-lost") {
				t.Errorf("GC with %s", valid)
			}
		}
	}
	if s := strings.Join(got, ", "); s != "DEL id-lost net, DEL id-lost old, GC  net" {
		t.Error(s)
	}
}

func TestStatusOfPlugins(t *testing.T) {
	f := newFakes(t, "one")
	n := provider(t, []string{f.bin})
	n.write(t, "10-a.conflist", f.conf("net", "1.1.0", "one"))
	if s := n.Status(t.Context()); !s.Ready {
		t.Errorf("status %+v", s)
	}
	f.fail("one", "STATUS", "no controller yet")
	if s := n.Status(t.Context()); s.Ready || !strings.Contains(s.Message, "no controller yet") || s.Reason != "NetworkPluginNotReady" {
		t.Errorf("status %+v", s)
	}
	// Older configurations have no STATUS.
	n.write(t, "10-a.conflist", f.conf("net", "1.0.0", "one"))
	if s := n.Status(t.Context()); !s.Ready {
		t.Errorf("status %+v", s)
	}
	n.write(t, "10-a.conflist", "{")
	if s := n.Status(t.Context()); s.Ready || !strings.Contains(s.Message, "10-a.conflist") || !n.Configured(t.Context()) {
		t.Errorf("status %+v", s)
	}
}

func TestTemplate(t *testing.T) {
	f := newFakes(t, "one")
	file := filepath.Join(t.TempDir(), "template")
	const text = `{"cniVersion":"1.0.0","name":"tmpl","plugins":[{"type":"one","notes":"NOTES","subnet":"{{.PodCIDR}}",
		"marks":[{{range $i, $r := .PodCIDRRanges}}{{if $i}}, {{end}}"{{$r}}"{{end}},{{range $i, $r := .Routes}}{{if $i}}, {{end}}"{{$r}}"{{end}}]}]}`
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "NOTES", f.notes)), 0o644); err != nil {
		t.Fatal(err)
	}
	n := provider(t, []string{f.bin}, func(c *Config) { c.ConfTemplate = file })
	if !n.Configured(t.Context()) {
		t.Error("the built-in network would be used meanwhile")
	}
	if s := n.Status(t.Context()); s.Ready || !strings.Contains(s.Message, "pod subnet") {
		t.Errorf("status %+v", s)
	}
	cidrs := []netip.Prefix{netip.MustParsePrefix("10.5.0.0/24"), netip.MustParsePrefix("fd00:5::/64")}
	for range 2 {
		if err := n.SetPodCIDR(t.Context(), cidrs); err != nil {
			t.Fatal(err)
		}
	}
	if s := n.Status(t.Context()); !s.Ready {
		t.Errorf("status %+v", s)
	}
	if _, err := n.Attach(t.Context(), request(t, "web")); err != nil {
		t.Fatal(err)
	}
	if c := f.calls(); fmt.Sprint(c[0].Config.Marks) != "[10.5.0.0/24 fd00:5::/64 0.0.0.0/0 ::/0]" {
		t.Errorf("calls %+v", c)
	}
	if err := n.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	// What someone else has put there is not disturbed.
	n.write(t, "99-other.conflist", f.conf("other", "1.0.0", "one"))
	if err := n.SetPodCIDR(t.Context(), cidrs); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(n.config.ConfDir, "10-minitest-net.conflist")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a second configuration was written: %v", err)
	}
}

// TestManyAtOnce is for the race detector.
func TestManyAtOnce(t *testing.T) {
	f := newFakes(t, "one")
	n := provider(t, []string{f.bin})
	n.write(t, "10-a.conflist", f.conf("net", "1.0.0", "one"))
	var wg sync.WaitGroup
	for i := range 6 {
		r := request(t, fmt.Sprint(i))
		wg.Go(func() {
			a, err := n.Attach(t.Context(), r)
			if err != nil {
				t.Error(err)
				return
			}
			if err := n.Detach(t.Context(), r, &a); err != nil {
				t.Error(err)
			}
			n.Status(t.Context())
		})
	}
	wg.Wait()
}

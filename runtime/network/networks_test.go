package network_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/network/bridge"
	"github.com/minirt/mini/runtime/network/cni"
	"github.com/minirt/mini/runtime/network/netns"
	"github.com/minirt/mini/runtime/network/networktest"
	"github.com/vishvananda/netlink"
)

func TestMain(m *testing.M) { os.Exit(networktest.Main(m)) }

// daemon is the networks as a daemon makes them.
type daemon struct {
	*network.Networks
	confDir, dir string
	stop         func() // as a daemon that ends; idempotent
}

func start(t testing.TB, spares int, confDir string, all ...network.Attachment) daemon {
	t.Helper()
	testenv.Root(t)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	c, err := cni.New(cni.Config{Name: "minitest", ConfDir: confDir, BinDirs: []string{"/usr/lib/cni"}, CacheDir: t.TempDir(), MaxConfNum: 1, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	b, err := bridge.New(bridge.Config{Name: "minitest", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	n, err := network.New(network.Options{Spares: spares, Log: log}, c, b)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Restore(t.Context(), nil, all); err != nil {
		t.Fatal(err)
	}
	d := daemon{Networks: n, confDir: confDir, dir: testenv.Dir(t), stop: sync.OnceFunc(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})}
	t.Cleanup(d.stop)
	return d
}

// destroy expects that nothing is left afterwards.
func (d daemon) destroy(t testing.TB) {
	t.Helper()
	if err := d.Destroy(context.Background()); err != nil {
		t.Error(err)
	}
	d.stop()
	testenv.Eventually(t, 10*time.Second, "no link is left", func() bool {
		all, err := netlink.LinkList()
		return err == nil && !slices.ContainsFunc(all, func(l netlink.Link) bool { return l.Type() == "veth" || l.Type() == "bridge" })
	})
}

// pod has its namespace from the daemon.
func (d daemon) pod(t testing.TB, name string, ports ...network.Port) network.Request {
	t.Helper()
	r := network.Request{ID: "id-" + name, Name: name, Namespace: "default", NetNS: filepath.Join(d.dir, name), Ports: ports}
	if err := d.NewNamespace(t.Context(), r.NetNS); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Delete(r.NetNS); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (d daemon) spares(t testing.TB) int {
	t.Helper()
	info, ok := d.Config(t.Context()).(network.Info)
	if !ok {
		t.Fatal("no network.Info")
	}
	return info.Spares
}

func TestLifeOfAPod(t *testing.T) {
	for _, spares := range []int{0, 3} {
		t.Run(fmt.Sprintf("%d spares", spares), func(t *testing.T) {
			d := start(t, spares, t.TempDir())
			testenv.Eventually(t, 5*time.Second, "the spares are ready", func() bool { return d.spares(t) == spares })
			var all []network.Attachment
			for i := range 5 {
				r := d.pod(t, fmt.Sprint("pod", i), network.Port{HostPort: uint16(8080 + i), ContainerPort: 80})
				a, err := d.Attach(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				if a.ID != r.ID || a.Pod != "default/"+r.Name || a.Provider != network.ProviderBuiltin {
					t.Errorf("attachment %+v", a)
				}
				all = append(all, a)
				networktest.Serve(t, r.NetNS, r.Name, netip.MustParseAddrPort("[::]:80"))
				got, _, err := networktest.Ask(t, "", "tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(8080+i)))
				if err != nil || got != r.Name {
					t.Errorf("answer of %q, %v", got, err)
				}
				if err := d.Check(t.Context(), r, a); err != nil {
					t.Error(err)
				}
				stats, err := d.Stats(t.Context(), r.NetNS)
				if err != nil || len(stats) != 1 || stats[0].Name != "eth0" || stats[0].RxBytes == 0 || stats[0].TxPackets == 0 {
					t.Errorf("stats %+v, %v", stats, err)
				}
			}
			// Records survive, the daemon does not; a pod ended meanwhile.
			data, err := json.Marshal(all)
			if err != nil {
				t.Fatal(err)
			}
			d.stop()
			var stored []network.Attachment
			if err := json.Unmarshal(data, &stored); err != nil {
				t.Fatal(err)
			}
			again := start(t, spares, d.confDir, stored...)
			if err := again.Collect(t.Context(), []string{"id-pod1", "id-pod2"}); err != nil {
				t.Fatal(err)
			}
			for i, lives := range []bool{false, true, true, false} {
				_, _, err := networktest.Ask(t, "", "tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(8080+i)))
				if (err == nil) != lives {
					t.Errorf("pod%d: %v", i, err)
				}
			}
			for i := range 5 {
				r := network.Request{ID: fmt.Sprint("id-pod", i), NetNS: filepath.Join(d.dir, fmt.Sprint("pod", i))}
				for range 2 {
					if err := again.Detach(t.Context(), r, &stored[i]); err != nil {
						t.Error(err)
					}
					if err := again.RemoveNamespace(t.Context(), r.NetNS); err != nil {
						t.Error(err)
					}
				}
			}
			again.destroy(t)
		})
	}
}

// TestANamespaceWithoutAPod: what was prepared in it goes with it.
func TestANamespaceWithoutAPod(t *testing.T) {
	d := start(t, 2, t.TempDir())
	testenv.Eventually(t, 5*time.Second, "the spares are ready", func() bool { return d.spares(t) == 2 })
	r := d.pod(t, "never")
	if err := d.NewNamespace(t.Context(), r.NetNS); !errdefs.IsAlreadyExists(err) {
		t.Errorf("the same path twice: %v", err)
	}
	for range 2 {
		if err := d.RemoveNamespace(t.Context(), r.NetNS); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Eventually(t, 5*time.Second, "only the spares have interfaces", func() bool {
		info := d.Config(t.Context()).(network.Info)
		return info.Spares == 2 && info.Builtin.(bridge.Info).Prepared == 2
	})
	d.destroy(t)
}

// TestProviders has a CNI configuration that comes while prepared namespaces wait.
func TestProviders(t *testing.T) {
	if _, err := os.Stat("/usr/lib/cni/ptp"); err != nil {
		t.Skip("needs the CNI plugin ptp, which is not installed (make deps-test)")
	}
	d := start(t, 2, t.TempDir())
	testenv.Eventually(t, 5*time.Second, "the spares are ready", func() bool { return d.spares(t) == 2 })
	first := d.pod(t, "first")
	second := d.pod(t, "second") // prepared for the built-in network
	a, err := d.Attach(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(d.confDir, "10-ptp.conf")
	if err := os.WriteFile(conf, []byte(`{"cniVersion":"1.0.0","name":"ptp","type":"ptp","ipam":{"type":"host-local","subnet":"10.78.0.0/24"}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	b, err := d.Attach(t.Context(), second)
	if err != nil {
		t.Fatal(err)
	}
	if a.Provider != network.ProviderBuiltin || b.Provider != network.ProviderCNI || b.IPs[0].String() != "10.78.0.2" {
		t.Errorf("attachments %+v and %+v", a, b)
	}
	third := d.pod(t, "third")
	c, err := d.Attach(t.Context(), third)
	if err != nil || c.Provider != network.ProviderCNI {
		t.Errorf("attachment %+v, %v", c, err)
	}
	if err := os.Remove(conf); err != nil {
		t.Fatal(err)
	}
	for _, p := range []struct {
		r network.Request
		a *network.Attachment
	}{{first, &a}, {second, &b}, {third, nil}} {
		if err := d.Detach(t.Context(), p.r, p.a); err != nil {
			t.Error(err)
		}
	}
	if s := d.Status(t.Context()); !s.Ready {
		t.Errorf("status %+v", s)
	}
	d.destroy(t)
}

func TestManyPodsAtOnce(t *testing.T) {
	d := start(t, 4, t.TempDir())
	var mu sync.Mutex
	var seen []string
	var wg sync.WaitGroup
	for i := range 20 {
		r := network.Request{ID: fmt.Sprint("id", i), NetNS: filepath.Join(d.dir, fmt.Sprint(i))}
		wg.Go(func() {
			if err := d.NewNamespace(t.Context(), r.NetNS); err != nil {
				t.Error(err)
				return
			}
			a, err := d.Attach(t.Context(), r)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			for _, ip := range a.IPs {
				seen = append(seen, ip.String())
			}
			mu.Unlock()
			if err := d.Detach(t.Context(), r, &a); err != nil {
				t.Error(err)
			}
			if err := d.RemoveNamespace(t.Context(), r.NetNS); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	slices.Sort(seen)
	if unique := slices.Compact(slices.Clone(seen)); len(unique) != len(seen) {
		t.Errorf("addresses were given twice: %v", seen)
	}
	d.destroy(t)
}

func TestErrors(t *testing.T) {
	if _, err := network.New(network.Options{Provider: "magic"}, nil, nil); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
	d := start(t, 0, t.TempDir())
	if err := d.Detach(t.Context(), network.Request{ID: "x"}, &network.Attachment{Provider: "magic"}); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "magic") {
		t.Error(err)
	}
	if _, err := d.Attach(t.Context(), network.Request{ID: "x", NetNS: "/nowhere"}); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	if _, err := d.Stats(t.Context(), "/nowhere"); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	d.destroy(t)
}

// BenchmarkPod is the network's part of a pod's start and end.
func BenchmarkPod(b *testing.B) {
	for _, spares := range []int{0, 8} {
		b.Run(fmt.Sprintf("%d spares", spares), func(b *testing.B) {
			d := start(b, spares, b.TempDir())
			var starts, ends []time.Duration
			for b.Loop() {
				b.StopTimer()
				for d.spares(b) < spares {
					time.Sleep(time.Millisecond)
				}
				r := network.Request{ID: "id", NetNS: filepath.Join(d.dir, "ns")}
				b.StartTimer()
				begin := time.Now()
				if err := d.NewNamespace(b.Context(), r.NetNS); err != nil {
					b.Fatal(err)
				}
				a, err := d.Attach(b.Context(), r)
				if err != nil {
					b.Fatal(err)
				}
				starts = append(starts, time.Since(begin))
				begin = time.Now()
				if err := d.Detach(b.Context(), r, &a); err != nil {
					b.Fatal(err)
				}
				if err := d.RemoveNamespace(b.Context(), r.NetNS); err != nil {
					b.Fatal(err)
				}
				ends = append(ends, time.Since(begin))
			}
			for what, all := range map[string][]time.Duration{"start": starts, "end": ends} {
				slices.Sort(all)
				b.ReportMetric(float64(all[len(all)/2].Microseconds()), "µs/"+what+"-median")
			}
			d.destroy(b)
		})
	}
}

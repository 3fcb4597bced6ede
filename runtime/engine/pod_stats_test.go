package engine

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/cgroup"
	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/stats"
)

func TestSumStats(t *testing.T) {
	one, two := uint64(1), uint64(2)
	a := stats.Stats{
		Time:    time.Unix(5, 0),
		CPU:     stats.CPU{Usage: 10, User: 6, System: 4, PerCPU: []uint64{7, 3}, Periods: 1, ThrottledPeriods: 2, ThrottledTime: 3},
		Memory:  stats.Memory{Usage: 100, WorkingSet: 90, RSS: 80, Cache: 20, MappedFile: 5, Kernel: 4, MaxUsage: 500, Limit: 1000, SwapUsage: 6, SwapLimit: &one, FailCount: 7, OOMKills: 8, PageFaults: 9, MajorPageFaults: 10},
		Pids:    stats.Pids{Current: 3, Limit: 30},
		BlockIO: []stats.Device{{Major: 8, Minor: 0, ReadBytes: 1, WriteBytes: 2, ReadOps: 3, WriteOps: 4}},
		Hugetlb: []stats.Hugetlb{{PageSize: "2MB", Usage: 1, MaxUsage: 2, FailCount: 3}}, Pressure: &stats.Pressure{}, Networks: []stats.Interface{{Name: "eth0"}},
	}
	b := stats.Stats{
		Time:    time.Unix(4, 0),
		CPU:     stats.CPU{Usage: 1, User: 1, PerCPU: []uint64{1, 0, 1}},
		Memory:  stats.Memory{Usage: 1, Limit: 1, SwapLimit: &two, UnderOOM: true},
		Pids:    stats.Pids{Current: 1, Limit: 1},
		BlockIO: []stats.Device{{Major: 8, Minor: 1, ReadBytes: 5}, {Major: 8, Minor: 0, ReadBytes: 1, WriteBytes: 1, ReadOps: 1, WriteOps: 1}},
		Hugetlb: []stats.Hugetlb{{PageSize: "1GB", Usage: 1}, {PageSize: "2MB", Usage: 1, FailCount: 1}},
	}
	three := uint64(3)
	both := stats.Stats{
		Time:    time.Unix(5, 0),
		CPU:     stats.CPU{Usage: 11, User: 7, System: 4, PerCPU: []uint64{8, 3, 1}, Periods: 1, ThrottledPeriods: 2, ThrottledTime: 3},
		Memory:  stats.Memory{Usage: 101, WorkingSet: 90, RSS: 80, Cache: 20, MappedFile: 5, Kernel: 4, Limit: 1001, SwapUsage: 6, SwapLimit: &three, FailCount: 7, OOMKills: 8, PageFaults: 9, MajorPageFaults: 10, UnderOOM: true},
		Pids:    stats.Pids{Current: 4, Limit: 31},
		BlockIO: []stats.Device{{Major: 8, Minor: 0, ReadBytes: 2, WriteBytes: 3, ReadOps: 4, WriteOps: 5}, {Major: 8, Minor: 1, ReadBytes: 5}},
		Hugetlb: []stats.Hugetlb{{PageSize: "2MB", Usage: 2, FailCount: 4}, {PageSize: "1GB", Usage: 1}},
	}
	if got := sumStats([]stats.Stats{a, b}); !reflect.DeepEqual(got, both) {
		t.Errorf("%+v\nwant\n%+v", got, both)
	}
	if one != 1 || a.BlockIO[0].ReadBytes != 1 {
		t.Error("what was added was changed")
	}
	if got := sumStats(nil); !reflect.DeepEqual(got, stats.Stats{}) {
		t.Errorf("of nothing: %+v", got)
	}
	// One without a limit leaves the sum without, wherever it comes.
	none := stats.Stats{Memory: stats.Memory{Usage: 1}}
	for _, list := range [][]stats.Stats{{none, a}, {a, none}, {a, none, b}, {none, a, b}} {
		if got := sumStats(list); got.Memory.Limit != 0 || got.Memory.SwapLimit != nil || got.Pids.Limit != 0 {
			t.Errorf("limits %+v, %+v", got.Memory, got.Pids)
		}
	}
}

func TestOwnGroup(t *testing.T) {
	paths := map[string]string{"memory": "/m/pod/c", "": "/u/pod/c"}
	c := Container{PID: 1, CgroupPaths: paths, Request: &spec.Request{}}
	elsewhere := Container{PID: 1, CgroupPaths: map[string]string{"memory": "/other/c"}, Request: &spec.Request{CgroupParent: "/other"}}
	whole := Container{PID: 1, CgroupPaths: map[string]string{"memory": "/other/c"}}
	own := map[string]string{"memory": "/m/pod", "": "/u/pod"}
	for name, row := range map[string]struct {
		parent  string
		running []Container
		want    map[string]string
	}{
		"none of its own":              {"", []Container{c}, nil},
		"nothing runs":                 {"/pod", nil, nil},
		"of a container":               {"/pod", []Container{c}, own},
		"not of those elsewhere":       {"/pod", []Container{elsewhere, whole, c}, own},
		"nothing runs in it":           {"/pod", []Container{elsewhere}, nil},
		"asked for as the pod's":       {"/other", []Container{elsewhere}, map[string]string{"memory": "/other"}},
		"one that has ended meanwhile": {"/pod", []Container{{PID: 1 << 30, Request: &spec.Request{}}}, nil},
	} {
		if got := ownGroup(Pod{PodOptions: PodOptions{Cgroup: row.parent}}, row.running); !maps.Equal(got, row.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// grouped makes a cgroup for a pod, and one in it for each container, with a process in each. It returns the containers'
// directories by controller.
func grouped(t testing.TB, pod string, containers ...string) map[string]map[string]string {
	t.Helper()
	testenv.Root(t)
	all := map[string]map[string]string{}
	own, err := cgroup.Paths(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range containers {
		sleep := exec.Command("sleep", "60")
		if err := sleep.Start(); err != nil {
			t.Fatal(err)
		}
		all[c] = map[string]string{}
		for controller, dir := range own {
			if controller == "cpuset" { // no process may enter a new one
				continue
			}
			parent := filepath.Join(dir, fmt.Sprintf("mini-engine-test-%d-%s", os.Getpid(), pod))
			all[c][controller] = filepath.Join(parent, c)
			err := os.MkdirAll(all[c][controller], 0o755)
			if err == nil {
				err = os.WriteFile(filepath.Join(all[c][controller], "cgroup.procs"), []byte(strconv.Itoa(sleep.Process.Pid)), 0)
			}
			if err != nil {
				t.Error(err)
			}
			t.Cleanup(func() { _ = os.Remove(parent) })
		}
		t.Cleanup(func() {
			_ = sleep.Process.Kill()
			_ = sleep.Wait()
			for _, dir := range all[c] {
				if err := cgroup.Remove(dir); err != nil {
					t.Error(err)
				}
			}
		})
	}
	return all
}

// in puts a running container of the test in cgroups.
func (w *world) putIn(id string, paths map[string]string) {
	w.t.Helper()
	l, err := w.find(ns, id)
	w.ok(err)
	w.ok(w.save(l, func(c *Container) { c.CgroupPaths = paths }))
}

func TestPodStats(t *testing.T) {
	groups := grouped(t, "p", "p", "a", "b")
	in(t, func(t *testing.T, w *world) {
		owned, summed := w.podOptions("owned"), w.podOptions("summed")
		owned.Cgroup = "/its/parent" // not where they are: that is read of the containers
		w.run(owned)
		time.Sleep(time.Second)
		w.run(summed)
		host := w.podOptions("host")
		host.Network, host.PID = ModeNode, ModeContainer
		time.Sleep(time.Second)
		w.run(host)
		for _, id := range []string{"owned", "summed"} {
			w.within(id, id+"-a")
			w.within(id, id+"-b")
			w.putIn(id, groups["p"])
			w.putIn(id+"-a", groups["a"])
			w.putIn(id+"-b", groups["b"])
		}
		for _, ids := range [][]string{nil, {"summed", "owned", "host", "owned"}} {
			all, err := w.PodStats(t.Context(), ns, ids, stats.All)
			if err != nil || len(all) != 3 {
				t.Fatalf("%v: %d pods, %v", ids, len(all), err)
			}
			for i, id := range []string{"owned", "summed"} {
				s := all[i]
				if s.Pod.ID != id || s.Stats.Pids.Current != 3 || (s.Stats.Memory.MaxUsage > 0) != (id == "owned") { // it does not add up
					t.Errorf("%s: %s %+v", id, s.Pod.ID, s.Stats)
				}
				if got := slices.Sorted(maps.Keys(s.Containers)); !slices.Equal(got, []string{id + "-a", id + "-b"}) || s.Containers[id+"-a"].Pids.Current != 1 {
					t.Errorf("%s: containers %v", id, got)
				}
				if n := s.Stats.Networks; len(n) != 1 || n[0] != (stats.Interface{Name: network.DefaultInterface, RxBytes: 7, TxPackets: 3}) {
					t.Errorf("%s: networks %v", id, n)
				}
			}
			if s := all[2]; len(s.Stats.Networks)+len(s.Containers) > 0 || s.Stats.Time.IsZero() {
				t.Errorf("on the host: %+v", s)
			}
		}
		_, err := w.PodStats(t.Context(), ns, []string{"none"}, stats.All)
		w.is(err, errdefs.ErrNotFound)
		w.network.setFail("Stats", errBroken)
		_, err = w.PodStats(t.Context(), ns, []string{"summed"}, stats.All)
		w.is(err, errBroken)
		all, err := w.PodStats(t.Context(), ns, nil, stats.All)
		if err != nil || len(all) != 3 || all[0].Stats.Pids.Current != 3 || all[0].Stats.Networks != nil {
			t.Errorf("without the network: %v", err)
		}
		w.network.setFail("Stats", nil)
		for _, id := range []string{"owned", "summed", "host"} {
			w.ok(w.StopPod(t.Context(), ns, id))
		}
		all, err = w.PodStats(t.Context(), ns, []string{"owned"}, stats.All)
		if err != nil || len(all) != 1 || len(all[0].Containers) > 0 || all[0].Stats.Pids.Current != 0 || all[0].Pod.State != PodStopped {
			t.Errorf("stopped: %+v, %v", all, err)
		}
		for _, id := range []string{"owned", "summed", "host"} {
			w.ok(w.RemovePod(t.Context(), ns, id))
		}
		w.clean()
	})
}

// BenchmarkPodStats reads 30 pods of one container, each in a cgroup of its own, without their networks.
func BenchmarkPodStats(b *testing.B) {
	e := &Engine{Deps: Deps{State: b.TempDir()}, containers: map[key]*live{}, pods: map[key]*livePod{}}
	for i := range 30 {
		id := fmt.Sprint("p", i)
		groups := grouped(b, id, "c")
		k := key{ns, id}
		e.pods[k] = &livePod{key: k, rec: Pod{PodOptions: PodOptions{ID: id, Network: ModeNode, Cgroup: "/x"}, Namespace: ns, State: PodReady}}
		c := Container{ID: id + "-c", Namespace: ns, Pod: id, PID: 1, CgroupPaths: groups["c"], Request: &spec.Request{}}
		e.containers[key{ns, c.ID}] = &live{key: key{ns, c.ID}, pod: id, rec: c}
	}
	for b.Loop() {
		all, err := e.PodStats(b.Context(), ns, nil, stats.All)
		if err != nil || len(all) != 30 || all[7].Stats.Pids.Current != 1 || len(all[7].Containers) != 1 {
			b.Fatal(err, len(all))
		}
	}
}

func TestSetPodCIDR(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.ok(w.SetPodCIDR(t.Context(), []string{"10.1.2.3/24", "fd00:1::/64"}))
		if want := []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24"), netip.MustParsePrefix("fd00:1::/64")}; !slices.Equal(w.network.cidrs, want) {
			t.Errorf("%v", w.network.cidrs)
		}
		for _, bad := range [][]string{{"10.1.2.3"}, {""}, {"10.1.0.0/16", "10.2.0.0/16"}, {"fd00::/64", "x"}} {
			w.is(w.SetPodCIDR(t.Context(), bad), errdefs.ErrInvalidArgument)
		}
		w.network.setFail("SetPodCIDR", errBroken)
		w.is(w.SetPodCIDR(t.Context(), nil), errBroken)
		if ready, reason, message := w.NetworkStatus(t.Context()); !ready || reason+message != "" {
			t.Errorf("%t %s %s", ready, reason, message)
		}
	})
}

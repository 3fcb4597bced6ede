package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/oci/bundle"
	"github.com/minirt/mini/oci/spec"
)

// lines are a request as inPod has changed it.
func lines(r spec.Request) string {
	var all []string
	for _, kind := range slices.Sorted(maps.Keys(r.Namespaces)) {
		all = append(all, kind+"="+r.Namespaces[kind])
	}
	for _, m := range r.Mounts {
		all = append(all, fmt.Sprintf("%s on %s %s", m.Source, m.Target, strings.Join(m.Options, ",")))
	}
	if len(r.UIDMap)+len(r.GIDMap) > 0 {
		all = append(all, fmt.Sprint("maps ", r.UIDMap, r.GIDMap))
	}
	if r.CgroupParent != "" {
		all = append(all, "below "+r.CgroupParent)
	}
	return strings.Join(all, "\n")
}

const (
	podFilesMounted = "/P/hosts on /etc/hosts rbind,rprivate,rw\n/P/hostname on /etc/hostname rbind,rprivate,rw\n/P/resolv.conf on /etc/resolv.conf rbind,rprivate,rw"
	podShmMounted   = "/P/shm on /dev/shm rbind,rprivate,rw,nosuid,nodev,noexec"
)

// TestInPodNamespaces has every mode of a pod's namespaces.
func TestInPodNamespaces(t *testing.T) {
	network := map[string]string{ModePod: "network=path:/P/ns/net", ModeNode: "network=host"}
	uts := map[string]string{ModePod: "uts=path:/P/ns/uts", ModeNode: "uts=host"}
	ipc := map[string]string{ModePod: "ipc=path:/P/ns/ipc", ModeNode: "ipc=host"}
	pid := map[string]string{ModePod: "pid=container:p", ModeContainer: "pid=private", ModeNode: "pid=host"}
	shm := map[string]string{ModePod: "\n" + podShmMounted}
	mapped := []specs.LinuxIDMapping{{HostID: 100000, Size: 65536}}
	for _, n := range []string{ModePod, ModeNode} {
		for _, i := range []string{ModePod, ModeNode} {
			for _, p := range []string{ModePod, ModeContainer, ModeNode} {
				for _, maps := range [][]specs.LinuxIDMapping{nil, mapped} {
					rec := Pod{PodOptions: PodOptions{ID: "p", Network: n, IPC: i, PID: p, UIDMap: maps, GIDMap: maps, Cgroup: "/below"}}
					user, mapsLine := "", ""
					if maps != nil {
						user, mapsLine = "\nuser=path:/P/ns/user", "\nmaps [{0 100000 65536}] [{0 100000 65536}]"
					}
					ours := ipc[i] + "\n" + network[n] + "\n" + pid[p] + user + "\n" + uts[n]
					want := ours + "\n" + podFilesMounted + shm[i] + mapsLine + "\nbelow /below"
					if got := lines(inPod(spec.Request{}, "", rec, "/P")); got != want {
						t.Errorf("network %s, ipc %s, pid %s:\n%s\nwant\n%s", n, i, p, got, want)
					}
					want = strings.Replace(ours, pid[p], "pid=private", 1) + mapsLine + "\nbelow /below"
					if got := lines(inPod(spec.Request{}, RolePause, rec, "/P")); got != want {
						t.Errorf("the holder with network %s, ipc %s, pid %s:\n%s\nwant\n%s", n, i, p, got, want)
					}
				}
			}
		}
	}
}

// TestInPodAsRequested: what the request says itself stays.
func TestInPodAsRequested(t *testing.T) {
	rec := Pod{PodOptions: PodOptions{ID: "p", Network: ModePod, IPC: ModePod, PID: ModePod, Cgroup: "/below"}}
	names := "ipc=path:/P/ns/ipc\nnetwork=path:/P/ns/net\npid=container:p\nuts=path:/P/ns/uts\n"
	for name, row := range map[string]struct {
		r    spec.Request
		want string
	}{
		"a target's processes": {
			spec.Request{Namespaces: map[string]string{"pid": "container:target"}},
			strings.Replace(names, "container:p", "container:target", 1) + podFilesMounted + "\n" + podShmMounted + "\nbelow /below",
		},
		"a memory of its own": {
			spec.Request{Namespaces: map[string]string{"ipc": "private"}},
			strings.Replace(names, "ipc=path:/P/ns/ipc", "ipc=private", 1) + podFilesMounted + "\nbelow /below",
		},
		"a cgroup of its own": {spec.Request{CgroupParent: "/mine"}, names + podFilesMounted + "\n" + podShmMounted + "\nbelow /mine"},
		"read-only": {
			spec.Request{ReadOnly: true},
			names + strings.ReplaceAll(podFilesMounted, "rprivate,rw", "rprivate,ro") + "\n" + podShmMounted + "\nbelow /below",
		},
		"mounts replaced": {
			spec.Request{Mounts: []spec.Mount{
				{Source: "/h", Target: "/etc/hosts"}, {Source: "/n", Target: "/etc/../etc/hostname/"},
				{Source: "/r", Target: "/etc/resolv.conf"}, {Source: "/s", Target: "/dev/shm"},
			}},
			names + "/h on /etc/hosts \n/n on /etc/../etc/hostname/ \n/r on /etc/resolv.conf \n/s on /dev/shm \nbelow /below",
		},
		"a mount beside": {
			spec.Request{Mounts: []spec.Mount{{Source: "/h", Target: "/etc"}}},
			names + podFilesMounted + "\n" + podShmMounted + "\n/h on /etc \nbelow /below",
		},
	} {
		given := lines(row.r)
		if got := lines(inPod(row.r, "", rec, "/P")); got != row.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, row.want)
		}
		if lines(row.r) != given {
			t.Errorf("%s: the request was changed", name)
		}
	}
}

func TestPodSysctls(t *testing.T) {
	for _, row := range []struct {
		name         string
		network, ipc string
		refused      string // part of the error; empty: it is taken
	}{
		{"net.ipv4.ip_forward", ModePod, ModePod, ""},
		{"net/ipv4/conf/eth0.1/forwarding", ModePod, ModePod, ""},
		{"net.ipv4.conf.eth0/1.forwarding", ModePod, ModePod, ""},
		{"kernel.shmmax", ModePod, ModePod, ""},
		{"kernel.shmmax", ModeNode, ModePod, ""},
		{"fs.mqueue.msg_max", ModePod, ModePod, ""},
		{"kernel.domainname", ModePod, ModeNode, ""},
		{"net.ipv4.ip_forward", ModeNode, ModePod, "network namespace"},
		{"kernel.shmmax", ModePod, ModeNode, "ipc namespace"},
		{"fs.mqueue.msg_max", ModePod, ModeNode, "ipc namespace"},
		{"kernel.domainname", ModeNode, ModePod, "uts namespace"},
		{"kernel.hostname", ModePod, ModePod, "use the hostname"},
		{"kernel/hostname", ModePod, ModePod, "use the hostname"},
		{"vm.swappiness", ModePod, ModePod, "would change the host"},
		{"user.max_user_namespaces", ModePod, ModePod, "would change the host"},
		{"", ModePod, ModePod, "isn't a parameter's name"},
		{"net/../kernel/panic", ModePod, ModePod, "isn't a parameter's name"},
		{"net.//.kernel.panic", ModePod, ModePod, "isn't a parameter's name"},
		{"net..ipv4", ModePod, ModePod, "isn't a parameter's name"},
		{"/net/ipv4/ip_forward", ModePod, ModePod, "isn't a parameter's name"},
		{"net.ipv4 x", ModePod, ModePod, "isn't a parameter's name"},
	} {
		err := checkPodSysctls(PodOptions{Name: "web", Network: row.network, IPC: row.ipc, Sysctls: map[string]string{row.name: "1"}})
		switch {
		case row.refused == "" && err != nil:
			t.Errorf("%+v: %v", row, err)
		case row.refused != "" && (!errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), row.refused)):
			t.Errorf("%+v: %v", row, err)
		}
	}
	ping, low := "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start"
	for name, row := range map[string]struct {
		o    PodOptions
		want map[string]string
	}{
		"its own network":  {PodOptions{Network: ModePod}, map[string]string{ping: "0 2147483647", low: "0"}},
		"a user namespace": {PodOptions{Network: ModePod, UIDMap: []specs.LinuxIDMapping{{Size: 1}}}, map[string]string{low: "0"}},
		"the host's":       {PodOptions{Network: ModeNode}, map[string]string{}},
		"said otherwise":   {PodOptions{Network: ModePod, Sysctls: map[string]string{low: "1024"}}, map[string]string{ping: "0 2147483647", low: "1024"}},
	} {
		if got := podSysctls(Pod{PodOptions: row.o}); !maps.Equal(got, row.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestContainerOfAPod takes over what its pod has.
func TestContainerOfAPod(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		w.Config.Runtimes.Paths = map[string]string{"crun": "/bin/crun"}
		p := w.podOptions("pod")
		p.Runtime, p.Cgroup = "crun", "/mini-engine-test/pod"
		w.run(p)
		o := w.options("c")
		o.Pod = "po"
		c := w.create(o)
		if c.Pod != "pod" || c.Supervisor != "pod" || c.Runtime != "crun" {
			t.Errorf("%+v", c)
		}
		s, err := bundle.Load(w.Bundle(c))
		w.ok(err)
		holder, err := w.Get(t.Context(), ns, "pod")
		w.ok(err)
		got := map[string]string{}
		for _, n := range s.Linux.Namespaces {
			got[string(n.Type)] = strings.TrimPrefix(n.Path, w.podDir(Pod{PodOptions: PodOptions{ID: "pod"}, Namespace: ns}))
		}
		want := map[string]string{
			"network": "/ns/net", "uts": "/ns/uts", "ipc": "/ns/ipc", "pid": fmt.Sprintf("/proc/%d/ns/pid", holder.PID), "mount": "", "cgroup": "",
		}
		delete(got, "cgroup")
		delete(want, "cgroup")
		if !maps.Equal(got, want) || s.Hostname != "" || s.Linux.CgroupsPath != "/mini-engine-test/pod/c" {
			t.Errorf("namespaces %v, want %v; host name %q, cgroup %s", got, want, s.Hostname, s.Linux.CgroupsPath)
		}
		o = w.options("d")
		o.Pod, o.Spec, o.Request = "pod", &specs.Spec{Version: specs.Version}, nil
		_, err = w.Create(t.Context(), ns, o)
		w.is(err, errdefs.ErrInvalidArgument)
		w.gone("pod")
	})
}

// TestNothingNewInAPodThatIsNotReady refuses to make and to start.
func TestNothingNewInAPodThatIsNotReady(t *testing.T) {
	for name, end := range map[string]func(w *world){
		"stopped": func(w *world) { w.ok(w.StopPod(context.Background(), ns, "p")) },
		"being stopped, in vain": func(w *world) {
			w.network.setFail("Detach", errBroken)
			w.is(w.StopPod(context.Background(), ns, "p"), errBroken)
		},
		"half removed": func(w *world) {
			w.network.setFail("Detach", errBroken)
			w.is(w.RemovePod(context.Background(), ns, "p"), errBroken)
		},
		"without its first process": func(w *world) {
			w.sandboxes.exit(w.t, "p", "", 0)
			w.settled()
		},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				w.run(w.podOptions("p"))
				o := w.options("c")
				o.Pod = "p"
				w.create(o)
				end(w)
				_, err := w.Start(t.Context(), ns, "c", StartOptions{})
				w.is(err, errdefs.ErrFailedPrecondition)
				o.ID = "d"
				_, err = w.Create(t.Context(), ns, o)
				w.is(err, errdefs.ErrFailedPrecondition)
				w.is(w.UpdatePod(t.Context(), ns, "p", nil, nil), errdefs.ErrFailedPrecondition)
				_, err = w.PodNamespace(t.Context(), ns, "p", "net")
				w.is(err, errdefs.ErrFailedPrecondition)
				w.ok(w.Update(t.Context(), ns, "c", &specs.LinuxResources{})) // whose holder need not run
				if w.state("c") != Created || w.state("d") != "-" {
					t.Errorf("they are %s and %s", w.state("c"), w.state("d"))
				}
				w.network.setFail("Detach", nil)
				w.gone("p")
			})
		})
	}
}

// TestCreateKey: who asks for a container under one key gets one container.
func TestCreateKey(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		o := w.imaged("")
		o.Key = "web"
		let := make(chan struct{})
		w.snapshots.preparing = func() { <-let }
		ids, errs := make(chan string, 10), make(chan error, 1)
		ask := func(ctx context.Context) { // each has an id of its own in mind
			go func() {
				c, err := w.Create(ctx, ns, o)
				ids <- fmt.Sprint(c.ID, " ", err)
			}()
		}
		for range 3 {
			ask(context.Background())
		}
		w.settled()
		close(let)
		first := <-ids
		if a, b := <-ids, <-ids; a != first || b != first || !strings.HasSuffix(first, "<nil>") {
			t.Errorf("%s, %s, %s", first, a, b)
		}
		again := w.create(o)
		if again.ID+" <nil>" != first || w.Counts().Containers != 1 {
			t.Errorf("asked again it is %s", again.ID)
		}
		w.start(again.ID)
		_, err := w.Create(t.Context(), ns, o)
		w.is(err, errdefs.ErrAlreadyExists)
		_, err = w.Delete(t.Context(), ns, again.ID, DeleteOptions{Force: true})
		w.ok(err)

		let = make(chan struct{}) // the last who waits goes away, at the last moment
		w.snapshots.preparing, w.snapshots.mounting = nil, func() { <-let }
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			_, err := w.Create(ctx, ns, o)
			errs <- err
		}()
		w.settled()
		beingMade, err := w.List(t.Context(), ns)
		w.ok(err)
		cancel()
		w.is(<-errs, context.Canceled)
		ask(context.Background()) // waits for the undoing
		w.settled()
		if n := len(ids); n != 0 {
			t.Errorf("%d containers are made beside one that is being undone", n)
		}
		close(let)
		id, rest, _ := strings.Cut(<-ids, " ")
		if len(beingMade) != 1 || id == beingMade[0].ID {
			t.Errorf("%s is what nobody waited for", id)
		}
		if rest != "<nil>" || w.Counts().Containers != 1 || w.state(id) != Created {
			t.Errorf("%s: %s, %d containers", id, rest, w.Counts().Containers)
		}
		_, err = w.Delete(t.Context(), ns, id, DeleteOptions{})
		w.ok(err)
		w.clean()
	})
}

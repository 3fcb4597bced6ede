package engine

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/oci/bundle"
	"github.com/minirt/mini/oci/hooks"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/nri"
	"github.com/minirt/mini/runtime/nri/nritest"
	"github.com/minirt/mini/runtime/plugin"
)

// plugged is a world with an adaptation on a socket. Sockets do not work in a bubble.
func plugged(t *testing.T) (*world, *nri.Adaptation) {
	t.Helper()
	testenv.Root(t)
	dir := testenv.Dir(t)
	t.Cleanup(func() { unmountBelow(t, dir) })
	w := open(t, dir, openSandboxes(t, filepath.Join(dir, "sandboxes")))
	a, err := nri.New(nri.Options{Socket: filepath.Join(dir, "nri.sock"), PluginDir: filepath.Join(dir, "none")})
	w.ok(err)
	w.Plugins = a
	w.recover()
	w.ok(a.Start(w.Engine))
	t.Cleanup(func() {
		a.Close()
		w.shut()
	})
	return w, a
}

func join(t *testing.T, a *nri.Adaptation, p *nritest.Plugin, index string) {
	t.Helper()
	p.Start(t, a.Socket, index, "test")
	a.Hold()()
}

// member are options of a container in a pod.
func (w *world) member(pod, id string) CreateOptions {
	o := w.options(id)
	o.Pod = pod
	o.Request.Annotations = map[string]string{"asked": "1"}
	o.Request.Env = []string{"ASKED=1"}
	return o
}

func (w *world) pod(id string) Pod {
	w.t.Helper()
	p, err := w.RunPod(w.t.Context(), ns, PodOptions{ID: id, Name: id, PodNamespace: "default"})
	w.ok(err)
	return p
}

func (w *world) written(id string) *specs.Spec {
	w.t.Helper()
	c, err := w.Get(w.t.Context(), ns, id)
	w.ok(err)
	s, err := bundle.Load(w.Bundle(c))
	w.ok(err)
	return s
}

func cpus(n string) *specs.LinuxResources {
	return &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: n}}
}

const changes = `{
 "annotations": {"by": "plugin"}, "env": [{"key": "NEW", "value": "2"}], "mounts": [{"destination": "/data", "source": "/tmp", "type": "bind", "options": ["rbind"]}],
 "linux": {"devices": [{"path": "/dev/fuse", "type": "c", "major": "10", "minor": "229"}],
  "resources": {"cpu": {"shares": {"value": "512"}}, "memory": {"limit": {"value": "67108864"}}}}
}`

// changed fails the test unless the document is as the plugin wants it.
func (w *world) changed(id string, shares uint64) {
	w.t.Helper()
	s := w.written(id)
	has := slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/data" }) &&
		slices.ContainsFunc(s.Linux.Devices, func(d specs.LinuxDevice) bool { return d.Path == "/dev/fuse" }) &&
		slices.Contains(s.Process.Env, "NEW=2") && slices.Contains(s.Process.Env, "ASKED=1") &&
		s.Annotations["by"] == "plugin" && s.Annotations["asked"] == "1"
	r := s.Linux.Resources
	if !has || r.CPU == nil || r.CPU.Shares == nil || *r.CPU.Shares != shares || r.Memory == nil || *r.Memory.Limit != 64<<20 {
		w.t.Errorf("the document is not what the plugin wants: %+v %+v %+v %q %+v", s.Mounts, s.Linux.Devices, s.Annotations, s.Process.Env, r)
	}
}

func TestPluginLife(t *testing.T) {
	w, a := plugged(t)
	w.pod("before")
	w.create(w.member("before", "old"))
	w.start("old")
	w.running("alone") // in no pod: plugins never hear of it
	p := &nritest.Plugin{Create: func(plugin.Container) (string, []plugin.Update, error) {
		return changes, []plugin.Update{{ID: "old", Resources: cpus("0")}}, nil
	}, Synchronize: []plugin.Update{{ID: "old", Resources: &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64(99))}}}}}
	join(t, a, p, "10")
	w.pod("pod1")
	w.create(w.member("pod1", "c1"))
	w.changed("c1", 512)
	if s := w.written("old"); s.Linux.Resources.CPU == nil || s.Linux.Resources.CPU.Cpus != "0" {
		t.Errorf("the other container's limits are %+v", s.Linux.Resources.CPU)
	}
	w.eventually("the limit asked for at the synchronization", func() bool {
		r := w.written("old").Linux.Resources.Pids
		return r != nil && r.Limit != nil && *r.Limit == 99
	})
	w.start("c1")
	w.ok(w.Update(t.Context(), ns, "c1", &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: new(uint64(256))}}))
	w.changed("c1", 256)
	if _, err := p.Ask(plugin.Update{ID: "c1", Resources: &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: new(uint64(128))}}}); err != nil {
		t.Error(err)
	}
	w.changed("c1", 128)
	if failed, err := p.Ask(plugin.Update{ID: "alone", Resources: cpus("0"), IgnoreFailure: true}); err != nil || len(failed) != 1 {
		t.Errorf("a container in no pod: failed %v, error %v", failed, err)
	}
	w.ok(w.UpdatePod(t.Context(), ns, "pod1", cpus("0"), nil))
	w.sandboxes.exit(t, "c1", "", 0)
	p.Wait(t, "stop c1")
	// A bundle that is lost is made again as plugins wanted it.
	w.ok(os.RemoveAll(filepath.Join(w.dir, "state/containers", ns, "c1", "config.json")))
	w.start("c1")
	w.changed("c1", 128)
	w.ok(w.StopPod(t.Context(), ns, "pod1"))
	w.ok(w.RemovePod(t.Context(), ns, "pod1"))
	want := []string{
		"synchronize  before old/CONTAINER_RUNNING", "run pod pod1", "create c1", "created c1", "start c1", "started c1", "update c1", "updated c1",
		"update pod pod1", "updated pod pod1", "stop c1", "start c1", "started c1", "stop c1", "stop pod pod1", "remove c1", "remove pod pod1",
	}
	if got := p.Events(); !slices.Equal(got, want) {
		t.Errorf("events\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// eventually waits for what another goroutine is about to do.
func (w *world) eventually(what string, is func() bool) {
	w.t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatal("it did not come: " + what)
		}
	}
}

func TestPluginRefuses(t *testing.T) {
	w, a := plugged(t)
	first, p := &nritest.Plugin{}, &nritest.Plugin{Refuse: "run pod"}
	join(t, a, first, "10")
	join(t, a, p, "20")
	if _, err := w.RunPod(t.Context(), ns, PodOptions{ID: "pod1", Name: "a"}); err == nil || !strings.Contains(err.Error(), "refused by the test") {
		t.Fatalf("error %v; want the plugin's", err)
	}
	first.Wait(t, "remove pod pod1") // who was told of it is told that it is not
	if _, err := w.Pod(t.Context(), ns, "pod1"); !errdefs.IsNotFound(err) {
		t.Errorf("the pod is there: %v", err)
	}
	p.Refuse = "create"
	w.pod("pod2")
	if _, err := w.Create(t.Context(), ns, w.member("pod2", "c1")); err == nil || !strings.Contains(err.Error(), "refused by the test") {
		t.Errorf("error %v; want the plugin's", err)
	}
	first.Wait(t, "remove c1")
	p.Refuse = "start"
	w.create(w.member("pod2", "c2"))
	if _, err := w.Start(t.Context(), ns, "c2", StartOptions{}); err == nil || !strings.Contains(err.Error(), "refused by the test") {
		t.Errorf("error %v; want the plugin's", err)
	}
	p.Refuse = "update"
	if err := w.Update(t.Context(), ns, "c2", cpus("0")); err == nil || !strings.Contains(err.Error(), "refused by the test") {
		t.Errorf("error %v; want the plugin's", err)
	}
	p.Stop() // nothing of it is left
	w.ok(w.Update(t.Context(), ns, "c2", cpus("0")))
	w.start("c2")
	w.ok(w.RemovePod(t.Context(), ns, "pod2"))
}

// TestPluginsAreGone has a daemon without plugins start what plugins have changed.
func TestPluginsAreGone(t *testing.T) {
	w, a := plugged(t)
	p := &nritest.Plugin{Create: func(plugin.Container) (string, []plugin.Update, error) { return changes, nil, nil }}
	join(t, a, p, "10")
	w.pod("pod1")
	w.create(w.member("pod1", "c1"))
	w.Plugins = nil
	w.ok(os.Remove(filepath.Join(w.dir, "state/containers", ns, "c1", "config.json")))
	w.start("c1")
	s := w.written("c1")
	if s.Annotations["by"] != "" || *s.Linux.Resources.CPU.Shares != 512 {
		t.Errorf("annotations %v and limits %+v; want no annotation and the limits as they were", s.Annotations, s.Linux.Resources.CPU)
	}
	w.ok(w.RemovePod(t.Context(), ns, "pod1"))
}

func TestHostHooks(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		dir := t.TempDir()
		w.Hooks = hooks.Open([]string{dir})
		text := `{"version":"1.0.0","hook":{"path":"/bin/true"},"when":{"hasBindMounts":true},"stages":["poststop"]}`
		w.ok(os.WriteFile(filepath.Join(dir, "a.json"), []byte(text), 0o644))
		w.ok(os.WriteFile(filepath.Join(dir, "b.json"), []byte("{"), 0o644))
		c := w.create(w.options("plain"))
		if w.written("plain").Hooks != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "b.json") {
			t.Errorf("hooks %+v, warnings %q; want none, and one of b.json", w.written("plain").Hooks, c.Warnings)
		}
		o := w.options("bound")
		o.Request.Mounts = []spec.Mount{{Type: "bind", Source: dir, Target: "/x"}}
		w.create(o)
		if h := w.written("bound").Hooks; h == nil || len(h.Poststop) != 1 || h.Poststop[0].Path != "/bin/true" {
			t.Errorf("hooks %+v; want the one for bind mounts", h)
		}
		for _, id := range []string{"plain", "bound"} {
			_, err := w.Delete(t.Context(), ns, id, DeleteOptions{})
			w.ok(err)
		}
	})
}

package nri

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/nri/pkg/api"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/runtime/nri/nritest"
	"github.com/minirt/mini/runtime/plugin"
)

// node is a runtime of one pod with one container.
type node struct {
	mu      sync.Mutex
	updated []plugin.Update
}

func (n *node) Objects(context.Context) ([]plugin.Pod, []plugin.Container, error) {
	return []plugin.Pod{{ID: "pod1"}}, []plugin.Container{{ID: "old", Pod: "pod1", State: "running"}}, nil
}

func (n *node) ApplyUpdates(_ context.Context, updates []plugin.Update) (failed []plugin.Update, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, u := range updates {
		if u.ID == "gone" {
			failed = append(failed, u)
			if !u.IgnoreFailure {
				err = errors.Join(err, errdefs.ErrNotFound)
			}
			continue
		}
		n.updated = append(n.updated, u)
	}
	return failed, err
}

// serve starts an adaptation on a socket of its own.
func serve(t *testing.T, o Options) (*Adaptation, *node) {
	t.Helper()
	o.Socket = filepath.Join(t.TempDir(), "nri.sock")
	if o.PluginDir == "" {
		o.PluginDir = t.TempDir()
	}
	a, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{}
	if err := a.Start(n); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a, n
}

// join has a plugin join, wholly.
func join(t *testing.T, a *Adaptation, p *nritest.Plugin, index, name string) {
	t.Helper()
	p.Start(t, a.Socket, index, name)
	a.Hold()()
}

func document() *specs.Spec {
	return &specs.Spec{
		Annotations: map[string]string{"keep": "1", "drop": "1"},
		Process:     &specs.Process{Args: []string{"sh"}, Env: []string{"A=1", "B=2", "C=3"}},
		Mounts:      []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}, {Destination: "/old", Source: "/x"}},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{{Type: "mount"}, {Type: "pid"}},
			Sysctl:     map[string]string{"net.a": "1"},
		},
	}
}

const everything = `{
 "annotations": {"new": "2", "-drop": ""},
 "mounts": [{"destination": "-/old"}, {"destination": "/data", "source": "/srv", "type": "bind", "options": ["rbind","ro"]}],
 "env": [{"key": "A", "value": "9"}, {"key": "-B"}, {"key": "D", "value": "4"}],
 "args": ["sh", "-c", "true"],
 "hooks": {"prestart": [{"path": "/bin/1"}], "createRuntime": [{"path": "/bin/2"}], "createContainer": [{"path": "/bin/3"}],
  "startContainer": [{"path": "/bin/4"}], "poststart": [{"path": "/bin/5"}], "poststop": [{"path": "/bin/6"}]},
 "rlimits": [{"type": "RLIMIT_NOFILE", "hard": "10", "soft": "10"}],
 "linux": {
  "devices": [{"path": "/dev/fuse", "type": "c", "major": "10", "minor": "229"}],
  "resources": {"cpu": {"shares": {"value": "512"}, "cpus": "0"}, "memory": {"limit": {"value": "1048576"}}, "unified": {"memory.high": "1"}},
  "cgroupsPath": "/x/y", "oomScoreAdj": {"value": "7"},
  "namespaces": [{"type": "pid", "path": "/proc/1/ns/pid"}, {"type": "-mount"}],
  "sysctl": {"net.b": "2", "-net.a": ""}
 }
}`

func TestAdjust(t *testing.T) {
	a, n := serve(t, Options{})
	p := &nritest.Plugin{Create: func(c plugin.Container) (string, []plugin.Update, error) {
		if c.ID != "new" || c.Pod != "pod1" || c.Name != "app" || !slices.Equal(c.Spec.Process.Args, []string{"sh"}) {
			return "", nil, errors.New("not the container that was to be made")
		}
		return everything, []plugin.Update{{ID: "old", Resources: &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "1"}}}}, nil
	}, Synchronize: []plugin.Update{{ID: "old", Resources: &specs.LinuxResources{Unified: map[string]string{"a": "b"}}}}}
	join(t, a, p, "10", "test")
	if want := []string{"synchronize  pod1 old/CONTAINER_RUNNING"}; !slices.Equal(p.Events(), want) {
		t.Errorf("events %q; want %q", p.Events(), want)
	}
	got, err := a.Create(t.Context(), plugin.Pod{ID: "pod1"}, plugin.Container{ID: "new", Pod: "pod1", Name: "app", Spec: document()})
	if err != nil {
		t.Fatal(err)
	}
	shares, limit := uint64(512), int64(1<<20)
	if want := (&specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &shares, Cpus: "0"}, Memory: &specs.LinuxMemory{Limit: &limit, Swap: &limit},
		Unified: map[string]string{"memory.high": "1"}}); !reflect.DeepEqual(got.Resources, want) {
		t.Errorf("limits %s; want %s", text(t, got.Resources), text(t, want))
	}
	if len(got.Updates) != 1 || got.Updates[0].ID != "old" || got.Updates[0].Resources.CPU.Cpus != "1" {
		t.Errorf("updates %s", text(t, got.Updates))
	}
	s := document()
	if err := a.Adjust(s, got.Changes); err != nil {
		t.Fatal(err)
	}
	want := `{"ociVersion":"","process":{"user":{"uid":0,"gid":0},"args":["sh","-c","true"],"env":["A=9","C=3","D=4"],"cwd":"",` +
		`"rlimits":[{"type":"RLIMIT_NOFILE","hard":10,"soft":10}],"oomScoreAdj":7},` +
		`"mounts":[{"destination":"/data","type":"bind","source":"/srv","options":["rbind","ro"]},{"destination":"/proc","type":"proc","source":"proc"}],` +
		`"hooks":{"prestart":[{"path":"/bin/1"}],"createRuntime":[{"path":"/bin/2"}],"createContainer":[{"path":"/bin/3"}],` +
		`"startContainer":[{"path":"/bin/4"}],"poststart":[{"path":"/bin/5"}],"poststop":[{"path":"/bin/6"}]},` +
		`"annotations":{"keep":"1","new":"2"},"linux":{"sysctl":{"net.b":"2"},` +
		`"resources":{"devices":[{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}]},` +
		`"cgroupsPath":"/x/y","namespaces":[{"type":"pid","path":"/proc/1/ns/pid"}],"devices":[{"path":"/dev/fuse","type":"c","major":10,"minor":229}]}}`
	if text(t, s) != want {
		t.Errorf("document\n%s\nwant\n%s", text(t, s), want)
	}
	failed, err := p.Ask(plugin.Update{ID: "old"}, plugin.Update{ID: "gone", IgnoreFailure: true})
	if err != nil || !slices.Equal(failed, []string{"gone"}) {
		t.Errorf("asked by itself: failed %v, error %v", failed, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.updated) != 2 || n.updated[0].Resources.Unified["a"] != "b" {
		t.Errorf("updated %s; want that of the synchronization and that asked for by itself", text(t, n.updated))
	}
}

func TestUpdate(t *testing.T) {
	a, _ := serve(t, Options{})
	pod, old := plugin.Pod{ID: "pod1"}, plugin.Container{ID: "old", Pod: "pod1"}
	shares := uint64(100)
	asked := &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &shares}}
	if got, others, err := a.Update(t.Context(), pod, old, asked); got != nil || others != nil || err != nil {
		t.Errorf("without a plugin: %v %v %v", got, others, err)
	}
	p := &nritest.Plugin{Update: func(_ string, asked *specs.LinuxResources) []plugin.Update {
		half := *asked.CPU.Shares / 2
		return []plugin.Update{
			{ID: "old", Resources: &specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &half}}},
			{ID: "other", Resources: &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "3"}}},
		}
	}}
	join(t, a, p, "10", "test")
	got, others, err := a.Update(t.Context(), pod, old, asked)
	if err != nil || got == nil || *got.CPU.Shares != 50 {
		t.Errorf("limits %s, error %v; want half the shares", text(t, got), err)
	}
	if len(others) != 1 || others[0].ID != "other" || others[0].Resources.CPU.Cpus != "3" {
		t.Errorf("others %s", text(t, others))
	}
}

// TestHang has a plugin that never answers, beside one that does.
func TestHang(t *testing.T) {
	a, _ := serve(t, Options{RequestTimeout: 300 * time.Millisecond})
	t.Cleanup(func() { a.reset(t) })
	hung, good := &nritest.Plugin{Hang: "run pod"}, &nritest.Plugin{}
	join(t, a, hung, "10", "hung")
	join(t, a, good, "20", "good")
	began := time.Now()
	if err := a.Pod(t.Context(), plugin.PodRun, plugin.Pod{ID: "pod2"}); err != nil {
		t.Errorf("a plugin that hangs fails the request: %v", err)
	}
	if took := time.Since(began); took < 300*time.Millisecond || took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
	good.Wait(t, "run pod pod2")
	select {
	case <-hung.Closed():
	case <-time.After(5 * time.Second):
		t.Error("the plugin that hung is not dropped")
	}
	began = time.Now()
	if err := a.Pod(t.Context(), plugin.PodStopped, plugin.Pod{ID: "pod2"}); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 250*time.Millisecond {
		t.Errorf("the next request took %s", took)
	}
	good.Wait(t, "stop pod pod2")
}

// reset gives the library its timeouts back.
func (a *Adaptation) reset(t *testing.T) {
	if _, err := New(Options{RequestTimeout: DefaultRequestTimeout, RegistrationTimeout: DefaultRegistrationTimeout}); err != nil {
		t.Error(err)
	}
}

func TestRefuse(t *testing.T) {
	a, _ := serve(t, Options{})
	p := &nritest.Plugin{Refuse: "create"}
	join(t, a, p, "10", "test")
	_, err := a.Create(t.Context(), plugin.Pod{ID: "pod1"}, plugin.Container{ID: "new", Spec: document()})
	if err == nil || !strings.Contains(err.Error(), "refused by the test") {
		t.Errorf("error %v; want the plugin's", err)
	}
	p.Stop()
	if _, err := a.Create(t.Context(), plugin.Pod{ID: "pod1"}, plugin.Container{ID: "new", Spec: document()}); err != nil {
		t.Errorf("after the plugin's end: %v", err)
	}
}

// TestValidator has the library's own plugin refuse hooks.
func TestValidator(t *testing.T) {
	a, _ := serve(t, Options{Validator: Validator{Enable: true, RejectOCIHookAdjustment: true}})
	p := &nritest.Plugin{Create: func(plugin.Container) (string, []plugin.Update, error) {
		return `{"hooks":{"poststop":[{"path":"/bin/true"}]}}`, nil, nil
	}}
	join(t, a, p, "10", "test")
	_, err := a.Create(t.Context(), plugin.Pod{ID: "pod1"}, plugin.Container{ID: "new", Spec: document()})
	if err == nil || !strings.Contains(err.Error(), "hook") {
		t.Errorf("error %v; want a refusal of the hook", err)
	}
}

// TestSocketOfAnother must not take a socket away that somebody serves.
func TestSocketOfAnother(t *testing.T) {
	a, _ := serve(t, Options{})
	b, err := New(Options{Socket: a.Socket, PluginDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(&node{}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("error %v; want ErrAlreadyExists", err)
	}
	if _, err := os.Stat(a.Socket); err != nil {
		t.Error(err)
	}
}

func text(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestBlockIOClass: what a plugin's class means is the configuration's word.
func TestBlockIOClass(t *testing.T) {
	weight := uint16(30)
	a := &Adaptation{Options: Options{BlockIO: func(class string) (*specs.LinuxBlockIO, error) {
		if class != "slow" {
			return nil, errdefs.ErrInvalidArgument
		}
		return &specs.LinuxBlockIO{Weight: &weight}, nil
	}}}
	ask := func(class string) *api.LinuxResources { return &api.LinuxResources{BlockioClass: api.String(class)} }
	if got, err := a.blockIO(nil, ask("slow")); err != nil || *got.BlockIO.Weight != weight {
		t.Errorf("a class: %+v, %v", got, err)
	}
	if got, err := a.blockIO(nil, &api.LinuxResources{}); err != nil || got != nil {
		t.Errorf("no class: %+v, %v", got, err)
	}
	if _, err := a.blockIO(nil, ask("other")); !errdefs.IsInvalidArgument(err) {
		t.Errorf("an unknown class: %v", err)
	}
	a.BlockIO = nil
	if _, err := a.blockIO(nil, ask("slow")); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("where there are no classes: %v", err)
	}
}

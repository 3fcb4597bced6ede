package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/oci/spec"
)

// crashDir tells the test binary, started again, that it is the one to be killed.
const crashDir = "ENGINE_CRASH_DIR"

// crash is where an engine is killed, and what has become of its containers and pods after the next one has recovered.
type crash struct {
	point string // n*: the nth time
	want  string // "" when nothing is left
}

// crashes has every failure point of the engine. The life below passes those of a container twice, and then those of a
// pod, with the holder of its process namespace and another container in it.
func crashes() []crash {
	return []crash{
		{"create-recorded=kill", ""},
		{"create-prepared=kill", ""},
		{"create-bundled=kill", ""},
		{"start-bundled=kill", "plain created"},
		{"start-running=kill", "plain running"},
		{"frozen=kill", "plain running"},
		{"remove-recorded=kill", ""},
		{"remove-stopped=kill", ""},
		{"remove-unmounted=kill", ""},
		{"remove-before-record=kill", ""},
		{"create-bundled=2*kill", ""},
		{"start-running=2*kill", "auto running"},
		{"remove-recorded=2*kill", ""},
		{"remove-stopped=2*kill", ""},
		{"remove-unmounted=2*kill", ""},
		{"remove-before-record=2*kill", ""},
		{"pod-recorded=kill", ""},
		{"pod-pinned=kill", ""},
		{"pod-attached=kill", ""},
		{"create-recorded=4*kill", "pod pod ready, pod running"},
		{"start-running=4*kill", "inside running, pod pod ready, pod running"},
		{"pod-removing=kill", ""},
		{"remove-unmounted=3*kill", ""},
		{"remove-before-record=4*kill", ""},
		{"pod-before-record=kill", ""},
		{"endpoint-attached=kill", "net created"},
		{"start-joined=kill", "net created"},
		{"start-running=5*kill", "net running"},
		{"remove-stopped=5*kill", ""},
		{"network-recorded=kill", ""},
		{"network-made=kill", ""},
		{"connect-attached=kill", "both running, network red ready"},
		{"disconnect-detached=kill", "both running, network red ready"},
		{"network-removing=kill", ""},
		{"volume-recorded=kill", "volume keep"},
		{"volume-recorded=2*kill", "volume keep"},
		{"volume-made=2*kill", "volume keep"},
		{"volume-ready=kill", "volume keep"},
		{"volume-removing=kill", "volume keep"},
		{"volume-removed=kill", "volume keep"},
		{"volume-removing=2*kill", ""},
		{"volume-removed=2*kill", ""},
	}
}

// TestEveryFailurePointIsTested reads the names from the source.
func TestEveryFailurePointIsTested(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	tested := map[string]bool{}
	for _, c := range crashes() {
		name, _, _ := strings.Cut(c.point, "=")
		tested[name] = false
	}
	hit := regexp.MustCompile(`failpoint\.Hit\("([^"]+)"\)`)
	for _, f := range files {
		source, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range hit.FindAllSubmatch(source, -1) {
			if _, ok := tested[string(m[1])]; !ok {
				t.Errorf("%s: the failure point %s is in no row of crashes", f, m[1])
			}
			tested[string(m[1])] = true
		}
	}
	for name, found := range tested {
		if !found {
			t.Errorf("the failure point %s is not in the source", name)
		}
	}
}

// TestKilled kills an engine at every failure point, and lets another recover from what it left.
func TestKilled(t *testing.T) {
	testenv.Root(t)
	for _, c := range crashes() {
		t.Run(c.point, func(t *testing.T) {
			t.Parallel()
			dir := crashedDir(t)
			if killed, out := liveAndDie(t, dir, c.point); !killed {
				t.Fatalf("it was not killed:\n%s", out)
			}
			if got := afterCrash(t, dir); got != c.want {
				t.Errorf("recovered: %q; want %q", got, c.want)
			}
		})
	}
}

// TestKilledAtEverySave kills an engine before and after each commit of the store, and after each write that is not
// synced, the snapshotter's included.
func TestKilledAtEverySave(t *testing.T) {
	testenv.Root(t)
	testenv.Long(t)
	for point, least := range map[string]int{"store-before-commit": 5, "store-after-commit": 5, "store-journaled": 10} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			n := 1
			for ; ; n++ {
				dir := crashedDir(t)
				killed, out := liveAndDie(t, dir, fmt.Sprintf("%s=%d*kill", point, n))
				afterCrash(t, dir)
				if !killed {
					if !strings.Contains(out, "PASS") {
						t.Fatal(out)
					}
					break
				}
			}
			if n < least {
				t.Errorf("only %d in three lives", n)
			}
		})
	}
}

// TestFailurePointsThatFail instead of killing: the engine itself clears up, at once or with the next delete.
func TestFailurePointsThatFail(t *testing.T) {
	testenv.Root(t)
	for _, c := range crashes() {
		point := strings.Replace(c.point, "kill", "error", 1)
		if !strings.Contains(point, "*") {
			point = strings.Replace(point, "error", "1*error", 1)
		}
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			dir := crashedDir(t)
			if killed, out := liveAndDie(t, dir, point); killed || !strings.Contains(out, "PASS") {
				t.Fatalf("killed: %t\n%s", killed, out)
			}
			if got := afterCrash(t, dir); got != "" {
				t.Errorf("left: %q", got)
			}
		})
	}
}

// crashedDir has the image, and nothing else.
func crashedDir(t *testing.T) string {
	dir := testenv.Dir(t)
	t.Cleanup(func() { unmountBelow(t, dir) })
	w := open(t, dir, openSandboxes(t, filepath.Join(dir, "sandboxes")))
	w.imaged("")
	w.shut()
	return dir
}

// liveAndDie runs TestLife in another process.
func liveAndDie(t *testing.T, dir, point string) (killed bool, out string) {
	t.Helper()
	child := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestLife$", "-test.v=true")
	child.Env = append(os.Environ(), crashDir+"="+dir, failpoint.Env+"="+point)
	var both bytes.Buffer
	child.Stdout, child.Stderr = &both, &both
	err := child.Run()
	exit := (*exec.ExitError)(nil)
	return errors.As(err, &exit) && !exit.Exited(), both.String()
}

// TestLife is what is killed: a container that is deleted by force, one that removes itself, a pod, a container in a
// network, a network, and a container with volumes.
func TestLife(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		t.Skip("only as a part of TestKilled")
	}
	w := open(t, dir, openSandboxes(t, filepath.Join(dir, "sandboxes")))
	w.recover()
	live := func(id string, auto bool) error {
		o := w.imaged(id)
		if id == "net" {
			o.Net = NetworkOptions{Mode: NetworkBridge}
		}
		o.AutoRemove = auto
		_, err := w.Create(t.Context(), ns, o)
		if err != nil {
			return err
		}
		p, err := w.Start(t.Context(), ns, id, StartOptions{})
		if err != nil {
			return err
		}
		if id == "plain" {
			if _, err := w.Commit(t.Context(), ns, id, CommitOptions{Name: "made:1"}); err != nil {
				return err
			}
		}
		if auto {
			w.sandboxes.exit(t, id, "", 0)
			_, err = p.Wait(t.Context())
			return err
		}
		if _, err := w.Exec(t.Context(), ns, id, ExecOptions{ExecID: "x"}); err == nil {
			t.Error("an exec without arguments")
		}
		_, err = w.Delete(t.Context(), ns, id, DeleteOptions{Force: true})
		return err
	}
	err := errors.Join(live("plain", false), live("auto", true), w.livePod(), live("net", false), w.liveNetwork(), w.liveVolumes())
	if err != nil && strings.HasSuffix(os.Getenv(failpoint.Env), "kill") {
		t.Error(err)
	}
	if again := w.RemovePod(t.Context(), ns, "pod"); again != nil && !errdefs.IsNotFound(again) {
		t.Errorf("the pod: %v after %v", again, err)
	}
	for _, id := range []string{"plain", "auto", "net", "both", "vol"} { // what has failed before
		if _, again := w.Delete(t.Context(), ns, id, DeleteOptions{Force: true}); again != nil && !errdefs.IsNotFound(again) {
			t.Errorf("%s: %v after %v", id, again, err)
		}
	}
	if _, again := w.RemoveNetwork(t.Context(), ns, "red"); again != nil && !errdefs.IsNotFound(again) {
		t.Errorf("the network: %v after %v", again, err)
	}
	if again := w.RemoveVolume(t.Context(), ns, "keep"); again != nil && !errdefs.IsNotFound(again) {
		t.Errorf("the volume: %v after %v", again, err)
	}
	w.sandboxes.tell.Wait()
	w.clean()
	w.shut()
}

// liveNetwork makes a network, which a container joins and leaves, and removes it.
func (w *world) liveNetwork() error {
	ctx := context.Background()
	if _, err := w.CreateNetwork(ctx, ns, NewNetwork{Name: "red"}); err != nil {
		return err
	}
	o := w.imaged("both")
	o.Net = NetworkOptions{Mode: NetworkBridge}
	_, err := w.Create(ctx, ns, o)
	if err == nil {
		_, err = w.Start(ctx, ns, "both", StartOptions{})
	}
	if err == nil {
		_, err = w.Connect(ctx, ns, "both", NetworkAttachment{Network: "red"})
	}
	if err == nil {
		_, err = w.Disconnect(ctx, ns, "both", "red")
	}
	if err == nil {
		_, err = w.Delete(ctx, ns, "both", DeleteOptions{Force: true})
	}
	if err == nil {
		_, err = w.RemoveNetwork(ctx, ns, "red")
	}
	return err
}

// liveVolumes makes a container with a named volume and one without a name, which goes with it, and then the named one.
func (w *world) liveVolumes() error {
	o := w.imaged("vol")
	o.Request.Mounts = []spec.Mount{{Type: MountVolume, Source: "keep", Target: "/kept"}, {Type: MountVolume, Target: "/anonymous"}}
	if _, err := w.Create(context.Background(), ns, o); err != nil {
		return err
	}
	if _, err := w.Delete(context.Background(), ns, "vol", DeleteOptions{Force: true, Volumes: true}); err != nil {
		return err
	}
	return w.RemoveVolume(context.Background(), ns, "keep")
}

// livePod runs a pod with a container in it, stops it and removes it.
func (w *world) livePod() error {
	ctx := context.Background()
	if _, err := w.RunPod(ctx, ns, w.podOptions("pod")); err != nil {
		return err
	}
	o := w.imaged("inside")
	o.Pod = "pod"
	_, err := w.Create(ctx, ns, o)
	if err == nil {
		_, err = w.Start(ctx, ns, "inside", StartOptions{})
	}
	return errors.Join(err, w.RemovePod(ctx, ns, "pod"))
}

// afterCrash recovers, and says what is left, which must be whole: it can be used, and deleted without a trace.
func afterCrash(t *testing.T, dir string) string {
	t.Helper()
	w := open(t, dir, openSandboxes(t, filepath.Join(dir, "sandboxes")))
	defer w.shut()
	w.recover()
	w.background.Wait()
	list, err := w.List(t.Context(), "")
	w.ok(err)
	var left []string
	for _, c := range list {
		left = append(left, c.ID+" "+string(c.State))
		if c.Pod == "" {
			w.whole(c)
		}
	}
	for _, r := range w.userNetworks() {
		left = append(left, "network "+r.Name+" "+string(r.State))
	}
	volumes, err := w.ListVolumes(t.Context(), ns, true)
	w.ok(err)
	for _, v := range volumes {
		left = append(left, "volume "+v.Name)
		w.ok(w.RemoveVolume(t.Context(), ns, v.Name))
	}
	for _, p := range w.livePods("") {
		left = append(left, "pod "+p.key.id+" "+string(p.record().State))
		w.wholePod(p.record())
	}
	w.sandboxes.tell.Wait()
	w.clean()
	if freed, err := w.snapshots.Cleanup(t.Context()); freed != 0 || err != nil {
		t.Errorf("the snapshotter had %d leftovers, %v", freed, err)
	}
	slices.Sort(left)
	return strings.Join(left, ", ")
}

// wholePod uses a pod up to its end: a container is made and started in it.
func (w *world) wholePod(p Pod) {
	w.t.Helper()
	if p.State == PodReady {
		o := w.options("later")
		o.Pod = p.ID
		w.create(o)
		w.start("later")
		if ids := w.network.inside(); len(ids) != 1 || ids[0] != p.ID {
			w.t.Errorf("in the network are %v", ids)
		}
	}
	w.ok(w.RemovePod(context.Background(), ns, p.ID))
}

// whole uses a container up to its end.
func (w *world) whole(c Container) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if c.State == Created {
		_, err := w.Start(ctx, ns, c.ID, StartOptions{})
		w.ok(err)
	}
	if mounted, err := mount.Mounted(rootfsDir(w.Bundle(c))); err != nil || !mounted {
		w.t.Errorf("container %s: root filesystem mounted: %t, %v", c.ID, mounted, err)
	}
	if _, err := w.snapshots.Info(ctx, snapshotKey(c.ID)); err != nil {
		w.t.Error(err)
	}
	p, err := w.Process(ctx, ns, c.ID, "")
	w.ok(err)
	w.sandboxes.exit(w.t, c.ID, "", 0)
	if _, err := p.Wait(ctx); err != nil {
		w.t.Error(err)
	}
	if _, err := w.Delete(ctx, ns, c.ID, DeleteOptions{}); err != nil && !(c.AutoRemove && errdefs.IsNotFound(err)) {
		w.t.Error(err)
	}
}

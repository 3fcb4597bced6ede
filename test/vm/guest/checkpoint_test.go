package guest

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// countsIn are what a container that counts has said, in the order of its log.
func countsIn(text string) []int {
	var all []int
	for _, m := range regexp.MustCompile(`counted (\d+)`).FindAllStringSubmatch(text, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			n = -1
		}
		all = append(all, n)
	}
	return all
}

// countsOn waits until a log has gone on from a number, without beginning anew.
func countsOn(t *testing.T, what string, from int, log func() string) int {
	t.Helper()
	last := -1
	testenv.Eventually(t, 30*time.Second, what+" counts on", func() bool {
		all := countsIn(log())
		if len(all) == 0 {
			return false
		}
		last = all[len(all)-1]
		return last > from+2
	})
	return last
}

// sayWhy shows what criu has said, when a test has failed.
func sayWhy(t *testing.T, d *testenv.DaemonProcess) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, pattern := range []string{"state/containers/*/*/criu/*.log", "state/containers/*/*/*.log"} {
			logs, _ := filepath.Glob(filepath.Join(d.Dir, pattern))
			for _, name := range logs {
				for line := range strings.Lines(read(t, name)) {
					if strings.Contains(line, "Error") || strings.Contains(line, "Warn") {
						t.Logf("%s: %s", filepath.Base(name), line)
					}
				}
			}
		}
	})
}

// TestCheckpoint stops containers with their processes, and lets them go on where they were.
func TestCheckpoint(t *testing.T) {
	testenv.Need(t, "criu")
	d := start(t)
	sayWhy(t, d)
	d.Minictr("run", "-d", "--mount", actor, toolbox, "counter", "/act", "count")
	log := func() string { return d.Minictr("logs", "counter") }
	before := countsOn(t, "the container", 0, log)

	t.Log("into a directory, and it goes on meanwhile")
	dir := filepath.Join(testenv.Dir(t), "criu")
	d.Minictr("tasks", "checkpoint", "--leave-running", "counter", dir)
	countsOn(t, "the container that was left running", before, log)

	t.Log("into an image, and it ends")
	d.Minictr("containers", "checkpoint", "--rw", "--task", "counter", "counted:1")
	if r := waitExit(t, d, "counter"); r.State != "exited" {
		t.Errorf("after the checkpoint it is %s", r.State)
	}
	all := countsIn(log())
	before = all[len(all)-1] // the last that it said
	d.Minictr("containers", "rm", "counter")
	d.Minictr("containers", "restore", "--live", "again", "counted:1")
	after := countsOn(t, "the restored container", before, func() string { return d.Minictr("logs", "again") })
	if first := countsIn(d.Minictr("logs", "again"))[0]; first < before || first > before+2 {
		t.Errorf("it has counted to %d, and goes on with %d", before, first)
	}
	if o := d.Try("exec", "again", "echo", "hello"); o.Code != 0 || o.Stdout != "hello\n" {
		t.Errorf("exec in a restored container: %+v", o)
	}

	t.Log("a daemon that is killed loses nothing of it")
	d.Kill9()
	d.Start()
	countsOn(t, "the restored container", after, func() string { return d.Minictr("logs", "again") })
	d.Minictr("tasks", "kill", "-s", "KILL", "again")
	if r := waitExit(t, d, "again"); r.Exit.Code != 137 {
		t.Errorf("a restored container that was killed has the code %d", r.Exit.Code)
	}
	d.Minictr("containers", "rm", "again")
	d.Minictr("images", "rm", "counted:1")
}

// counting is a container of a pod that counts.
func counting(name string) *runtimeapi.ContainerConfig {
	c := testenv.ContainerConfig(name, toolbox, "/act", "count")
	c.Mounts = []*runtimeapi.Mount{{HostPath: "/sbin/init", ContainerPath: "/act", Readonly: true}}
	return c
}

// TestCheckpointPod makes an archive of a container, and a directory of a pod with two, and restores the pod over the CRI.
func TestCheckpointPod(t *testing.T) {
	testenv.Need(t, "criu")
	d := start(t)
	sayWhy(t, d)
	c := testenv.DialCRI(t, d.Address)
	c.Parent = "/checkpointed"
	t.Cleanup(func() { os.Remove("/sys/fs/cgroup/checkpointed") })
	t.Cleanup(c.RemoveAll)
	dir := testenv.Dir(t)
	pod := c.RunPod("pod")
	ids := []string{pod.Create(counting("one")), pod.Create(counting("two"))}
	for _, id := range ids {
		c.Start(id)
	}
	last := map[string]int{}
	for _, name := range []string{"one", "two"} {
		last[name] = countsOn(t, name, 2, func() string { return pod.Log(name) })
	}

	t.Log("a container's archive; it goes on")
	archive := filepath.Join(dir, "one.tar")
	if _, err := c.Runtime.CheckpointContainer(t.Context(), &runtimeapi.CheckpointContainerRequest{ContainerId: ids[0], Location: archive, Timeout: 60}); err != nil {
		t.Fatal(err)
	}
	last["one"] = countsOn(t, "the container of the archive", last["one"], func() string { return pod.Log("one") })

	t.Log("a pod's directory")
	location := filepath.Join(dir, "pod")
	if err := os.Mkdir(location, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := c.Runtime.CheckpointPod(ctx, &runtimeapi.CheckpointPodRequest{PodSandboxId: pod.ID, OutputPath: location, ContainerIds: ids}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "two"} {
		last[name] = countsOn(t, name+" after the pod's checkpoint", 0, func() string { return pod.Log(name) })
	}
	pod.Remove()

	t.Log("the pod is restored")
	config := c.PodConfig("restored")
	answer, err := c.Runtime.RestorePod(ctx, &runtimeapi.RestorePodRequest{
		CheckpointPath: location, Config: config, ContainerConfigs: []*runtimeapi.ContainerConfig{counting("one"), counting("two")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.RestoredContainers) != 2 {
		t.Fatalf("restored: %v", answer.RestoredContainers)
	}
	restored := &testenv.CRIPod{}
	*restored = *pod
	restored.ID, restored.Config = answer.PodSandboxId, config
	for _, one := range answer.RestoredContainers {
		c.Start(one.ContainerId)
	}
	for _, name := range []string{"one", "two"} {
		all := func() string { return restored.Log(name) }
		countsOn(t, name+" of the restored pod", 3, all)
		if first := countsIn(all())[0]; first < 2 {
			t.Errorf("%s began anew: %d", name, first)
		}
	}

	t.Log("the container is restored of its archive in the other pod")
	three := counting("three")
	three.Image.Image = archive
	id := restored.Create(three)
	c.Start(id)
	countsOn(t, "the container of the archive", 3, func() string { return restored.Log("three") })
	if first := countsIn(restored.Log("three"))[0]; first < 2 {
		t.Errorf("it began anew: %d", first)
	}
	if out := c.Exec(id, "echo", "hello"); out != "hello\n" {
		t.Errorf("exec: %q", out)
	}
	restored.Remove()
}

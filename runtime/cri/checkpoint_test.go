package cri

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/engine"
)

func entriesOf(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	for _, e := range must(os.ReadDir(dir)) {
		names = append(names, e.Name())
	}
	return names
}

func TestCheckpointContainer(t *testing.T) {
	w := newWorld(t)
	id := w.container(t, w.pod(t, "web"), "c", true)
	dir := t.TempDir()
	location := filepath.Join(dir, "c.tar")
	if _, err := w.CheckpointContainer(t.Context(), &v1.CheckpointContainerRequest{ContainerId: id, Location: location, Timeout: 10}); err != nil {
		t.Fatal(err)
	}
	f := must(os.Open(location))
	defer f.Close()
	var names []string
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if data, _ := io.ReadAll(r); h.Name == checkpointDiff && string(data) != "diff of "+id {
			t.Errorf("the diff is %q", data)
		}
	}
	if want := []string{"checkpoint", "checkpoint/pages-1.img", "config.dump", "rootfs-diff.tar", "spec.dump"}; !slices.Equal(names, want) {
		t.Errorf("the archive has %v", names)
	}
	if left := entriesOf(t, dir); len(left) != 1 {
		t.Errorf("left are %v", left)
	}
	w.engine.checkpoint = func(engine.CheckpointOptions) error { return errors.New("criu failed: no memory tracking") }
	_, err := w.CheckpointContainer(t.Context(), &v1.CheckpointContainerRequest{ContainerId: id, Location: filepath.Join(dir, "d.tar")})
	wants(t, err, codes.FailedPrecondition, "no memory tracking")
	if left := entriesOf(t, dir); len(left) != 1 {
		t.Errorf("after a failure, left are %v", left)
	}
	_, err = w.CheckpointContainer(t.Context(), &v1.CheckpointContainerRequest{ContainerId: id, Location: "c.tar"})
	wants(t, err, codes.InvalidArgument, "absolute path")
	_, err = w.CheckpointContainer(t.Context(), &v1.CheckpointContainerRequest{ContainerId: id, Location: "/nosuch/c.tar"})
	wants(t, err, codes.FailedPrecondition, "make it")
}

// noCRIU says what a host without criu does.
func noCRIU(context.Context) error { return unable("checkpoints need the program criu") }

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestCheckpointAndRestorePod(t *testing.T) {
	w := newWorld(t)
	pod := w.pod(t, "web")
	a, b := w.container(t, pod, "a", true), w.container(t, pod, "b", true)
	dir := t.TempDir()
	r := &v1.CheckpointPodRequest{PodSandboxId: pod, OutputPath: dir, ContainerIds: []string{a, b}}
	w.engine.checkpoint = func(o engine.CheckpointOptions) error {
		for _, id := range []string{a, b} {
			if c, _ := w.engine.Get(t.Context(), "", id); c.State != engine.Paused {
				t.Errorf("container %s is %s while a checkpoint is made", id, c.State)
			}
		}
		return os.MkdirAll(o.Path, 0o700)
	}
	if _, err := w.CheckpointPod(within(t), r); err != nil {
		t.Fatal(err)
	}
	running := func() {
		t.Helper()
		for _, id := range []string{a, b} {
			if c, _ := w.engine.Get(t.Context(), "", id); c.State != engine.Running {
				t.Errorf("container %s is %s afterwards", id, c.State)
			}
		}
	}
	running()

	// A failure leaves nothing behind, and nobody frozen.
	empty := t.TempDir()
	tries := 0
	w.engine.checkpoint = func(o engine.CheckpointOptions) error {
		if tries++; tries == 2 {
			return errors.New("criu failed")
		}
		return os.MkdirAll(o.Path, 0o700)
	}
	_, err := w.CheckpointPod(within(t), &v1.CheckpointPodRequest{PodSandboxId: pod, OutputPath: empty, ContainerIds: []string{a, b}})
	wants(t, err, codes.FailedPrecondition, "criu failed")
	if left := entriesOf(t, empty); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
	running()

	next := podConfigOf("web")
	next.Metadata.Uid = "u2"
	restore := &v1.RestorePodRequest{CheckpointPath: dir, Config: next, ContainerConfigs: []*v1.ContainerConfig{containerConfigOf("b"), containerConfigOf("a")}}
	out, err := w.RestorePod(within(t), restore)
	if err != nil {
		t.Fatal(err)
	}
	if len(out.RestoredContainers) != 2 || out.RestoredContainers[0].Name != "a" || len(w.engine.applied) != 2 || w.engine.applied[0] != "diff of "+a {
		t.Errorf("restored: %v with %v", out, w.engine.applied)
	}
	c, _ := w.engine.Get(t.Context(), "", out.RestoredContainers[0].ContainerId)
	if k := unpack(c); c.State != engine.Created || c.Pod != out.PodSandboxId || k.Restore != filepath.Join(dir, "containers/0/checkpoint") {
		t.Errorf("restored: %+v", k)
	}
	if _, err := w.StartContainer(t.Context(), &v1.StartContainerRequest{ContainerId: c.ID}); err != nil || w.engine.started.Restore != unpack(c).Restore || !w.engine.started.TCPEstablished {
		t.Errorf("started with %+v, %v", w.engine.started, err)
	}
	_, err = w.RestorePod(within(t), restore)
	wants(t, err, codes.AlreadyExists, "same metadata")
}

func TestCheckpointPodRefused(t *testing.T) {
	w := newWorld(t)
	pod := w.pod(t, "web")
	run, idle, other := w.container(t, pod, "run", true), w.container(t, pod, "idle", false), w.container(t, w.pod(t, "other"), "o", true)
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	good := func() *v1.CheckpointPodRequest {
		return &v1.CheckpointPodRequest{PodSandboxId: pod, OutputPath: t.TempDir(), ContainerIds: []string{run}}
	}
	_, err := w.runtime.CheckpointPod(t.Context(), good())
	if err == nil {
		t.Error("a call without a deadline is let through")
	}
	for name, tc := range map[string]struct {
		change func(*v1.CheckpointPodRequest)
		code   codes.Code
		says   string
	}{
		"options":      {func(r *v1.CheckpointPodRequest) { r.Options = map[string]string{"a": "b"} }, codes.InvalidArgument, "no options"},
		"no directory": {func(r *v1.CheckpointPodRequest) { r.OutputPath = "/nosuch" }, codes.InvalidArgument, "that is there"},
		"relative":     {func(r *v1.CheckpointPodRequest) { r.OutputPath = "x" }, codes.InvalidArgument, "absolute"},
		"not empty":    {func(r *v1.CheckpointPodRequest) { r.OutputPath = full }, codes.InvalidArgument, "empty directory"},
		"no pod":       {func(r *v1.CheckpointPodRequest) { r.PodSandboxId = "nosuch" }, codes.NotFound, ""},
		"none":         {func(r *v1.CheckpointPodRequest) { r.ContainerIds = nil }, codes.InvalidArgument, "names no container"},
		"twice":        {func(r *v1.CheckpointPodRequest) { r.ContainerIds = []string{run, run} }, codes.InvalidArgument, "twice"},
		"not running":  {func(r *v1.CheckpointPodRequest) { r.ContainerIds = []string{idle} }, codes.FailedPrecondition, "must be running"},
		"other pod":    {func(r *v1.CheckpointPodRequest) { r.ContainerIds = []string{other} }, codes.InvalidArgument, "not of pod"},
	} {
		t.Run(name, func(t *testing.T) {
			r := good()
			tc.change(r)
			_, err := w.CheckpointPod(within(t), r)
			wants(t, err, tc.code, tc.says)
		})
	}
	w.runtime.criu = noCRIU
	r := good()
	_, err = w.CheckpointPod(within(t), r)
	wants(t, err, codes.FailedPrecondition, "criu")
	if left := entriesOf(t, r.OutputPath); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
}

func TestRestorePodRefused(t *testing.T) {
	w := newWorld(t)
	pod := w.pod(t, "web")
	dir := t.TempDir()
	if _, err := w.CheckpointPod(within(t), &v1.CheckpointPodRequest{PodSandboxId: pod, OutputPath: dir, ContainerIds: []string{w.container(t, pod, "c", true)}}); err != nil {
		t.Fatal(err)
	}
	good := func() *v1.RestorePodRequest {
		return &v1.RestorePodRequest{CheckpointPath: dir, Config: podConfigOf("new"), ContainerConfigs: []*v1.ContainerConfig{containerConfigOf("c")}}
	}
	pods := len(w.engine.pods)
	for name, tc := range map[string]struct {
		change func(*v1.RestorePodRequest)
		says   string
	}{
		"options":       {func(r *v1.RestorePodRequest) { r.Options = map[string]string{"a": "b"} }, "no options"},
		"no checkpoint": {func(r *v1.RestorePodRequest) { r.CheckpointPath = t.TempDir() }, "no whole checkpoint"},
		"handler":       {func(r *v1.RestorePodRequest) { r.RuntimeHandler = "crun" }, "cannot be restored with"},
		"unknown":       {func(r *v1.RestorePodRequest) { r.RuntimeHandler = "x" }, "not known"},
		"no config":     {func(r *v1.RestorePodRequest) { r.Config = nil }, "missing"},
		"none":          {func(r *v1.RestorePodRequest) { r.ContainerConfigs = nil }, "0 container configurations"},
		"other name":    {func(r *v1.RestorePodRequest) { r.ContainerConfigs[0].Metadata.Name = "d" }, "no configuration is given"},
		"no name":       {func(r *v1.RestorePodRequest) { r.ContainerConfigs[0].Metadata = nil }, "empty or given twice"},
		"other command": {func(r *v1.RestorePodRequest) { r.ContainerConfigs[0].Command = []string{"sh"} }, "command is not that"},
		"other env":     {func(r *v1.RestorePodRequest) { r.ContainerConfigs[0].Envs = []*v1.KeyValue{{Key: "A"}} }, "envs is not that"},
		"other user":    {func(r *v1.RestorePodRequest) { security(r.ContainerConfigs[0]).RunAsUser = &v1.Int64Value{Value: 1} }, "user or groups"},
	} {
		t.Run(name, func(t *testing.T) {
			r := good()
			tc.change(r)
			_, err := w.RestorePod(within(t), r)
			wants(t, err, codes.InvalidArgument, tc.says)
		})
	}
	w.runtime.criu = noCRIU
	_, err := w.RestorePod(within(t), good())
	wants(t, err, codes.FailedPrecondition, "criu")
	if len(w.engine.pods) != pods {
		t.Errorf("%d pods were made", len(w.engine.pods)-pods)
	}
	// What a restore has made before it fails is removed.
	w.runtime.criu = func(context.Context) error { return nil }
	if err := os.Remove(filepath.Join(dir, "containers/0", checkpointDiff)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.RestorePod(within(t), good()); err == nil || len(w.engine.pods) != pods {
		t.Errorf("after a failure there are %d pods, not %d: %v", len(w.engine.pods), pods, err)
	}
}

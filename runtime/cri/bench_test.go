package cri

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"

	"github.com/opencontainers/go-digest"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/engine"
)

// BenchmarkListContainerStats is the translation alone, for 30 pods with a container each; the reading is the engine's.
func BenchmarkListContainerStats(b *testing.B) {
	e := newFakeEngine()
	e.reading = fullReading()
	s := newRuntime(Deps{
		Engine: e, Disk: &fakeDisk{}, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Serving: context.Background(),
		Images: &fakeImages{names: map[string]digest.Digest{"docker.io/library/busybox:1": digest.FromString("busybox")}},
	})
	for n := range 30 {
		pod := must(s.RunPodSandbox(b.Context(), &v1.RunPodSandboxRequest{Config: podConfigOf(fmt.Sprint("p", n))}))
		c := must(s.CreateContainer(b.Context(), &v1.CreateContainerRequest{PodSandboxId: pod.PodSandboxId, Config: containerConfigOf("c")}))
		must(e.Start(b.Context(), Namespace, c.ContainerId, engine.StartOptions{}))
	}
	for b.Loop() {
		if r := must(s.ListContainerStats(b.Context(), &v1.ListContainerStatsRequest{})); len(r.Stats) != 30 {
			b.Fatal(len(r.Stats))
		}
	}
}

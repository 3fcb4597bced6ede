package cri

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"time"

	rtfeatures "github.com/opencontainers/runtime-spec/specs-go/features"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/oci/spec"
)

// featuresTimeout bounds how long a runtime may take to say what it can.
const featuresTimeout = 5 * time.Second

// features knows what each runtime handler can do. A runtime's binary is asked once.
type features struct {
	host     spec.Host
	runtimes map[string]string
	ask      func(ctx context.Context, path string) (*rtfeatures.Features, error)

	mu    sync.Mutex
	known map[string]answer
}

type answer struct {
	features *v1.RuntimeHandlerFeatures
	problem  string // why nothing is known; "" when something is
}

func newFeatures(h spec.Host, runtimes map[string]string) *features {
	return &features{host: h, runtimes: runtimes, ask: askRuntime, known: map[string]answer{}}
}

// handlers lists the runtime handlers, the default one first.
func (f *features) handlers(ctx context.Context) []*v1.RuntimeHandler {
	out := []*v1.RuntimeHandler{{Name: "", Features: f.builtIn()}}
	for _, name := range sortedKeys(f.runtimes) {
		out = append(out, &v1.RuntimeHandler{Name: name, Features: f.of(ctx, f.runtimes[name]).features})
	}
	return out
}

// builtIn is what libcontainer in the supervisor can do here. Kubernetes counts user namespaces from Linux 6.3 on, the
// first with idmapped mounts of tmpfs.
func (f *features) builtIn() *v1.RuntimeHandlerFeatures {
	return &v1.RuntimeHandlerFeatures{
		RecursiveReadOnlyMounts: !f.host.KernelBefore(5, 12),
		UserNamespaces:          !f.host.KernelBefore(6, 3) && !slices.Contains(f.host.MissingNamespaces, "user"),
	}
}

// of asks a runtime's binary, or gives what it answered before. One that has not answered can do nothing special, and is
// asked again.
func (f *features) of(ctx context.Context, path string) answer {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a, ok := f.known[path]; ok {
		return a
	}
	ctx, cancel := context.WithTimeout(ctx, featuresTimeout)
	defer cancel()
	said, err := f.ask(ctx, path)
	if err != nil {
		return answer{features: &v1.RuntimeHandlerFeatures{}, problem: err.Error()}
	}
	a := answer{features: f.translate(said)}
	f.known[path] = a
	return a
}

func (f *features) translate(said *rtfeatures.Features) *v1.RuntimeHandlerFeatures {
	own := f.builtIn()
	out := &v1.RuntimeHandlerFeatures{RecursiveReadOnlyMounts: own.RecursiveReadOnlyMounts && slices.Contains(said.MountOptions, "rro")}
	if l := said.Linux; l != nil && l.MountExtensions != nil && l.MountExtensions.IDMap != nil {
		out.UserNamespaces = own.UserNamespaces && slices.Contains(l.Namespaces, "user") && value(l.MountExtensions.IDMap.Enabled)
	}
	return out
}

// askRuntime runs "PATH features": https://github.com/opencontainers/runtime-spec/blob/v1.3.0/features.md
func askRuntime(ctx context.Context, path string) (*rtfeatures.Features, error) {
	data, err := exec.CommandContext(ctx, path, "features").Output()
	if err != nil {
		return nil, fmt.Errorf("%s features: %w", path, err)
	}
	said := &rtfeatures.Features{}
	if err := json.Unmarshal(data, said); err != nil {
		return nil, fmt.Errorf("%s features: the answer is no JSON of the runtime spec: %w", path, err)
	}
	return said, nil
}

// problems says of which runtimes nothing is known, and why.
func (f *features) problems(ctx context.Context) map[string]string {
	out := map[string]string{}
	for name, path := range f.runtimes {
		if p := f.of(ctx, path).problem; p != "" {
			out[name] = p
		}
	}
	return out
}

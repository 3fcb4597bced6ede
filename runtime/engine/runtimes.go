package engine

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go/features"
	"golang.org/x/mod/semver"

	"github.com/minirt/mini/oci/spec"
)

// Runtimes are the OCI runtimes that there are.
type Runtimes struct {
	// Paths are those of their binaries by name; empty: libcontainer in the supervisor. The empty name is the runtime of who
	// names none.
	Paths   map[string]string
	Options map[string]RuntimeOptions // by name
}

// SetRuntimes replaces the runtimes. Containers go on by the one that they were started with; its name should stay.
func (e *Engine) SetRuntimes(r Runtimes) { e.reloaded.Store(&r) }

func (e *Engine) runtimes() Runtimes {
	if r := e.reloaded.Load(); r != nil {
		return *r
	}
	return e.Config.Runtimes
}

// runtime is the path of a runtime's binary, empty for the built-in one, and whether there is such a runtime.
func (e *Engine) runtime(name string) (binary string, known bool) {
	binary, known = e.runtimes().Paths[name]
	return binary, known || name == ""
}

// RuntimeOptions change how an OCI runtime is used.
type RuntimeOptions struct {
	Args []string // given to it before each verb
	// PodAnnotations are patterns, as path.Match has them, of the annotations of a pod that its containers' documents get
	// as well. Runtimes that are configured for a whole pod read them there.
	PodAnnotations []string
	// Patience is how long a binary may take for anything; 0: as long as the supervisor allows.
	Patience time.Duration
}

// RuntimeInfo is what a runtime can do here.
type RuntimeInfo struct {
	Name     string // empty: the default one
	Path     string // of the binary; that of the supervisor for the built-in one
	Features *features.Features
	// What Kubernetes wants to know: Features, and this kernel.
	RecursiveReadOnly bool
	UserNamespaces    bool
	IDMappedMounts    bool
	Error             string // why nothing is known
}

// featuresTimeout bounds how long a runtime may take to say what it can.
const featuresTimeout = 5 * time.Second

// saidFeatures is what binaries have answered, by path.
type saidFeatures struct {
	mu    sync.Mutex
	known map[string]*features.Features
}

// Runtimes says what the runtimes can do, the default one first. A binary is asked once; one that did not answer is
// asked again.
func (e *Engine) Runtimes(ctx context.Context) []RuntimeInfo {
	paths := e.runtimes().Paths
	all := []RuntimeInfo{{Path: cmp.Or(paths[""], e.Config.SupervisorPath)}}
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		if name != "" {
			all = append(all, RuntimeInfo{Name: name, Path: cmp.Or(paths[name], e.Config.SupervisorPath)})
		}
	}
	var asking sync.WaitGroup
	for i := range all {
		asking.Go(func() {
			said, err := e.said.of(ctx, all[i].Path)
			if err != nil {
				all[i].Error = err.Error()
				return
			}
			all[i].judge(said, &e.Host)
		})
	}
	asking.Wait()
	return all
}

// judge fills in what follows from a runtime's features on this kernel. Kubernetes counts user namespaces from Linux 6.3
// on, the first with idmapped mounts of tmpfs.
func (i *RuntimeInfo) judge(said *features.Features, h *spec.Host) {
	i.Features = said
	setattr := !h.KernelBefore(5, 12) // mount_setattr(2), and with it idmapped mounts
	i.RecursiveReadOnly = setattr && slices.Contains(said.MountOptions, "rro")
	l := said.Linux
	if l == nil {
		return
	}
	if m := l.MountExtensions; m != nil && m.IDMap != nil && m.IDMap.Enabled != nil {
		i.IDMappedMounts = setattr && *m.IDMap.Enabled
	}
	i.UserNamespaces = i.IDMappedMounts && !h.KernelBefore(6, 3) &&
		slices.Contains(l.Namespaces, "user") && !slices.Contains(h.MissingNamespaces, "user")
}

func (s *saidFeatures) of(ctx context.Context, binary string) (*features.Features, error) {
	s.mu.Lock()
	said := s.known[binary]
	s.mu.Unlock()
	if said != nil {
		return said, nil
	}
	said, err := askFeatures(ctx, binary)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[string]*features.Features{}
	}
	s.known[binary] = said
	return said, nil
}

// askFeatures runs "BINARY features": https://github.com/opencontainers/runtime-spec/blob/v1.3.0/features.md
func askFeatures(ctx context.Context, binary string) (*features.Features, error) {
	ctx, cancel := context.WithTimeout(ctx, featuresTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "features")
	cmd.WaitDelay = time.Second
	data, err := cmd.Output()
	if err != nil {
		var said []byte
		if exit, ok := err.(*exec.ExitError); ok {
			said, _, _ = bytes.Cut(bytes.TrimSpace(exit.Stderr), []byte("\n"))
		}
		return nil, fmt.Errorf("%s features: %w: %s", binary, err, said)
	}
	said := &features.Features{}
	if err := json.Unmarshal(data, said); err != nil {
		return nil, fmt.Errorf("%s features: the answer is not as the runtime specification has it: %w", binary, err)
	}
	return said, nil
}

// oldestVersion is what a document says for a runtime without the verb "features", which came with version 1.1 of the
// specification. Such runtimes refuse what is newer (crun 1.8: "unknown version specified").
const oldestVersion = "1.0.2"

// versionFor is the ociVersion of a document for a runtime that says what it can, or nothing: the document's own, or the
// newest that the runtime knows.
func versionFor(own string, said *features.Features) string {
	newest := oldestVersion
	if said != nil && semver.IsValid("v"+said.OCIVersionMax) {
		newest = said.OCIVersionMax
	}
	if semver.Compare("v"+own, "v"+newest) > 0 {
		return newest
	}
	return own
}

// withAnnotations is a container's request with the annotations of its pod that the runtime is to see.
func withAnnotations(r spec.Request, rec Pod, patterns []string) *spec.Request {
	r.Annotations = passed(r.Annotations, rec.Annotations, patterns)
	return &r
}

// passed are the annotations of a pod that its containers get as well; their own come first.
func passed(own, pod map[string]string, patterns []string) map[string]string {
	out := own
	for k, v := range pod {
		if _, has := own[k]; has || !slices.ContainsFunc(patterns, func(p string) bool { ok, err := path.Match(p, k); return ok && err == nil }) {
			continue
		}
		if len(out) == len(own) {
			out = maps.Clone(own)
			if out == nil {
				out = map[string]string{}
			}
		}
		out[k] = v
	}
	return out
}

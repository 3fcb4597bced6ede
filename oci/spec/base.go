package spec

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// maxBase bounds a base document, in bytes.
const maxBase = 4 << 20

// baseRule lays the document under the one that the other rules have made. Where both say something the container's own
// counts, with lists that are joined by what names their parts: mounts by their destination, devices by their path, limits
// by their type, variables of the environment by their key. Hooks of both are run, those of the base first. What a base
// says of the command, the namespaces and what confines the process does not count: the request says that, by its silence
// too.
func baseRule(b *builder) error {
	if b.in.Defaults.Base == "" {
		return nil
	}
	base, err := ReadBase(b.in.Defaults.Base)
	if err != nil {
		return err
	}
	b.spec, err = Over(base, b.spec)
	return err
}

// ReadBase reads a base document: one of the runtime spec, in JSON, that need not be whole. Errors: ErrNotFound,
// ErrInvalidArgument.
func ReadBase(path string) (*specs.Spec, error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil, fmt.Errorf("%s isn't on this host: %w", path, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxBase+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxBase {
		return nil, invalid("%s has more than %d bytes", path, maxBase)
	}
	base, err := Patch(&specs.Spec{}, data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return base, nil
}

// Over lays own over base.
func Over(base, own *specs.Spec) (*specs.Spec, error) {
	under, err := tree(layable(base))
	if err != nil {
		return nil, err
	}
	over, err := tree(own)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(lay(under, over, ""))
	if err != nil {
		return nil, err
	}
	out := &specs.Spec{}
	if err := json.Unmarshal(data, out); err != nil {
		return nil, invalid("the base does not go together with the container's own: %v", err)
	}
	// A mount never hides one that is made before it below its own target.
	slices.SortStableFunc(out.Mounts, func(x, y specs.Mount) int {
		return strings.Count(x.Destination, "/") - strings.Count(y.Destination, "/")
	})
	return out, nil
}

// layable is what of a base counts.
func layable(base *specs.Spec) *specs.Spec {
	s := *base
	s.Version, s.Root, s.Hostname, s.Domainname = "", nil, "", ""
	if p := base.Process; p != nil {
		s.Process = &specs.Process{
			Env: p.Env, Rlimits: p.Rlimits, OOMScoreAdj: p.OOMScoreAdj, Scheduler: p.Scheduler, IOPriority: p.IOPriority,
			ExecCPUAffinity: p.ExecCPUAffinity,
		}
	}
	if l := base.Linux; l != nil {
		kept := *l
		kept.Namespaces, kept.UIDMappings, kept.GIDMappings, kept.CgroupsPath = nil, nil, nil, ""
		kept.Seccomp, kept.MaskedPaths, kept.ReadonlyPaths, kept.MountLabel, kept.RootfsPropagation = nil, nil, nil, "", ""
		if l.Resources != nil {
			r := *l.Resources
			r.Devices = nil
			kept.Resources = &r
		}
		s.Linux = &kept
	}
	return &s
}

// tree is a document as JSON has it.
func tree(s *specs.Spec) (any, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	var v any
	return v, decodeExact(data, &v)
}

// lay puts a value over another one at a path of the document.
func lay(under, over any, path string) any {
	switch own := over.(type) {
	case nil:
		return under
	case map[string]any:
		base, ok := under.(map[string]any)
		if !ok {
			return own
		}
		for k, v := range own {
			base[k] = lay(base[k], v, path+"/"+k)
		}
		return base
	case []any:
		base, ok := under.([]any)
		if !ok || len(own) == 0 && len(base) == 0 {
			return own
		}
		return layList(base, own, path)
	}
	return over
}

// layList joins the lists whose parts have names; any other list is the container's own, unless that is empty.
func layList(base, own []any, path string) []any {
	var name func(any) string
	field := func(key string) func(any) string {
		return func(v any) string { m, _ := v.(map[string]any); s, _ := m[key].(string); return s }
	}
	switch path {
	case "/mounts":
		name = field("destination")
	case "/linux/devices":
		name = field("path")
	case "/process/rlimits":
		name = field("type")
	case "/process/env":
		name = func(v any) string { s, _ := v.(string); return keyOf(s) }
	case "/hooks/prestart", "/hooks/createRuntime", "/hooks/createContainer", "/hooks/startContainer", "/hooks/poststart", "/hooks/poststop":
		return append(base, own...)
	default:
		if len(own) == 0 {
			return base
		}
		return own
	}
	named := map[string]bool{}
	for _, v := range own {
		named[name(v)] = true
	}
	joined := append([]any{}, own...)
	for _, v := range base {
		if !named[name(v)] {
			joined = append(joined, v)
		}
	}
	return joined
}

// Package hooks reads the hooks that packages of the host install for containers, as files of oci-hooks(5) in version
// 1.0.0, and adds those that fit a container to its document. Hooks that a container's own request names are oci/spec's
// business.
package hooks

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Version is the version of the format.
const Version = "1.0.0"

// maxFile bounds a file; a longer one is refused.
const maxFile = 1 << 20

// stages is the order in which a runtime runs the hooks.
var stages = [...]string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}

// Hook is a file's content: a command, when it is meant for a container, and at which stages it runs.
type Hook struct {
	Hook   specs.Hook
	When   When
	Stages []string
}

// When holds for a container for which all the conditions hold that are set.
type When struct {
	Always        *bool
	Annotations   []Annotation
	Commands      []*regexp.Regexp // one of them matches the first argument
	HasBindMounts *bool
}

// Annotation holds when some annotation of the container matches both.
type Annotation struct{ Key, Value *regexp.Regexp }

// file is the format as it is written.
type file struct {
	Version string      `json:"version"`
	Hook    *specs.Hook `json:"hook"`
	When    struct {
		Always        *bool             `json:"always"`
		Annotations   map[string]string `json:"annotations"`
		Commands      []string          `json:"commands"`
		HasBindMounts *bool             `json:"hasBindMounts"`
	} `json:"when"`
	Stages []string `json:"stages"`
}

// Parse reads a file. Its errors are of class ErrInvalidArgument and say which field is wrong.
func Parse(data []byte) (Hook, error) {
	bad := func(format string, args ...any) (Hook, error) {
		return Hook{}, fmt.Errorf(format+": %w", append(args, errdefs.ErrInvalidArgument)...)
	}
	if len(data) > maxFile {
		return bad("it has more than %d bytes", maxFile)
	}
	var f file
	if err := json.Unmarshal(data, &f); err != nil {
		return bad("%s", err)
	}
	switch {
	case f.Version != Version:
		return bad("version: %q is not %s", f.Version, Version)
	case f.Hook == nil || !path.IsAbs(f.Hook.Path):
		return bad("hook.path: it must be an absolute path")
	case f.Hook.Timeout != nil && *f.Hook.Timeout <= 0:
		return bad("hook.timeout: %d s is not above 0", *f.Hook.Timeout)
	case len(f.Stages) == 0:
		return bad("stages: name one of %s", strings.Join(stages[:], ", "))
	}
	for _, s := range f.Stages {
		if !slices.Contains(stages[:], s) {
			return bad("stages: %q is not one of %s", s, strings.Join(stages[:], ", "))
		}
	}
	when, err := f.when()
	if err != nil {
		return Hook{}, err
	}
	return Hook{Hook: *f.Hook, When: when, Stages: slices.Compact(slices.Sorted(slices.Values(f.Stages)))}, nil
}

func (f file) when() (When, error) {
	w := When{Always: f.When.Always, HasBindMounts: f.When.HasBindMounts}
	compile := func(field, expression string) (*regexp.Regexp, error) {
		re, err := regexp.Compile(expression)
		if err != nil {
			return nil, fmt.Errorf("%s: %w: %w", field, err, errdefs.ErrInvalidArgument)
		}
		return re, nil
	}
	for key, value := range f.When.Annotations {
		k, err := compile("when.annotations", key)
		if err != nil {
			return w, err
		}
		v, err := compile("when.annotations", value)
		if err != nil {
			return w, err
		}
		w.Annotations = append(w.Annotations, Annotation{k, v})
	}
	for _, command := range f.When.Commands {
		re, err := compile("when.commands", command)
		if err != nil {
			return w, err
		}
		w.Commands = append(w.Commands, re)
	}
	if w.Always == nil && w.HasBindMounts == nil && len(w.Annotations)+len(w.Commands) == 0 {
		return w, fmt.Errorf("when: it has no condition: write \"always\": true for every container: %w", errdefs.ErrInvalidArgument)
	}
	return w, nil
}

// Match says whether all conditions hold for a container; binds is whether its client mounts something of the host.
func (w When) Match(s *specs.Spec, binds bool) bool {
	if w.Always != nil && !*w.Always || w.HasBindMounts != nil && !(*w.HasBindMounts && binds) {
		return false
	}
	for _, a := range w.Annotations {
		if !a.in(s.Annotations) {
			return false
		}
	}
	if len(w.Commands) == 0 {
		return true
	}
	if s.Process == nil || len(s.Process.Args) == 0 {
		return false
	}
	return slices.ContainsFunc(w.Commands, func(re *regexp.Regexp) bool { return re.MatchString(s.Process.Args[0]) })
}

func (a Annotation) in(annotations map[string]string) bool {
	for k, v := range annotations {
		if a.Key.MatchString(k) && a.Value.MatchString(v) {
			return true
		}
	}
	return false
}

// Add adds a hook to a document at its stages.
func (h Hook) Add(s *specs.Spec) {
	if s.Hooks == nil {
		s.Hooks = &specs.Hooks{}
	}
	for _, stage := range h.Stages {
		list := map[string]*[]specs.Hook{
			//lint:ignore SA1019 deprecated, and still what many hooks are written for
			"prestart": &s.Hooks.Prestart, "createRuntime": &s.Hooks.CreateRuntime, "createContainer": &s.Hooks.CreateContainer,
			"startContainer": &s.Hooks.StartContainer, "poststart": &s.Hooks.Poststart, "poststop": &s.Hooks.Poststop,
		}[stage]
		*list = append(slices.Clip(*list), h.Hook)
	}
}

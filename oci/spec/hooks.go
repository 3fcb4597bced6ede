package spec

import (
	"path"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// hooksRule copies the hooks. https://github.com/opencontainers/runtime-spec/blob/v1.3.0/config.md#posix-platform-hooks
func hooksRule(b *builder) error {
	if b.req.Hooks == nil {
		return nil
	}
	h := *b.req.Hooks
	for _, list := range []struct {
		name  string
		hooks []specs.Hook
	}{
		//lint:ignore SA1019 deprecated, and still what many hooks are written for
		{"prestart", h.Prestart},
		{"createRuntime", h.CreateRuntime},
		{"createContainer", h.CreateContainer},
		{"startContainer", h.StartContainer},
		{"poststart", h.Poststart},
		{"poststop", h.Poststop},
	} {
		for i, hook := range list.hooks {
			if !path.IsAbs(hook.Path) {
				return invalid("%s %d: the path %q must be absolute", list.name, i, hook.Path)
			}
			if hook.Timeout != nil && *hook.Timeout <= 0 {
				return invalid("%s %d (%s): the timeout is %d s; it must be above 0", list.name, i, hook.Path, *hook.Timeout)
			}
		}
	}
	b.spec.Hooks = &h
	return nil
}

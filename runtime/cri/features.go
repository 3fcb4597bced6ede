package cri

import (
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/engine"
)

// handlers lists the runtime handlers, the default one first. One of which nothing is known can do nothing special.
func handlers(runtimes []engine.RuntimeInfo) []*v1.RuntimeHandler {
	out := make([]*v1.RuntimeHandler, 0, len(runtimes))
	for _, r := range runtimes {
		out = append(out, &v1.RuntimeHandler{Name: r.Name, Features: &v1.RuntimeHandlerFeatures{
			RecursiveReadOnlyMounts: r.RecursiveReadOnly, UserNamespaces: r.UserNamespaces,
		}})
	}
	return out
}

// problems says of which runtimes nothing is known, and why.
func problems(runtimes []engine.RuntimeInfo) map[string]string {
	out := map[string]string{}
	for _, r := range runtimes {
		if r.Error != "" {
			out[r.Name] = r.Error
		}
	}
	return out
}

package engine

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

// inPodScheme begins the name of a container by its pod: k8s://NAMESPACE/POD/CONTAINER. No container that clients name
// has such a name.
const inPodScheme = "k8s://"

// findInPod finds a container by its pod. Of several, as after restarts, it is the newest one.
func (e *Engine) findInPod(ns, name string) (*live, error) {
	parts := strings.Split(strings.TrimPrefix(name, inPodScheme), "/")
	if len(parts) != 3 {
		return nil, fmt.Errorf("container %s: write %sNAMESPACE/POD/CONTAINER: %w", name, inPodScheme, errdefs.ErrInvalidArgument)
	}
	var newest *live
	var made Container
	for _, p := range e.livePods(ns) {
		pod := p.record()
		if pod.PodNamespace != parts[0] || pod.Name != parts[1] {
			continue
		}
		for _, l := range e.inPod(key{ns, pod.ID}) {
			c := l.record()
			called := c.InPod
			if c.Role != "" {
				called = c.Role
			}
			if called == parts[2] && (newest == nil || c.CreatedAt.After(made.CreatedAt)) {
				newest, made = l, c
			}
		}
	}
	if newest == nil {
		return nil, fmt.Errorf("container %s: not in namespace %s: %w", name, ns, errdefs.ErrNotFound)
	}
	return newest, nil
}

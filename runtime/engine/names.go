package engine

import (
	"context"
	"fmt"
	"regexp"
	"sort"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/id"
)

// validName is what people may call a container.
var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// generatedNames is how many names are tried before a number is added.
const generatedNames = 20

func checkName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("name %q: use letters, digits, _ . - and begin with a letter or digit, at most 128: %w", name, errdefs.ErrInvalidArgument)
	}
	return nil
}

// find returns the container with this id or name, or the only one whose id begins with it.
func (e *Engine) find(ns, id string) (*live, error) {
	if id == "" {
		return nil, fmt.Errorf("container id is empty: name one: %w", errdefs.ErrInvalidArgument)
	}
	if strings.HasPrefix(id, inPodScheme) {
		return e.findInPod(ns, id)
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	if l := e.containers[key{ns, id}]; l != nil {
		return l, nil
	}
	if l := e.names[key{ns, id}]; l != nil && e.containers[l.key] == l {
		return l, nil
	}
	var found []*live
	for k, l := range e.containers {
		if k.ns == ns && strings.HasPrefix(k.id, id) {
			found = append(found, l)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, fmt.Errorf("container %s: not in namespace %s: %w", id, ns, errdefs.ErrNotFound)
	}
	ids := make([]string, 0, len(found))
	for _, l := range found {
		ids = append(ids, l.key.id)
	}
	sort.Strings(ids)
	return nil, fmt.Errorf("container %s is ambiguous: it begins %s: give more of it: %w",
		id, strings.Join(ids, ", "), errdefs.ErrInvalidArgument)
}

// takeName gives a container that nobody knows yet the name in its record, or makes one.
func (e *Engine) takeName(l *live, generate bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	name := l.rec.Name
	if name == "" && generate {
		name = e.generateName(l.key.ns)
	}
	if name == "" {
		return nil
	}
	if err := e.isFree(l, name); err != nil {
		return err
	}
	l.rec.Name = name
	e.names[key{l.key.ns, name}] = l
	return nil
}

// generateName is a name that nobody has. The lock of the table is held.
func (e *Engine) generateName(ns string) string {
	name := id.Name()
	for try := 0; e.names[key{ns, name}] != nil; try++ {
		name = id.Name()
		if try >= generatedNames {
			name = fmt.Sprintf("%s%d", name, try)
		}
	}
	return name
}

// isFree refuses a name that another container has, or that is another's id. The lock of the table is held.
func (e *Engine) isFree(l *live, name string) error {
	other := e.names[key{l.key.ns, name}]
	if other == nil {
		other = e.containers[key{l.key.ns, name}]
	}
	if other == nil || other == l {
		return nil
	}
	return fmt.Errorf("name %s is taken by container %s: remove it or choose another: %w", name, id.Short(other.key.id), errdefs.ErrAlreadyExists)
}

// freeName lets others have a name, if it is the container's.
func (e *Engine) freeName(l *live, name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if k := (key{l.key.ns, name}); e.names[k] == l {
		delete(e.names, k)
	}
}

// Rename gives a container another name, in whatever state it is.
func (e *Engine) Rename(ctx context.Context, ns, id, name string) (Container, error) {
	if err := checkName(name); err != nil {
		return Container{}, fmt.Errorf("rename container %s: %w", id, err)
	}
	l, unlock, err := e.locked(ctx, ns, id)
	if err != nil {
		return Container{}, err
	}
	defer unlock()
	old := l.record().Name
	if old == name {
		return l.seen(), nil
	}
	e.mu.Lock()
	err = e.isFree(l, name)
	if err == nil {
		e.names[key{ns, name}] = l
	}
	e.mu.Unlock()
	if err == nil {
		if err = e.save(l, func(c *Container) { c.Name = name }); err != nil {
			e.freeName(l, name)
		}
	}
	if err != nil {
		return Container{}, fmt.Errorf("rename container %s: %w", id, err)
	}
	l.show(l.record())
	e.freeName(l, old)
	e.nameEndpoints(ctx, l)
	e.publish(l, "rename", map[string]string{"oldName": old})
	return l.seen(), nil
}

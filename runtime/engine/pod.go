package engine

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/runtime/events"
	"github.com/minirt/mini/runtime/pin"
	"github.com/minirt/mini/runtime/plugin"
)

// livePod is a pod in memory: its record as saved.
type livePod struct {
	key key

	mu     sync.Mutex
	rec    Pod
	ending bool   // no container is made in it or started any more
	gone   bool   // removed: the record is deleted
	left   error  // why the last removal has not succeeded
	doing  string // the stage of the operation under way, for messages
}

func (p *livePod) record() Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rec
}

func (p *livePod) at(stage string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doing = stage
}

func (p *livePod) stage() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.doing
}

func (p *livePod) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ending = true
}

func (p *livePod) isGone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone
}

func (p *livePod) isEnding() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ending
}

// requireReady refuses what only a ready pod can have done.
func (e *Engine) requireReady(p *livePod, what string) error {
	state := string(e.seen(p).State)
	switch {
	case state != string(PodReady):
	case p.isEnding():
		state = "being stopped"
	default:
		return nil
	}
	return fmt.Errorf("pod %s is %s: cannot %s: run another pod: %w", p.key.id, state, what, errdefs.ErrFailedPrecondition)
}

// savePod changes a record in the store, then in memory; it is the one writer of pods' records. No pod outlives a power cut,
// which may undo the last changes: the record that is left is of a pod without namespaces, and is settled as such.
func (e *Engine) savePod(p *livePod, change func(*Pod)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return fmt.Errorf("pod %s: removed: %w", p.key.id, errdefs.ErrNotFound)
	}
	next := p.rec
	change(&next)
	if err := e.Pods.PutSoon(p.key.ns, p.key.id, next); err != nil {
		return fmt.Errorf("save the record of pod %s: %w", p.key.id, err)
	}
	p.rec = next
	return nil
}

// findPod returns the pod with this id, or the only one whose id begins with it.
func (e *Engine) findPod(ns, id string) (*livePod, error) {
	if id == "" {
		return nil, fmt.Errorf("pod id is empty: name one: %w", errdefs.ErrInvalidArgument)
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	if p := e.pods[key{ns, id}]; p != nil {
		return p, nil
	}
	var found *livePod
	for k, p := range e.pods {
		if k.ns != ns || !strings.HasPrefix(k.id, id) {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("pod %s is ambiguous: give more of its id: %w", id, errdefs.ErrInvalidArgument)
		}
		found = p
	}
	if found == nil {
		return nil, fmt.Errorf("pod %s: not in namespace %s: %w", id, ns, errdefs.ErrNotFound)
	}
	return found, nil
}

// lockedPod finds a pod and takes its lock for an operation of several steps.
func (e *Engine) lockedPod(ctx context.Context, p *livePod) (func(), error) {
	unlock, err := e.locks.Lock(ctx, podLock(p.key))
	if err != nil {
		return nil, fmt.Errorf("pod %s is busy (at: %s): %w", p.key.id, p.stage(), err)
	}
	if p.isGone() {
		unlock()
		return nil, fmt.Errorf("pod %s: removed meanwhile: %w", p.key.id, errdefs.ErrNotFound)
	}
	return unlock, nil
}

func podLock(k key) string { return "pod/" + k.String() }

// seen is the record as clients see it: a pod whose shared PID namespace has lost its first process is not ready.
func (e *Engine) seen(p *livePod) Pod {
	rec := p.record()
	if left := p.why(); left != nil {
		rec.Left = left.Error()
	}
	if rec.State == PodReady && rec.PID == ModePod {
		if l := e.exactly(rec.Namespace, rec.ID); l == nil || l.state() != Running && l.state() != Paused {
			rec.State = PodStopped
		}
	}
	return rec
}

// Pod returns a pod by its id or an unambiguous prefix of it.
func (e *Engine) Pod(_ context.Context, ns, id string) (Pod, error) {
	p, err := e.findPod(ns, id)
	if err != nil {
		return Pod{}, err
	}
	return e.seen(p), nil
}

// ListPods returns the pods of a namespace, or of all when ns is empty, the oldest first.
func (e *Engine) ListPods(_ context.Context, ns string) ([]Pod, error) {
	lives := e.livePods(ns)
	list := make([]Pod, 0, len(lives))
	for _, p := range lives {
		list = append(list, e.seen(p))
	}
	slices.SortFunc(list, func(a, b Pod) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}

func (e *Engine) livePods(ns string) []*livePod {
	e.mu.RLock()
	defer e.mu.RUnlock()
	lives := make([]*livePod, 0, len(e.pods))
	for k, p := range e.pods {
		if ns == "" || k.ns == ns {
			lives = append(lives, p)
		}
	}
	return lives
}

// podByKey finds the pod that a client has named so, unless it is being removed: another may be made meanwhile.
func (e *Engine) podByKey(ns, name string) *livePod {
	if name == "" {
		return nil
	}
	e.mu.RLock()
	p := e.podKeys[key{ns, name}]
	e.mu.RUnlock()
	if p == nil || p.record().State == PodRemoving {
		return nil
	}
	return p
}

// inPod are the containers of a pod, the holder of its PID namespace among them.
func (e *Engine) inPod(k key) []*live {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var found []*live
	for ck, l := range e.containers {
		if ck.ns == k.ns && l.pod == k.id {
			found = append(found, l)
		}
	}
	return found
}

// UpdatePod notes the resources that a pod's client accounts for it. The limits themselves are set where the client
// makes the pod's cgroup.
func (e *Engine) UpdatePod(ctx context.Context, ns, id string, resources, overhead *specs.LinuxResources) error {
	p, err := e.findPod(ns, id)
	if err != nil {
		return err
	}
	unlock, err := e.lockedPod(ctx, p)
	if err != nil {
		return err
	}
	defer unlock()
	if err := e.requireReady(p, "update it"); err != nil {
		return err
	}
	if e.Plugins != nil {
		if err := e.Plugins.UpdatePod(ctx, e.pluginPod(p.record()), overhead, resources); err != nil {
			return fmt.Errorf("update pod %s: a plugin refuses it: %w", p.key.id, err)
		}
	}
	err = e.savePod(p, func(rec *Pod) {
		if resources != nil {
			rec.Resources = resources
		}
		if overhead != nil {
			rec.Overhead = overhead
		}
	})
	if err == nil {
		e.publishPod(p, "update")
		e.tellPod(ctx, plugin.PodUpdated, p.record())
	}
	return err
}

// PodNamespace is the file of a namespace that is pinned for a pod; kind is one of runtime/pin.
func (e *Engine) PodNamespace(_ context.Context, ns, id, kind string) (string, error) {
	p, err := e.findPod(ns, id)
	if err != nil {
		return "", err
	}
	if err := e.requireReady(p, "join its "+kind+" namespace"); err != nil {
		return "", err
	}
	rec := p.record()
	if kind == pin.Network && rec.Network == ModeNode {
		return "/proc/self/ns/net", nil
	}
	dir := e.pinDir(rec)
	if !pin.Pinned(dir, kind) {
		return "", fmt.Errorf("pod %s shares no %s namespace among its containers: %w", rec.ID, kind, errdefs.ErrFailedPrecondition)
	}
	return pin.Path(dir, kind), nil
}

// podDir is the directory of a pod's pinned namespaces, files and shared memory. A reboot empties it.
func (e *Engine) podDir(p Pod) string { return filepath.Join(e.State, "pods", p.Namespace, p.ID) }

func (e *Engine) pinDir(p Pod) string { return pinDir(e.podDir(p)) }

func pinDir(podDir string) string { return filepath.Join(podDir, "ns") }

func (e *Engine) publishPod(p *livePod, action string) {
	rec := p.record()
	e.Events.Publish(events.Event{
		Time: time.Now(), Namespace: p.key.ns, Type: "pod", Action: action, ID: p.key.id,
		Attributes: map[string]string{"name": rec.Name, "namespace": rec.PodNamespace},
	})
}

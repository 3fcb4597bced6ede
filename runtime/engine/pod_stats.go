package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/cgroup"
	"github.com/minirt/mini/runtime/network"
	"github.com/minirt/mini/runtime/pin"
	"github.com/minirt/mini/runtime/stats"
)

// networkReaders is how many pods' network namespaces are read at once.
const networkReaders = 8

// PodStats reads the use of resources of pods and of their running containers, of all in the namespace when no ids are
// given, the oldest pod first. All cgroups are read in one go, and each file once: what is a pod's is not read of its
// containers too. The process that holds a pod's PID namespace counts for the pod and is not among its containers. A pod
// that is not ready has no figures. parts says what is read beside processors, memory, pressure and network.
func (e *Engine) PodStats(ctx context.Context, ns string, ids []string, parts stats.Parts) ([]PodStats, error) {
	pods, err := e.podsOf(ns, ids)
	if err != nil {
		return nil, err
	}
	e.addRunning(pods)
	var sources []stats.Source
	for _, r := range pods {
		r.first = len(sources)
		sources = append(sources, r.sources(parts)...)
	}
	var reading sync.WaitGroup
	reading.Go(func() { e.readNetworks(ctx, pods) })
	results := stats.ReadAll(sources)
	reading.Wait()
	out := make([]PodStats, 0, len(pods))
	for _, r := range pods {
		s, err := r.total(results[r.first:])
		switch {
		case err == nil:
		case len(ids) > 0:
			return nil, fmt.Errorf("read the use of resources of pod %s: %w", r.pod.ID, err)
		default:
			e.Log.Debug("read the use of resources of a pod", "id", r.pod.ID, "error", err)
		}
		out = append(out, s)
	}
	return out, nil
}

// podReading is a pod that is read.
type podReading struct {
	pod     Pod
	path    string // of its network namespace; empty: not read
	running []Container
	first   int // of its sources

	networks   []stats.Interface
	networkErr error
}

// podsOf are the pods that are asked for.
func (e *Engine) podsOf(ns string, ids []string) ([]*podReading, error) {
	var lives []*livePod
	for _, id := range ids {
		p, err := e.findPod(ns, id)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(lives, p) {
			lives = append(lives, p)
		}
	}
	if len(ids) == 0 {
		lives = e.livePods(ns)
	}
	pods := make([]*podReading, 0, len(lives))
	for _, p := range lives {
		r := &podReading{pod: e.seen(p)}
		if r.pod.State == PodReady && r.pod.Network == ModePod {
			r.path = pin.Path(e.pinDir(r.pod), pin.Network)
		}
		pods = append(pods, r)
	}
	slices.SortStableFunc(pods, func(a, b *podReading) int {
		return cmp.Or(a.pod.CreatedAt.Compare(b.pod.CreatedAt), cmp.Compare(a.pod.ID, b.pod.ID))
	})
	return pods, nil
}

// addRunning gives each ready pod its running containers, in one pass over all there are.
func (e *Engine) addRunning(pods []*podReading) {
	by := make(map[key]*podReading, len(pods))
	for _, r := range pods {
		if r.pod.State == PodReady {
			by[key{r.pod.Namespace, r.pod.ID}] = r
		}
	}
	var found []*live
	e.mu.RLock()
	for k, l := range e.containers {
		if by[key{k.ns, l.pod}] != nil {
			found = append(found, l)
		}
	}
	e.mu.RUnlock()
	for _, l := range found {
		if c := l.record(); c.PID != 0 {
			r := by[key{c.Namespace, c.Pod}]
			r.running = append(r.running, c)
		}
	}
}

// sources are the cgroups to read: the pod's where it has one, and those of its containers. Without a PID the network is
// left out of them: it is the pod's.
func (r *podReading) sources(parts stats.Parts) []stats.Source {
	own := ownGroup(r.pod, r.running)
	if own != nil {
		r.running = slices.DeleteFunc(r.running, func(c Container) bool { return c.Role == RolePause })
	}
	list := []stats.Source{{CgroupPaths: own, Parts: parts}}
	for _, c := range r.running {
		list = append(list, stats.Source{CgroupPaths: groupsOf(c), Parts: parts})
	}
	return list
}

// groupsOf are the directories of a container's cgroups; an adopted one's are asked of the kernel.
func groupsOf(c Container) map[string]string {
	if len(c.CgroupPaths) > 0 {
		return c.CgroupPaths
	}
	paths, err := cgroup.Paths(c.PID)
	if err != nil {
		return nil // it has just ended
	}
	return paths
}

// ownGroup are the directories of the cgroup that a pod's client has made for it, which are above those of a container
// that did not ask for another place; nil when there is none.
func ownGroup(p Pod, running []Container) map[string]string {
	if p.Cgroup == "" {
		return nil
	}
	for _, c := range running {
		if c.Request == nil || c.Request.CgroupParent != "" && c.Request.CgroupParent != p.Cgroup {
			continue
		}
		own := map[string]string{}
		for controller, dir := range groupsOf(c) {
			own[controller] = filepath.Dir(dir)
		}
		if len(own) > 0 {
			return own
		}
	}
	return nil
}

// total puts together what was read: the pod's own cgroup first, then those of its containers. What has ended meanwhile
// is left out.
func (r *podReading) total(results []stats.Result) (PodStats, error) {
	s := PodStats{Pod: r.pod, Containers: make(map[string]stats.Stats, len(r.running))}
	var all []stats.Stats
	errs := []error{r.networkErr}
	for i, c := range r.running {
		read := results[1+i]
		switch {
		case errdefs.IsNotFound(read.Err):
			continue
		case read.Err != nil:
			errs = append(errs, fmt.Errorf("container %s: %w", c.ID, read.Err))
			continue
		}
		all = append(all, read.Stats)
		if c.Role != RolePause {
			s.Containers[c.ID] = read.Stats
		}
	}
	if own := results[0]; own.Err == nil {
		s.Stats = own.Stats
	} else {
		s.Stats = sumStats(all)
	}
	if s.Stats.Time.IsZero() {
		s.Stats.Time = time.Now()
	}
	s.Stats.Networks = r.networks
	return s, errors.Join(errs...)
}

// readNetworks reads the interfaces of the pods that have a network of their own, several pods at once.
func (e *Engine) readNetworks(ctx context.Context, pods []*podReading) {
	slots := make(chan struct{}, networkReaders)
	var all sync.WaitGroup
	for _, r := range pods {
		if r.path == "" {
			continue
		}
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			counters, err := e.Network.Stats(ctx, r.path)
			if err == nil {
				r.networks = interfaces(counters)
			} else if pin.Pinned(filepath.Dir(r.path), pin.Network) { // otherwise it was stopped meanwhile
				r.networkErr = fmt.Errorf("its network: %w", err)
			}
		})
	}
	all.Wait()
}

// interfaces are the counters of a pod's interfaces but the loopback's, which are not traffic.
func interfaces(counters []network.InterfaceStats) []stats.Interface {
	var list []stats.Interface
	for _, c := range counters {
		if c.Name == "lo" {
			continue
		}
		list = append(list, stats.Interface{
			Name: c.Name, RxBytes: c.RxBytes, RxPackets: c.RxPackets, RxErrors: c.RxErrors, RxDropped: c.RxDropped,
			TxBytes: c.TxBytes, TxPackets: c.TxPackets, TxErrors: c.TxErrors, TxDropped: c.TxDropped,
		})
	}
	return list
}

package cri

import (
	"context"
	"slices"
	"sync"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/cri/policy"
	"github.com/minirt/mini/runtime/engine"
)

// userIDs are ids of the host that pods on their way have been given, which no record has yet.
type userIDs struct {
	mu    sync.Mutex
	given map[uint32]uint32 // first id → how many
}

// podOptions is what the client asks for, with what the owner of the node says of it. done must be called when the pod is
// recorded, or is not to be.
func (s *runtimeServer) podOptions(ctx context.Context, config *v1.PodSandboxConfig, handler string) (o engine.PodOptions, done func(), err error) {
	settings := s.Policy()
	o, err = podOptions(config, handler, &s.Host)
	if err != nil {
		return o, nil, err
	}
	o.PrivilegedPorts, o.PrivilegedICMP = !settings.UnprivilegedPorts, !settings.UnprivilegedICMP
	if o.Overhead, err = settings.Resources(handler, o.Overhead, &s.Host); err != nil {
		return o, nil, err
	}
	var first []uint32
	done = func() { s.ids.giveBack(first) }
	free := func(in policy.IDRange, size uint32) (uint32, error) {
		pods, err := s.Engine.ListPods(ctx, "")
		if err != nil {
			return 0, err
		}
		at, err := s.ids.take(pods, in, size)
		if err == nil {
			first = append(first, at)
		}
		return at, err
	}
	if err := settings.Pod(&o, config, free); err != nil {
		done()
		return o, nil, err
	}
	return o, done, nil
}

// take finds ids in a row that neither a pod nor one on its way has.
func (u *userIDs) take(pods []engine.Pod, in policy.IDRange, size uint32) (uint32, error) {
	type span struct{ first, end uint64 }
	u.mu.Lock()
	defer u.mu.Unlock()
	var taken []span
	for first, n := range u.given {
		taken = append(taken, span{uint64(first), uint64(first) + uint64(n)})
	}
	for _, p := range pods {
		for _, m := range slices.Concat(p.UIDMap, p.GIDMap) {
			taken = append(taken, span{uint64(m.HostID), uint64(m.HostID) + uint64(m.Size)})
		}
	}
	slices.SortFunc(taken, func(a, b span) int { return int(int64(a.first) - int64(b.first)) })
	at := uint64(in.First)
	for _, t := range taken {
		if t.end > at && t.first < at+uint64(size) {
			at = t.end
		}
	}
	if at+uint64(size) > uint64(in.First)+uint64(in.Size) {
		return 0, unable("no %d ids in a row are free of the %d from %d on (cri.userns_range): remove pods, or widen it", size, in.Size, in.First)
	}
	if u.given == nil {
		u.given = map[uint32]uint32{}
	}
	u.given[uint32(at)] = size
	return uint32(at), nil
}

func (u *userIDs) giveBack(first []uint32) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, at := range first {
		delete(u.given, at)
	}
}

package cri

import (
	"context"
	"sync"
	"time"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/snapshot"
)

const (
	spaceAge     = 10 * time.Second // a count older than this is made again when it is asked for
	spaceTimeout = 5 * time.Minute
)

// ImageFsInfo tells what images and containers take. Both are on one filesystem.
func (s *imageServer) ImageFsInfo(ctx context.Context, _ *v1.ImageFsInfoRequest) (*v1.ImageFsInfoResponse, error) {
	c, err := s.space.get(ctx)
	if err != nil {
		return nil, err
	}
	usage := func(u snapshot.Usage) []*v1.FilesystemUsage {
		return []*v1.FilesystemUsage{{
			Timestamp: c.at.UnixNano(), FsId: &v1.FilesystemIdentifier{Mountpoint: s.Disk.Mountpoint()},
			UsedBytes: number(uint64(u.Size)), InodesUsed: number(uint64(u.Inodes)),
		}}
	}
	return &v1.ImageFsInfoResponse{ImageFilesystems: usage(c.images), ContainerFilesystems: usage(c.containers)}, nil
}

// space remembers what is taken, since counting walks directories: the first to ask waits for a count, later ones get
// the last and have a new one made in the background.
type space struct {
	Deps
	mu       sync.Mutex
	last     *counted
	old      bool          // something big has changed since
	counting chan struct{} // closed when the count under way is done; nil: none is
	err      error         // of the last count
}

type counted struct {
	at                 time.Time
	images, containers snapshot.Usage
}

func newSpace(d Deps) *space { return &space{Deps: d} }

func (s *space) get(ctx context.Context) (counted, error) {
	s.mu.Lock()
	if (s.last == nil || s.old || time.Since(s.last.at) > spaceAge) && s.counting == nil {
		s.old = false
		s.counting = make(chan struct{})
		go s.count(s.counting)
	}
	last, counting := s.last, s.counting
	s.mu.Unlock()
	if last != nil {
		return *last, nil
	}
	select {
	case <-counting:
	case <-ctx.Done():
		return counted{}, context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		return counted{}, s.err
	}
	return *s.last, nil
}

func (s *space) count(done chan struct{}) {
	ctx, cancel := context.WithTimeout(s.Serving, spaceTimeout)
	defer cancel()
	c := counted{at: time.Now()}
	images, err := s.Disk.Images(ctx)
	c.images = images
	if err == nil {
		c.containers, err = s.countContainers(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err = err; err == nil {
		s.last = &c
	}
	s.counting = nil
	close(done)
}

func (s *space) countContainers(ctx context.Context) (snapshot.Usage, error) {
	var sum snapshot.Usage
	all, err := s.Engine.List(ctx, Namespace)
	if err != nil {
		return sum, err
	}
	for _, c := range all {
		if c.Snapshot == "" { // the holder of a PID namespace has nothing of its own
			continue
		}
		u, err := s.Disk.Layer(ctx, c)
		if unlessGone(err) != nil {
			return sum, err
		}
		sum.Size += u.Size
		sum.Inodes += u.Inodes
	}
	return sum, nil
}

// stale has the next one who asks begin a new count.
func (s *space) stale() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.old = true
}

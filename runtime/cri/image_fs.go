package cri

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	spaceAge     = 10 * time.Second // a count older than this is made again when it is asked for
	spaceTimeout = 5 * time.Minute
)

// ImageFsInfo tells what images and containers take, by filesystem: snapshotters may have their own.
func (s *imageServer) ImageFsInfo(ctx context.Context, _ *v1.ImageFsInfoRequest) (*v1.ImageFsInfoResponse, error) {
	c, err := s.space.get(ctx)
	if err != nil {
		return nil, err
	}
	return &v1.ImageFsInfoResponse{ImageFilesystems: filesystems(c.images, c.at), ContainerFilesystems: filesystems(c.containers, c.at)}, nil
}

func filesystems(spaces []Space, at time.Time) []*v1.FilesystemUsage {
	out := make([]*v1.FilesystemUsage, len(spaces))
	for i, s := range spaces {
		out[i] = &v1.FilesystemUsage{
			Timestamp: at.UnixNano(), FsId: &v1.FilesystemIdentifier{Mountpoint: s.Mountpoint},
			UsedBytes: number(uint64(s.Size)), InodesUsed: number(uint64(s.Inodes)),
		}
	}
	return out
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
	images, containers []Space
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
		c.containers, err = s.countContainers(ctx, images)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err = err; err == nil {
		s.last = &c
	}
	s.counting = nil
	close(done)
}

// countContainers counts what containers have written, on the filesystems that images are on.
func (s *space) countContainers(ctx context.Context, images []Space) ([]Space, error) {
	spaces := make([]Space, len(images))
	for i, s := range images {
		spaces[i].Mountpoint = s.Mountpoint
	}
	all, err := s.Engine.List(ctx, Namespace)
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		if c.Snapshot == "" { // the holder of a PID namespace has nothing of its own
			continue
		}
		u, err := s.Disk.Layer(ctx, c)
		if errdefs.IsUnavailable(err) {
			continue // its snapshotter does not answer
		}
		if unlessGone(err) != nil {
			return nil, err
		}
		i := slices.IndexFunc(spaces, func(space Space) bool { return space.Mountpoint == s.Disk.Mountpoint(c) })
		i = max(i, 0)
		spaces[i].Size += u.Size
		spaces[i].Inodes += u.Inodes
	}
	return spaces, nil
}

// stale has the next one who asks begin a new count.
func (s *space) stale() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.old = true
}

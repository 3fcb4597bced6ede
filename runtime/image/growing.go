package image

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
)

// errRestarted is what a reader of a growing blob gets when the bytes it has read turned out wrong and are fetched again.
var errRestarted = errors.New("the blob is being fetched again")

// growing is a blob that is being written to a file, for those who unpack it meanwhile. The file has the same inode
// before and after it becomes content, so its descriptor outlives the rename.
type growing struct {
	mu      sync.Mutex
	file    *os.File
	size    int64 // readable so far
	round   int   // how often it was begun anew
	ended   bool
	err     error
	changed chan struct{} // closed at every change
}

func newGrowing() *growing { return &growing{changed: make(chan struct{})} }

func (g *growing) change(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
	close(g.changed)
	g.changed = make(chan struct{})
}

// open begins with a file that has size bytes already. The file of an earlier round is closed.
func (g *growing) open(path string, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	g.change(func() {
		if g.file != nil {
			_ = g.file.Close()
			g.round++
		}
		g.file, g.size = f, size
	})
	return nil
}

func (g *growing) grew(size int64) { g.change(func() { g.size = size }) }

// end says that the blob is whole, or why it will not be.
func (g *growing) end(err error) { g.change(func() { g.ended, g.err = true, err }) }

func (g *growing) close() {
	g.change(func() {
		if g.file != nil {
			_ = g.file.Close()
			g.file = nil
		}
	})
}

// rounds tells how often the blob was begun anew.
func (g *growing) rounds() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.round
}

// started waits until there is something to read, or there never will be.
func (g *growing) started(ctx context.Context) error {
	for {
		g.mu.Lock()
		ok, changed, err := g.ended || g.file != nil, g.changed, g.err
		g.mu.Unlock()
		if ok {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// reader reads from the start and waits at the end until there is more.
func (g *growing) reader(ctx context.Context) io.Reader {
	return &growingReader{g: g, ctx: ctx, round: g.rounds()}
}

type growingReader struct {
	g      *growing
	ctx    context.Context
	offset int64
	round  int
}

func (r *growingReader) Read(p []byte) (int, error) {
	for {
		r.g.mu.Lock()
		if r.round != r.g.round {
			r.g.mu.Unlock()
			return 0, errRestarted
		}
		if have := r.g.size - r.offset; have > 0 && r.g.file != nil {
			n, err := r.g.file.ReadAt(p[:min(int64(len(p)), have)], r.offset)
			r.g.mu.Unlock()
			r.offset += int64(n)
			if n > 0 {
				err = nil
			}
			return n, err
		}
		ended, err, changed := r.g.ended, r.g.err, r.g.changed
		r.g.mu.Unlock()
		if ended && err == nil {
			return 0, io.EOF
		}
		if ended {
			return 0, err
		}
		select {
		case <-changed:
		case <-r.ctx.Done():
			return 0, context.Cause(r.ctx)
		}
	}
}

package image

import "sync"

// pins protects what is being worked on from the garbage collection of this same process: leases do that across a
// restart, pins without touching the disk. A thing that is unpinned while a collection runs stays protected until it
// ends, because the collection may have read the records before the one that now refers to it was written.
type pins struct {
	mu      sync.Mutex
	changed sync.Cond
	held    map[string]int
	running int             // collections
	kept    map[string]bool // unpinned while one runs
	doomed  map[string]bool // being deleted right now
}

func newPins() *pins {
	p := &pins{held: map[string]int{}, kept: map[string]bool{}, doomed: map[string]bool{}}
	p.changed.L = &p.mu
	return p
}

func contentPin(digest string) string          { return "content/" + digest }
func snapshotPin(snapshotter, n string) string { return "snapshot/" + snapshotter + "/" + n }

// hold protects things from now on. It waits while one of them is being deleted: afterwards it is plainly not there.
func (p *pins) hold(keys ...string) (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range keys {
		for p.doomed[k] {
			p.changed.Wait()
		}
		p.held[k]++
	}
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, k := range keys {
			if p.held[k]--; p.held[k] == 0 {
				delete(p.held, k)
			}
			if p.running > 0 {
				p.kept[k] = true
			}
		}
	})
}

// collect begins a collection; end finishes it.
func (p *pins) collect() (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running++
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.running--; p.running == 0 {
			clear(p.kept)
		}
	})
}

// protected tells whether a collection must leave a thing.
func (p *pins) protected(key string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held[key] > 0 || p.kept[key]
}

// sweep deletes a thing unless it is protected; nobody can pin it meanwhile.
func (p *pins) sweep(key string, remove func() error) (done bool, err error) {
	p.mu.Lock()
	if p.held[key] > 0 || p.kept[key] || p.doomed[key] {
		p.mu.Unlock()
		return false, nil
	}
	p.doomed[key] = true
	p.mu.Unlock()
	err = remove()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.doomed, key)
	p.changed.Broadcast()
	return err == nil, err
}

// Package snapshottest is what every snapshotter must do: the contract of snapshot.Snapshotter as tests. An
// implementation's own tests call Run.
package snapshottest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/snapshot"
	"github.com/minirt/mini/runtime/store"
)

// Open makes or opens a snapshotter on a directory and its records, as after a restart.
type Open func(t *testing.T, root string, records snapshot.Records) snapshot.Snapshotter

// Suite is a snapshotter under test.
type Suite struct {
	Open Open
	// Root makes the directory of one test; nil: a temporary one.
	Root func(t *testing.T) string
	// Held names what is there of snapshots; nil: the directories in root/snapshots.
	Held func(t *testing.T, root string) []string
	// Filesystems: each snapshot is a file with a filesystem, which takes up to so many bytes besides its files.
	Filesystems int64
}

// Run runs the contract on a snapshotter of directories. The tests mount, and need root.
func Run(t *testing.T, open Open) {
	t.Helper()
	Suite{Open: open}.Run(t)
}

// Run runs the contract.
func (s Suite) Run(t *testing.T) {
	t.Helper()
	for _, test := range []struct {
		name string
		run  func(*testing.T, *bench)
	}{
		{"layers", testLayers},
		{"changes stay in their snapshot", testIsolation},
		{"names and kinds", testErrors},
		{"parents stay", testChildren},
		{"views", testViews},
		{"labels", testLabels},
		{"usage", testUsage},
		{"adopt", testAdopt},
		{"restart", testRestart},
		{"crash", testCrash},
		{"id maps", testIDMaps},
		{"many at once", testParallel},
		{"diff", testDiff},
		{"sizes", testSizes},
		{"layers by themselves", testLayerStore},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := &bench{ctx: context.Background(), root: s.root(t), records: NewRecords(), Suite: s}
			b.Snapshotter = s.Open(t, b.root, b.records)
			test.run(t, b)
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Memory is snapshot.Records in memory.
type Memory struct {
	mu      sync.Mutex
	records map[snapshot.Key]snapshot.Record
}

// NewRecords makes an empty one.
func NewRecords() *Memory { return &Memory{records: map[snapshot.Key]snapshot.Record{}} }

// Get implements snapshot.Records.
func (m *Memory) Get(ns, name string) (snapshot.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.get(ns, name)
}

func (m *Memory) get(ns, name string) (snapshot.Record, error) {
	r, ok := m.records[snapshot.Key{Namespace: ns, Name: name}]
	if !ok {
		return r, fmt.Errorf("record %s/%s: %w", ns, name, errdefs.ErrNotFound)
	}
	return r, nil
}

// Create implements snapshot.Records.
func (m *Memory) Create(ns, name string, r snapshot.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.create(ns, name, r)
}

func (m *Memory) create(ns, name string, r snapshot.Record) error {
	if _, err := m.get(ns, name); err == nil {
		return fmt.Errorf("record %s/%s: %w", ns, name, errdefs.ErrAlreadyExists)
	}
	m.records[snapshot.Key{Namespace: ns, Name: name}] = r
	return nil
}

// CreateSoon implements snapshot.Records.
func (m *Memory) CreateSoon(ns, name string, r snapshot.Record) error { return m.Create(ns, name, r) }

// DeleteSoon implements snapshot.Records.
func (m *Memory) DeleteSoon(ns, name string) error { return m.Delete(ns, name) }

// Update implements snapshot.Records.
func (m *Memory) Update(ns, name string, change func(*snapshot.Record) error) (snapshot.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, err := m.get(ns, name)
	if err == nil {
		err = change(&r)
	}
	if err == nil {
		m.records[snapshot.Key{Namespace: ns, Name: name}] = r
	}
	return r, err
}

// Delete implements snapshot.Records.
func (m *Memory) Delete(ns, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.records, snapshot.Key{Namespace: ns, Name: name})
	return nil
}

// List implements snapshot.Records.
func (m *Memory) List(ns string) ([]store.Entry[snapshot.Record], error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []store.Entry[snapshot.Record]
	for key, r := range m.records {
		if ns == "" || ns == key.Namespace {
			out = append(out, store.Entry[snapshot.Record]{Namespace: key.Namespace, Key: key.Name, Value: r})
		}
	}
	slices.SortFunc(out, func(a, b store.Entry[snapshot.Record]) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Key, b.Key))
	})
	return out, nil
}

// Move implements snapshot.Records.
func (m *Memory) Move(ns, from, to string, change func(*snapshot.Record) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, err := m.get(ns, from)
	if err == nil {
		err = change(&r)
	}
	if err == nil {
		err = m.create(ns, to, r)
	}
	if err == nil {
		delete(m.records, snapshot.Key{Namespace: ns, Name: from})
	}
	return err
}

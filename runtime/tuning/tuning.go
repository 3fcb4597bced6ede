// Package tuning changes what the host does with processors that belong to one container alone: sleep states, frequency,
// interrupts, and the balancing of load. These are files of /proc, /sys and cgroups whose values are the host's, so each
// value that is changed is kept with those for whom it was, on disk before it is changed, and given back when the last of
// them has ended: also when a crash came between.
//
// The wishes are those that CRI-O has made usual under its runtime handler "high-performance"; who may have them is
// decided elsewhere.
package tuning

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/atomicfile"
	"github.com/minirt/mini/internal/failpoint"
	"github.com/minirt/mini/oci/spec"
)

// Wish is what a container wants for its processors.
type Wish struct {
	CPUs            string `json:"cpus"`                      // in the kernel's list format
	CStates         string `json:"cStates,omitempty"`         // enable, disable or max_latency:MICROSECONDS; empty: as they are
	Governor        string `json:"governor,omitempty"`        // of the frequency; empty: as it is
	Interrupts      string `json:"interrupts,omitempty"`      // disable, or housekeeping: but for the first core; empty: as they are
	NoLoadBalancing bool   `json:"noLoadBalancing,omitempty"` // the scheduler leaves processes where they are
	NoQuota         bool   `json:"noQuota,omitempty"`         // the pod's group has no quota
}

// Options say where things are.
type Options struct {
	Root  string // the directory that /proc and /sys are below; empty: /
	State string // the file in which original values are kept; as lasting as the values themselves
	// IRQBalance is the configuration of the daemon that spreads interrupts, below Root; empty or not there: none.
	IRQBalance string
	Restart    func() error // has that daemon read it again; nil: nobody does
	Log        *slog.Logger
}

// Tuner changes the host for containers. Its methods may be called by several goroutines.
type Tuner struct {
	Options
	mu    sync.Mutex
	files map[string]*file // by path
}

// file is one that has been changed, or is about to be.
type file struct {
	Kind     kind              `json:"kind"`
	Original string            `json:"original"`
	Users    map[string]string `json:"users"` // by container: what it wants of the file
	Order    []string          `json:"order"` // of them, the last one to come at the end
}

// Open reads what an earlier daemon has changed. Nothing is given back before Release.
func Open(o Options) (*Tuner, error) {
	if o.Root == "" {
		o.Root = "/"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	t := &Tuner{Options: o, files: map[string]*file{}}
	data, err := os.ReadFile(o.State)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return t, nil
	case err != nil:
		return nil, err
	}
	if err := json.Unmarshal(data, &t.files); err != nil {
		return nil, fmt.Errorf("%s, the values of the host that containers have changed: %w: mend or remove it", o.State, err)
	}
	return t, nil
}

// Users are the containers for which something is changed.
func (t *Tuner) Users() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	users := map[string]bool{}
	for _, f := range t.files {
		for id := range f.Users {
			users[id] = true
		}
	}
	return slices.Sorted(maps.Keys(users))
}

// Check refuses a wish that cannot be meant. Errors: ErrInvalidArgument.
func (w Wish) Check() error {
	if _, err := latency(w.CStates); err != nil {
		return err
	}
	if strings.ContainsAny(w.Governor, "/ \n\x00") {
		return fmt.Errorf("frequency governor %.64q is none: %w", w.Governor, errdefs.ErrInvalidArgument)
	}
	if !slices.Contains([]string{"", "disable", "housekeeping"}, w.Interrupts) {
		return fmt.Errorf("interrupts %.64q: there are disable and housekeeping: %w", w.Interrupts, errdefs.ErrInvalidArgument)
	}
	if w == (Wish{CPUs: w.CPUs}) {
		return nil
	}
	if list, err := spec.ParseList(w.CPUs); err != nil || len(list) == 0 {
		return fmt.Errorf("tuning of processors needs a cpuset of the container's own, as guaranteed pods have with the kubelet's static policy; it has %.64q: %w", w.CPUs, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Prepare makes the changes that a container must find when it starts. When it fails, nothing is changed.
func (t *Tuner) Prepare(id string, w Wish) error {
	if err := w.Check(); err != nil {
		return err
	}
	changes, err := t.hostChanges(w)
	if err == nil {
		err = t.apply(id, changes)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("tune the processors %s: %w", w.CPUs, err), t.Release(id))
	}
	return nil
}

// Started makes the changes to the groups of a container that runs; groups are their directories by controller, "" that of
// cgroup v2.
func (t *Tuner) Started(id string, w Wish, groups map[string]string) error {
	changes, err := t.groupChanges(w, groups)
	if err == nil {
		err = t.apply(id, changes)
	}
	if err != nil {
		return fmt.Errorf("tune the processors %s: %w", w.CPUs, err)
	}
	return nil
}

// Release gives back what was changed for a container and for nobody else. It may be repeated, and tries everything.
func (t *Tuner) Release(id string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	changed := false
	for _, path := range slices.Backward(slices.Sorted(maps.Keys(t.files))) { // groups from the bottom to the top
		f := t.files[path]
		if _, uses := f.Users[id]; !uses {
			continue
		}
		delete(f.Users, id)
		f.Order = slices.DeleteFunc(f.Order, func(other string) bool { return other == id })
		changed = true
		if err := t.write(path, f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.Users[id] = "" // asked for again, it is tried again
			errs = append(errs, fmt.Errorf("give back %s: %w", path, err))
			continue
		}
		if len(f.Users) == 0 {
			delete(t.files, path)
		}
	}
	if !changed {
		return nil
	}
	return errors.Join(append(errs, t.save())...)
}

// change is what a container wants of a file.
type change struct {
	path string
	kind kind
	want string
	once bool // the file goes with the container: nothing is to be given back
}

// apply records the changes, and then makes them.
func (t *Tuner) apply(id string, changes []change) error {
	if len(changes) == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range changes {
		if c.once {
			continue
		}
		f := t.files[c.path]
		if f == nil {
			original, err := os.ReadFile(c.path)
			if err != nil {
				return err
			}
			f = &file{Kind: c.kind, Original: string(original), Users: map[string]string{}}
			t.files[c.path] = f
		}
		if _, has := f.Users[id]; !has {
			f.Order = append(f.Order, id)
		}
		f.Users[id] = c.want
	}
	if err := t.save(); err != nil {
		return err
	}
	if err := failpoint.Hit("tuning-recorded"); err != nil {
		return err
	}
	for _, c := range changes {
		f := t.files[c.path]
		if c.once {
			f = &file{Kind: set, Users: map[string]string{id: c.want}, Order: []string{id}}
		}
		if err := t.write(c.path, f); err != nil {
			return err
		}
	}
	return nil
}

// write gives a file the value that its users want together.
func (t *Tuner) write(path string, f *file) error {
	value, err := f.value()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := writeExisting(path, value); err != nil {
		return err
	}
	if f.Kind == banned && t.Restart != nil {
		if err := t.Restart(); err != nil {
			t.Log.Warn("the daemon that spreads interrupts does not read its configuration again", "file", path, "error", err)
		}
	}
	return nil
}

// writeExisting writes a file of the kernel: it is neither made nor, as its writes are calls, written in parts.
func writeExisting(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// save writes the record; without anything changed there is none.
func (t *Tuner) save() error {
	if len(t.files) == 0 {
		if err := os.Remove(t.State); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	data, err := json.Marshal(t.files)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(t.State), 0o700); err != nil {
		return err
	}
	return atomicfile.WriteNoSync(t.State, data, 0o600)
}

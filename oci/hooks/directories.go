package hooks

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Directories are those in which the files lie. A file in a later one stands for those of its name in earlier ones.
// They are read again when something in them has changed; one that is not there is empty.
type Directories struct {
	paths []string

	mu       sync.Mutex
	seen     map[string]stamp // by path
	hooks    []Hook
	warnings []string
}

// stamp tells versions of a file apart.
type stamp struct {
	size int64
	time time.Time
}

// Open makes the set of directories. Nothing is read yet.
func Open(paths []string) *Directories { return &Directories{paths: paths} }

// Add adds the hooks that are meant for a container to its document, in the order of their files' names. A file that
// cannot be used is skipped, and named by a warning.
func (d *Directories) Add(s *specs.Spec, binds bool) (warnings []string) {
	list, warnings := d.read()
	for _, h := range list {
		if h.When.Match(s, binds) {
			h.Add(s)
		}
	}
	return warnings
}

// read returns the hooks of the directories as they are now.
func (d *Directories) read() ([]Hook, []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	found, seen, warnings := d.look()
	if d.seen != nil && maps.EqualFunc(seen, d.seen, func(a, b stamp) bool { return a.size == b.size && a.time.Equal(b.time) }) {
		return d.hooks, append(warnings, d.warnings...)
	}
	d.seen, d.hooks, d.warnings = seen, nil, nil
	names := slices.SortedFunc(maps.Keys(found), func(a, b string) int {
		return cmp.Or(strings.Compare(strings.ToLower(a), strings.ToLower(b)), strings.Compare(a, b))
	})
	for _, name := range names {
		h, err := load(found[name])
		if err != nil {
			d.warnings = append(d.warnings, fmt.Sprintf("hook %s is not used: %s", found[name], err))
			continue
		}
		d.hooks = append(d.hooks, h)
	}
	return d.hooks, append(warnings, d.warnings...)
}

// look lists the files without reading them: by name, and their versions by path.
func (d *Directories) look() (found map[string]string, seen map[string]stamp, warnings []string) {
	found, seen = map[string]string{}, map[string]stamp{}
	for _, dir := range d.paths {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			warnings = append(warnings, fmt.Sprintf("hooks of %s are not used: %s", dir, err))
		}
		for _, e := range entries {
			if filepath.Ext(e.Name()) != ".json" || e.IsDir() {
				continue
			}
			file := filepath.Join(dir, e.Name())
			info, err := os.Stat(file) // a link's target counts
			if err != nil {
				continue
			}
			found[e.Name()], seen[file] = file, stamp{info.Size(), info.ModTime()}
		}
	}
	return found, seen, warnings
}

func load(file string) (Hook, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return Hook{}, err
	}
	h, err := Parse(data)
	if err != nil {
		return Hook{}, err
	}
	// Every start of every container would fail.
	if _, err := os.Stat(h.Hook.Path); err != nil {
		return Hook{}, fmt.Errorf("hook.path: %w", err)
	}
	return h, nil
}

// Package cdi finds devices of the Container Device Interface and puts them into runtime-spec documents. It is the only
// importer of the interface's library, which brings a YAML parser and a file watcher (about 0.5 MiB of binary), so that
// programs that only make documents do without.
//
// https://github.com/cncf-tags/container-device-interface/blob/main/SPEC.md
package cdi

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"

	"github.com/minirt/mini/oci/spec"
)

// Devices are those that the files of some directories define.
type Devices struct{ dirs []string }

var _ spec.CDI = Devices{}

// New looks in directories, the later ones first where two define the same device; none: /etc/cdi and /var/run/cdi.
// Nothing is read before it is asked for, and nothing is watched: a file that a driver's installer changes counts from
// the next container on.
func New(dirs ...string) Devices {
	if len(dirs) == 0 {
		dirs = cdi.DefaultSpecDirs
	}
	return Devices{dirs: slices.Clone(dirs)}
}

// Inject adds the edits of devices to a document; unresolved are those no file defines, and then nothing is added.
// Errors: ErrInvalidArgument, with what is wrong in the directories' files.
func (d Devices) Inject(s *specs.Spec, devices []string) (unresolved []string, err error) {
	cache, err := d.load()
	if err != nil {
		return nil, err
	}
	unresolved, err = cache.InjectDevices(s, devices...)
	if err == nil {
		return nil, nil
	}
	broken := fileErrors(cache)
	if len(unresolved) > 0 && broken == nil {
		return unresolved, nil
	}
	return nil, fmt.Errorf("%w: %w", errors.Join(err, broken), errdefs.ErrInvalidArgument)
}

// List returns the qualified names of all devices, sorted.
func (d Devices) List() ([]string, error) {
	cache, err := d.load()
	if err != nil {
		return nil, err
	}
	return cache.ListDevices(), nil
}

func (d Devices) load() (*cdi.Cache, error) {
	cache, err := cdi.NewCache(cdi.WithSpecDirs(d.dirs...), cdi.WithAutoRefresh(false))
	if err != nil {
		return nil, fmt.Errorf("cdi directories %v: %w", d.dirs, err)
	}
	return cache, nil
}

// fileErrors joins what is wrong in the files, in the files' order.
func fileErrors(cache *cdi.Cache) error {
	found := cache.GetErrors()
	var errs []error
	for _, file := range slices.Sorted(maps.Keys(found)) {
		for _, err := range found[file] {
			errs = append(errs, fmt.Errorf("%s: %w", file, err))
		}
	}
	return errors.Join(errs...)
}

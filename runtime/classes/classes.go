// Package classes knows the classes of block I/O and of Intel's RDT that the owner of a node has defined, in the files that
// other runtimes for Kubernetes take (https://github.com/intel/goresctrl), and finds that of a container by the annotations
// which they have made usual. It is the only importer of goresctrl, whose state is the process's: there is one Classes.
package classes

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/intel/goresctrl/pkg/blockio"
	"github.com/intel/goresctrl/pkg/rdt"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Config names the files; empty: no classes of the kind.
type Config struct {
	BlockIOFile string
	RDTFile     string
	// Ignore… lets containers that ask for a class run without it where there are none.
	IgnoreBlockIO bool
	IgnoreRDT     bool
}

// Classes are those in force. The zero value has none.
type Classes struct {
	mu      sync.Mutex
	config  Config
	blockIO []byte // the file that is in force
	rdt     bool   // classes are in the kernel
}

// Load reads the files and brings their classes into force; the kernel has those of RDT from then on. On an error of
// class ErrInvalidArgument, ErrNotFound or ErrFailedPrecondition those from before stay.
func (c *Classes) Load(config Config, log *slog.Logger) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	blockio.SetLogger(log)
	rdt.SetLogger(log)
	data, err := c.loadBlockIO(config.BlockIOFile)
	if err != nil {
		return err
	}
	if err := c.loadRDT(config.RDTFile); err != nil {
		c.restoreBlockIO(log)
		return err
	}
	c.config, c.blockIO, c.rdt = config, data, config.RDTFile != ""
	return nil
}

// loadBlockIO gives goresctrl the classes of a file, and back those from before when it does not take them.
func (c *Classes) loadBlockIO(file string) ([]byte, error) {
	if file == "" {
		return nil, blockio.SetConfig(nil, true)
	}
	data, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return nil, fmt.Errorf("block I/O classes: %w: %w", err, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("block I/O classes: %w", err)
	}
	if err := blockio.SetConfigFromData(data, false); err != nil {
		c.restoreBlockIO(slog.New(slog.DiscardHandler))
		return nil, fmt.Errorf("block I/O classes: %s: %w: %w", file, err, errdefs.ErrInvalidArgument)
	}
	return data, nil
}

func (c *Classes) restoreBlockIO(log *slog.Logger) {
	if err := blockio.SetConfigFromData(c.blockIO, true); err != nil {
		log.Error("the block I/O classes from before are lost", "error", err)
	}
}

// loadRDT writes the classes of a file to the resctrl filesystem. Without a file nothing is touched: the classes of
// somebody else stay.
func (c *Classes) loadRDT(file string) error {
	if file == "" {
		return nil
	}
	if err := rdt.Initialize(""); err != nil {
		return fmt.Errorf("RDT classes: %w: mount resctrl at /sys/fs/resctrl if the processor has RDT, or take rdt_config_file out: %w", err, errdefs.ErrFailedPrecondition)
	}
	if err := rdt.SetConfigFromFile(file, true); err != nil {
		return fmt.Errorf("RDT classes: %s: %w: %w", file, err, errdefs.ErrInvalidArgument)
	}
	return nil
}

// BlockIO is what the class of a container means, by its annotations and its pod's; nil: it has none. An unknown class is
// ErrInvalidArgument.
func (c *Classes) BlockIO(container string, own, pod map[string]string) (*specs.LinuxBlockIO, error) {
	class, err := blockio.ContainerClassFromAnnotations(container, own, pod)
	if err != nil || class == "" {
		return nil, err
	}
	return c.BlockIOClass(class)
}

// BlockIOClass is what a class means; nil: nothing, where the configuration lets containers run without.
func (c *Classes) BlockIOClass(class string) (*specs.LinuxBlockIO, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.config.BlockIOFile == "" {
		if c.config.IgnoreBlockIO {
			return nil, nil
		}
		return nil, fmt.Errorf("block I/O class %q: no classes are configured: set cri.blockio_config_file, or cri.ignore_blockio_not_enabled_errors: %w", class, errdefs.ErrFailedPrecondition)
	}
	limits, err := blockio.OciLinuxBlockIO(class)
	if err != nil {
		known := blockio.GetClasses()
		slices.Sort(known)
		return nil, fmt.Errorf("block I/O class %q: the configured ones are %q: %w", class, known, errdefs.ErrInvalidArgument)
	}
	return limits, nil
}

// RDT is the class of a container; empty: it has none.
func (c *Classes) RDT(container string, own, pod map[string]string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	class, err := rdt.ContainerClassFromAnnotations(container, own, pod)
	switch {
	case err == nil:
		return class, nil
	case !c.rdt && c.config.IgnoreRDT:
		return "", nil
	case !c.rdt:
		return "", fmt.Errorf("%w: set cri.rdt_config_file, or cri.ignore_rdt_not_enabled_errors: %w", err, errdefs.ErrFailedPrecondition)
	}
	return "", fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
}

package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/atomicfile"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// record is what a supervisor leaves in a process's directory for the one that comes after it. It is written twice:
// before anything exists on the host, with the cgroups that will be made, and when the process is there, before its
// program runs. It lives as long as the machine runs, like the process, so it is not synced.
type record struct {
	Start     *wire.Start       `json:"start,omitempty"` // of a first process
	Exec      *wire.Exec        `json:"exec,omitempty"`  // of another
	Cgroups   map[string]string `json:"cgroups,omitempty"`
	PID       int               `json:"pid,omitempty"`
	StartTime uint64            `json:"start_time,omitempty"`
	OOMBase   uint64            `json:"oom_base,omitempty"`
}

const (
	recordFile = "supervisor.json"
	exitFile   = "exit.json"
)

func (r record) save(dir string) error {
	r.detach()
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return atomicfile.WriteNoSync(filepath.Join(dir, recordFile), data, 0o600)
}

// detach drops what was true of the request only.
func (r *record) detach() {
	if r.Start != nil {
		start := *r.Start
		start.Attach = nil
		r.Start = &start
	}
	if r.Exec != nil {
		exec := *r.Exec
		exec.Attach = nil
		r.Exec = &exec
	}
}

func loadRecord(dir string) (record, error) {
	var r record
	return r, loadJSON(filepath.Join(dir, recordFile), &r)
}

// saveExit writes how a process ended. It survives this process and the daemon, as all files do; not a power cut, after
// which the bundle is worth nothing: so it is not synced either.
func saveExit(dir string, e wire.Exit) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return atomicfile.WriteNoSync(filepath.Join(dir, exitFile), data, 0o600)
}

func loadExit(dir string) (*wire.Exit, error) {
	var e wire.Exit
	if err := loadJSON(filepath.Join(dir, exitFile), &e); err != nil {
		return nil, err
	}
	return &e, nil
}

func loadJSON(path string, to any) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, to); err != nil {
		return fmt.Errorf("%s: %w: %w", path, err, errdefs.ErrDataLoss)
	}
	return nil
}

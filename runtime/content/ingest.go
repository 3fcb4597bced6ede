package content

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/internal/atomicfile"
	"github.com/opencontainers/go-digest"
)

// Ingest says what a Writer is for.
type Ingest struct {
	Ref      string        // names the ingest, so that it can be resumed; any text
	Expected digest.Digest // empty: not known yet
	Total    int64         // bytes; 0: not known
	Wait     bool          // for the ref's writer, if there is one, instead of ErrUnavailable
	Once     bool          // nobody resumes it: what a crash leaves of it is removed at the next Open
}

// IngestInfo describes an ingest that is under way, or was left to be resumed.
type IngestInfo struct {
	Ref       string
	Offset    int64 // bytes received
	Total     int64
	Expected  digest.Digest
	StartedAt time.Time
	UpdatedAt time.Time
}

// ingestRecord is ingest.json.
type ingestRecord struct {
	Ref       string        `json:"ref"`
	Total     int64         `json:"total,omitempty"`
	Expected  digest.Digest `json:"expected,omitempty"`
	StartedAt time.Time     `json:"started_at"`
	Once      bool          `json:"once,omitempty"`
}

func (s *Store) ingestRoot() string { return filepath.Join(s.root, "ingest") }

func (s *Store) ingestDir(ref string) string {
	return filepath.Join(s.ingestRoot(), digest.FromString(ref).Encoded())
}

func dataPath(dir string) string { return filepath.Join(dir, "data") }

func recordPath(dir string) string { return filepath.Join(dir, "ingest.json") }

func readIngest(dir string) (ingestRecord, error) {
	var r ingestRecord
	b, err := os.ReadFile(recordPath(dir))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%s: %w: %w", recordPath(dir), err, errdefs.ErrDataLoss)
	}
	return r, nil
}

func writeIngest(dir string, r ingestRecord) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return atomicfile.WriteNoSync(recordPath(dir), b, 0o600)
}

// Ingests lists what is being received or was left to be resumed, by ref.
func (s *Store) Ingests(ctx context.Context) ([]IngestInfo, error) {
	all, err := os.ReadDir(s.ingestRoot())
	if err != nil {
		return nil, fmt.Errorf("content store: %w", err)
	}
	var list []IngestInfo
	for _, e := range all {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		dir := filepath.Join(s.ingestRoot(), e.Name())
		r, err := readIngest(dir)
		if err != nil {
			continue // begun or ended at this moment
		}
		fi, err := os.Lstat(dataPath(dir))
		if err != nil {
			continue
		}
		list = append(list, IngestInfo{r.Ref, fi.Size(), r.Total, r.Expected, r.StartedAt, fi.ModTime()})
	}
	slices.SortFunc(list, func(a, b IngestInfo) int { return strings.Compare(a.Ref, b.Ref) })
	return list, nil
}

// Abort forgets an ingest and its bytes. Errors: ErrNotFound; ErrUnavailable while it is being written.
func (s *Store) Abort(_ context.Context, ref string) error {
	unlock, ok := s.refs.TryLock(ref)
	if !ok {
		return busy(ref)
	}
	defer unlock()
	dir := s.ingestDir(ref)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no ingest %s: %w", ref, errdefs.ErrNotFound)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("ingest %s: %w", ref, err)
	}
	return nil
}

func busy(ref string) error {
	return fmt.Errorf("ingest %s: being written by another: %w", ref, errdefs.ErrUnavailable)
}

// recoverIngests removes what a crash left of ingests that cannot or will not be resumed.
func (s *Store) recoverIngests() error {
	all, err := os.ReadDir(s.ingestRoot())
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range all {
		dir := filepath.Join(s.ingestRoot(), e.Name())
		r, err := readIngest(dir)
		_, missing := os.Lstat(dataPath(dir))
		if err != nil || missing != nil || r.Once {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

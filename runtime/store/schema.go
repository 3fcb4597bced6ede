package store

import (
	"fmt"
	"strconv"

	"github.com/containerd/errdefs"
	"go.etcd.io/bbolt"
)

// The database has one bucket per table, named like its kind, and this one for itself. The version of the schema
// counts changes of that arrangement; the versions of records are the tables' own (table.go).
const metaBucket = "_meta"

const schemaKey = "schema"

// migrations lead from one version of the schema to the next: the first from 1 to 2, and so on. The version of this
// binary is one more than their number.
type migrations []func(*bbolt.Tx) error

// schema is the history of this binary's.
func schema() migrations { return nil }

func (m migrations) version() int { return len(m) + 1 }

// run brings the database to the binary's version in one transaction, or refuses a newer one and changes nothing. A
// database that is current is not written, so that a full disk keeps no daemon from starting.
func (m migrations) run(s *Store) error {
	current := false
	err := s.db.View(func(tx *bbolt.Tx) error {
		meta := tx.Bucket([]byte(metaBucket))
		current = meta != nil && string(meta.Get([]byte(schemaKey))) == strconv.Itoa(m.version())
		return nil
	})
	if err != nil || current {
		return err
	}
	var id uint64
	err = s.db.Update(func(tx *bbolt.Tx) error {
		id = uint64(tx.ID())
		if err := (&Tx{btx: tx, writes: s.pending.Load().rows}).flush(); err != nil {
			return err
		}
		meta, err := tx.CreateBucketIfNotExists([]byte(metaBucket))
		if err != nil {
			return err
		}
		from, err := readSchema(meta, m.version())
		if err != nil {
			return err
		}
		if from > m.version() {
			return fmt.Errorf("a newer program wrote it, with schema %d; this one knows schemas up to %d: use the newer program, or a backup from before the upgrade: %w",
				from, m.version(), errdefs.ErrFailedPrecondition)
		}
		for v := from; v < m.version(); v++ {
			if err := m[v-1](tx); err != nil {
				return fmt.Errorf("migration from schema %d to %d, nothing was changed: %w", v, v+1, err)
			}
			s.log.Info("store migrated", "path", s.path, "from", v, "to", v+1)
		}
		return meta.Put([]byte(schemaKey), []byte(strconv.Itoa(m.version())))
	})
	if err != nil {
		return fmt.Errorf("store %s: %w", s.path, explain(err))
	}
	s.settled(id)
	return nil
}

// readSchema is the version saved, or fresh in a new database.
func readSchema(meta *bbolt.Bucket, fresh int) (int, error) {
	text := meta.Get([]byte(schemaKey))
	if text == nil {
		return fresh, nil
	}
	v, err := strconv.Atoi(string(text))
	if err != nil || v < 1 {
		return 0, fmt.Errorf("schema version %q is not a number from 1: %w", text, errdefs.ErrDataLoss)
	}
	return v, nil
}

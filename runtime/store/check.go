package store

import (
	"context"
	"fmt"
	"runtime/debug"

	"go.etcd.io/bbolt"
)

// Problem is something wrong with the store: of which object, and what.
type Problem struct{ Object, Problem string }

// Check reads everything: the database's pages, then every record by its table. It finds records of kinds that no
// table was made for, so all tables have to exist. It writes nothing, and others may read and write meanwhile.
func (s *Store) Check(ctx context.Context) (problems []Problem, err error) {
	// A damaged page can lead anywhere, even outside of the mapped file.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			problems = append(problems, Problem{s.path, fmt.Sprintf("the database is damaged: %v: bring it back from a backup", p)})
		}
	}()
	if problems, err = s.checkPages(); err != nil {
		return problems, fmt.Errorf("check store %s: %w", s.path, explain(err))
	}
	decoders := s.decoders()
	err = s.db.View(func(btx *bbolt.Tx) error {
		return btx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if string(name) != metaBucket {
				problems = append(problems, checkTable(string(name), b, decoders[string(name)])...)
			}
			return nil
		})
	})
	if err != nil {
		return problems, fmt.Errorf("check store %s: %w", s.path, explain(err))
	}
	return problems, nil
}

// checkPages holds the database's write lock, because the list of free pages that it compares is the writer's.
func (s *Store) checkPages() (problems []Problem, err error) {
	btx, err := s.db.Begin(true)
	if err != nil {
		return nil, err
	}
	for err := range btx.Check() {
		problems = append(problems, Problem{s.path, err.Error()})
	}
	return problems, btx.Rollback()
}

func checkTable(kind string, b *bbolt.Bucket, decode decoder) (problems []Problem) {
	if decode == nil {
		return []Problem{{"table " + kind, "records of a kind that this program does not know: a newer one may have written them"}}
	}
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if err := decode(v); err != nil {
			problems = append(problems, Problem{describe(row{kind, string(k)}), err.Error()})
		}
	}
	return problems
}

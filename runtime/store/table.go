package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"go.etcd.io/bbolt"
)

// Table is one kind of record, by namespace and key. A record is saved as JSON in an envelope with the version of its
// form: {"v":1,"data":{…}}. The empty namespace is for records that belong to none.
//
// A reader always gets a copy; changing it changes nothing that is saved.
type Table[T any] struct {
	s       *Store
	kind    string
	version int
	migrate func(from int, raw []byte) ([]byte, error)
}

// Entry is a record with its name.
type Entry[T any] struct {
	Namespace, Key string
	Value          T
}

// NewTable makes the table of a kind, whose name (a to z, 0 to 9, -) is also used in messages. The version, from 1,
// counts changes of T that JSON does not bridge by itself. migrate gets the data of a record of an older version and
// returns it in the form of the current one; it may be nil while version is 1. Records are migrated when they are
// read, and saved in the new form when they are next written. Making the same kind twice panics, and so does a version
// above 1 without migrate.
func NewTable[T any](s *Store, kind string, version int, migrate func(from int, raw []byte) ([]byte, error)) *Table[T] {
	if version < 1 || version > 1 && migrate == nil {
		panic(fmt.Sprintf("store: table %s has version %d and no migration", kind, version))
	}
	t := &Table[T]{s: s, kind: kind, version: version, migrate: migrate}
	s.register(kind, func(data []byte) error {
		_, err := t.decode(data)
		return err
	})
	return t
}

// Get reads a record. Errors: ErrNotFound; ErrDataLoss when it is damaged, ErrFailedPrecondition when a newer program
// wrote it.
func (t *Table[T]) Get(ns, key string) (T, error) {
	return view(t, func(tx *Tx) (T, error) { return t.In(tx).Get(ns, key) })
}

// Create saves a new record, on disk when it returns. ErrAlreadyExists when there is one.
func (t *Table[T]) Create(ns, key string, v T) error {
	return t.s.Update(func(tx *Tx) error { return t.In(tx).Create(ns, key, v) })
}

// Put saves a record, new or not, on disk when it returns.
func (t *Table[T]) Put(ns, key string, v T) error {
	return t.s.Update(func(tx *Tx) error { return t.In(tx).Put(ns, key, v) })
}

// PutSoon is Put under the terms of Store.Soon: a power cut may undo it.
func (t *Table[T]) PutSoon(ns, key string, v T) error {
	return t.s.Soon(func(tx *Tx) error { return t.In(tx).Put(ns, key, v) })
}

// CreateSoon is Create under the terms of Store.Soon.
func (t *Table[T]) CreateSoon(ns, key string, v T) error {
	return t.s.Soon(func(tx *Tx) error { return t.In(tx).Create(ns, key, v) })
}

// DeleteSoon is Delete under the terms of Store.Soon.
func (t *Table[T]) DeleteSoon(ns, key string) error {
	return t.s.Soon(func(tx *Tx) error { return t.In(tx).Delete(ns, key) })
}

// Update reads a record, lets change work on it, and saves it, in one transaction. When change returns an error nothing
// is saved. It returns the record as saved. ErrNotFound when there is none. change runs under the rules of
// Store.Update.
func (t *Table[T]) Update(ns, key string, change func(*T) error) (T, error) {
	var v T
	err := t.s.Update(func(tx *Tx) (err error) {
		v, err = t.In(tx).Update(ns, key, change)
		return err
	})
	if err != nil {
		var none T
		return none, err
	}
	return v, nil
}

// Delete removes a record; nil when there is none.
func (t *Table[T]) Delete(ns, key string) error {
	return t.s.Update(func(tx *Tx) error { return t.In(tx).Delete(ns, key) })
}

// List reads the records of a namespace by key, or those of all namespaces when ns is empty. When some cannot be read
// it returns the others together with an error that names them.
func (t *Table[T]) List(ns string) ([]Entry[T], error) {
	return view(t, func(tx *Tx) ([]Entry[T], error) { return t.In(tx).List(ns) })
}

// Find is List of the records of one namespace whose keys begin with prefix.
func (t *Table[T]) Find(ns, prefix string) ([]Entry[T], error) {
	return view(t, func(tx *Tx) ([]Entry[T], error) { return t.In(tx).Find(ns, prefix) })
}

func view[T, R any](t *Table[T], fn func(*Tx) (R, error)) (r R, err error) {
	var inner error
	journaled := t.s.pending.Load() // before the transaction begins, so that it follows none that comes after
	err = t.s.db.View(func(btx *bbolt.Tx) error {
		tx := &Tx{btx: btx}
		if journaled.base == uint64(btx.ID()) { // otherwise the database has them by now
			tx.under = journaled.rows
		}
		r, inner = fn(tx)
		return nil
	})
	if err != nil {
		return r, fmt.Errorf("store %s: %w", t.s.path, explain(err))
	}
	return r, inner
}

// In is the table within a transaction of Store.Update.
func (t *Table[T]) In(tx *Tx) TxTable[T] { return TxTable[T]{t, tx} }

// TxTable is a table within a transaction. Its methods are Table's, and their changes become real with the transaction.
type TxTable[T any] struct {
	t  *Table[T]
	tx *Tx
}

// Get is Table.Get.
func (x TxTable[T]) Get(ns, key string) (T, error) {
	var v T
	if err := validKey(x.t.kind, ns, key); err != nil {
		return v, err
	}
	data := x.tx.get(x.row(ns, key))
	if data == nil {
		return v, fmt.Errorf("there is no %s: %w", object(x.t.kind, ns, key), errdefs.ErrNotFound)
	}
	v, err := x.t.decode(data)
	if err != nil {
		return v, fmt.Errorf("%s: %w", object(x.t.kind, ns, key), err)
	}
	return v, nil
}

// Create is Table.Create.
func (x TxTable[T]) Create(ns, key string, v T) error {
	if x.tx.get(x.row(ns, key)) != nil {
		return fmt.Errorf("%s is there already: %w", object(x.t.kind, ns, key), errdefs.ErrAlreadyExists)
	}
	return x.Put(ns, key, v)
}

// Put is Table.Put.
func (x TxTable[T]) Put(ns, key string, v T) error {
	if err := validKey(x.t.kind, ns, key); err != nil {
		return err
	}
	data, err := x.t.encode(v)
	if err != nil {
		return fmt.Errorf("%s: %w", object(x.t.kind, ns, key), err)
	}
	x.tx.put(x.row(ns, key), data)
	return nil
}

// Update is Table.Update.
func (x TxTable[T]) Update(ns, key string, change func(*T) error) (T, error) {
	v, err := x.Get(ns, key)
	if err != nil {
		return v, err
	}
	if err := change(&v); err != nil {
		return v, err
	}
	return v, x.Put(ns, key, v)
}

// Delete is Table.Delete.
func (x TxTable[T]) Delete(ns, key string) error {
	x.tx.delete(x.row(ns, key))
	return nil
}

// List is Table.List.
func (x TxTable[T]) List(ns string) ([]Entry[T], error) {
	if ns == "" {
		return x.entries("")
	}
	return x.entries(join(ns, ""))
}

// Find is Table.Find.
func (x TxTable[T]) Find(ns, prefix string) ([]Entry[T], error) { return x.entries(join(ns, prefix)) }

func (x TxTable[T]) entries(prefix string) ([]Entry[T], error) {
	saved := x.tx.scan(x.t.kind, prefix)
	all := make([]Entry[T], 0, len(saved))
	var errs []error
	for _, k := range saved {
		ns, key := split(k.key)
		v, err := x.t.decode(k.data)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", object(x.t.kind, ns, key), err))
			continue
		}
		all = append(all, Entry[T]{ns, key, v})
	}
	return all, errors.Join(errs...)
}

func (x TxTable[T]) row(ns, key string) row { return row{x.t.kind, join(ns, key)} }

// envelope is what every record is saved in.
type envelope struct {
	Version int             `json:"v"`
	Data    json.RawMessage `json:"data"`
}

func (t *Table[T]) encode(v T) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("cannot be saved as JSON: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return fmt.Appendf(make([]byte, 0, len(raw)+24), `{"v":%d,"data":%s}`, t.version, raw), nil
}

func (t *Table[T]) decode(data []byte) (v T, err error) {
	if raw, ok := t.current(data); ok {
		if err := json.Unmarshal(raw, &v); err == nil {
			return v, nil
		}
		var none T
		v = none
	}
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return v, fmt.Errorf("the record is damaged: %w: %w", err, errdefs.ErrDataLoss)
	}
	raw := []byte(e.Data)
	switch {
	case e.Version < 1 || e.Data == nil:
		return v, fmt.Errorf("the record is damaged: version %d, %d bytes of data: %w", e.Version, len(e.Data), errdefs.ErrDataLoss)
	case e.Version > t.version:
		return v, fmt.Errorf("a newer program wrote it, as version %d; this one knows versions up to %d: use the newer program: %w",
			e.Version, t.version, errdefs.ErrFailedPrecondition)
	case e.Version < t.version:
		if raw, err = t.migrate(e.Version, raw); err != nil {
			return v, fmt.Errorf("migration of the record from version %d to %d: %w", e.Version, t.version, err)
		}
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, fmt.Errorf("the record is damaged: %w: %w", err, errdefs.ErrDataLoss)
	}
	return v, nil
}

// current takes a record apart that this very version has saved, without reading the JSON twice.
func (t *Table[T]) current(data []byte) ([]byte, bool) {
	raw, ok := bytes.CutPrefix(data, fmt.Appendf(nil, `{"v":%d,"data":`, t.version))
	if !ok {
		return nil, false
	}
	return bytes.CutSuffix(raw, []byte("}"))
}

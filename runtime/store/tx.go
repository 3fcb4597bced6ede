package store

import (
	"fmt"
	"sort"
	"strings"

	"github.com/containerd/errdefs"
	"go.etcd.io/bbolt"
)

// Tx is a transaction, valid while the function that got it runs. Tables act in it by their method In.
type Tx struct {
	btx    *bbolt.Tx
	under  map[row]write // of the journal: what the database does not have yet
	writes map[row]write
}

// row names a record: its table and its database key.
type row struct{ kind, key string }

type write struct {
	data    []byte
	deleted bool
}

// get is nil when there is no such record. What it returns is valid as long as the transaction.
func (tx *Tx) get(r row) []byte {
	if w, ok := tx.changed(r); ok {
		return w.data
	}
	b := tx.btx.Bucket([]byte(r.kind))
	if b == nil {
		return nil
	}
	return b.Get([]byte(r.key))
}

// changed is what has become of a record that the database has in another form.
func (tx *Tx) changed(r row) (write, bool) {
	if w, ok := tx.writes[r]; ok {
		return w, true
	}
	w, ok := tx.under[r]
	return w, ok
}

func (tx *Tx) put(r row, data []byte) { tx.write(r, write{data: data}) }

func (tx *Tx) delete(r row) {
	if tx.get(r) != nil {
		tx.write(r, write{deleted: true})
	}
}

func (tx *Tx) write(r row, w write) {
	if tx.writes == nil {
		tx.writes = map[row]write{}
	}
	tx.writes[r] = w
}

// keyed is a record as saved.
type keyed struct {
	key  string
	data []byte
}

// scan lists the records of a table whose keys begin with prefix, by key.
func (tx *Tx) scan(kind, prefix string) []keyed {
	var all []keyed
	if b := tx.btx.Bucket([]byte(kind)); b != nil {
		c := b.Cursor()
		for k, v := c.Seek([]byte(prefix)); k != nil && strings.HasPrefix(string(k), prefix); k, v = c.Next() {
			if _, changed := tx.changed(row{kind, string(k)}); !changed {
				all = append(all, keyed{string(k), v})
			}
		}
	}
	add := func(r row, w write) {
		if r.kind == kind && !w.deleted && strings.HasPrefix(r.key, prefix) {
			all = append(all, keyed{r.key, w.data})
		}
	}
	for r, w := range tx.writes {
		add(r, w)
	}
	for r, w := range tx.under {
		if _, again := tx.writes[r]; !again {
			add(r, w)
		}
	}
	if len(tx.writes)+len(tx.under) > 0 {
		sort.Slice(all, func(i, j int) bool { return all[i].key < all[j].key })
	}
	return all
}

// flush hands the writes to the database's transaction.
func (tx *Tx) flush() error {
	for r, w := range tx.writes {
		b, err := tx.btx.CreateBucketIfNotExists([]byte(r.kind))
		if err != nil {
			return err
		}
		if w.deleted {
			err = b.Delete([]byte(r.key))
		} else {
			err = b.Put([]byte(r.key), w.data)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", describe(r), err)
		}
	}
	return nil
}

// Namespace and key are joined by a zero byte, which neither may contain, so that a namespace's records are neighbours.
const separator = "\x00"

func join(ns, key string) string { return ns + separator + key }

func split(dbKey string) (ns, key string) {
	ns, key, _ = strings.Cut(dbKey, separator)
	return ns, key
}

func describe(r row) string {
	ns, key := split(r.key)
	return object(r.kind, ns, key)
}

// object is how a record is called in messages.
func object(kind, ns, key string) string {
	if ns == "" {
		return fmt.Sprintf("%s %s", kind, key)
	}
	return fmt.Sprintf("%s %s in namespace %s", kind, key, ns)
}

// maxKey in bytes is the database's limit for a key (32,768), with room for the namespace.
const maxKey = 32 << 10

func validKey(kind, ns, key string) error {
	switch {
	case key == "":
		return fmt.Errorf("%s without a name: %w", kind, errdefs.ErrInvalidArgument)
	case strings.Contains(ns, separator) || strings.Contains(key, separator):
		return fmt.Errorf("%s %q: a zero byte in the name: %w", kind, key, errdefs.ErrInvalidArgument)
	case len(ns)+len(key)+1 > maxKey:
		return fmt.Errorf("%s %.40q…: name of %d bytes is too long, at most %d: %w", kind, key, len(key), maxKey-len(ns)-1, errdefs.ErrInvalidArgument)
	}
	return nil
}

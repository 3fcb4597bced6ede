package store

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"go.etcd.io/bbolt"
)

// DefaultNamespace is what the empty name means to users.
const DefaultNamespace = "default"

// Namespace separates the records of one user of the daemon from another's.
type Namespace struct {
	Name      string            `json:"name"`
	Labels    map[string]string `json:"labels,omitempty"`
	CreatedAt time.Time         `json:"created_at"`
}

// Namespaces are the known namespaces. Nothing forces a record's namespace to be known: who creates records calls
// Ensure first.
type Namespaces struct {
	s     *Store
	table *Table[Namespace]
}

const namespaceKind = "namespace"

// NewNamespaces makes the table of namespaces.
func NewNamespaces(s *Store) *Namespaces {
	return &Namespaces{s, NewTable[Namespace](s, namespaceKind, 1, nil)}
}

// Create makes a namespace. Errors: ErrAlreadyExists, ErrInvalidArgument for a bad name or label.
func (n *Namespaces) Create(name string, labels map[string]string) (Namespace, error) {
	if err := ValidName(name); err != nil {
		return Namespace{}, fmt.Errorf("namespace %w", err)
	}
	if err := ValidLabels(labels); err != nil {
		return Namespace{}, fmt.Errorf("namespace %s: %w", name, err)
	}
	v := Namespace{Name: name, Labels: labels, CreatedAt: time.Now().UTC()}
	return v, n.table.Create("", name, v)
}

// Ensure makes a namespace unless it is there; then it writes nothing.
func (n *Namespaces) Ensure(name string) error {
	if _, err := n.table.Get("", name); err == nil {
		return nil
	}
	_, err := n.Create(name, nil)
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// Get reads a namespace. ErrNotFound when it is not known.
func (n *Namespaces) Get(name string) (Namespace, error) { return n.table.Get("", name) }

// List reads all namespaces by name.
func (n *Namespaces) List() ([]Namespace, error) {
	all, err := n.table.Find("", "")
	list := make([]Namespace, len(all))
	for i, e := range all {
		list[i] = e.Value
	}
	return list, err
}

// SetLabels changes the labels given and keeps the others, or with replace has only those given. A label with an empty
// value is removed. ErrNotFound when the namespace is not known.
func (n *Namespaces) SetLabels(name string, labels map[string]string, replace bool) (Namespace, error) {
	if err := ValidLabels(labels); err != nil {
		return Namespace{}, fmt.Errorf("namespace %s: %w", name, err)
	}
	return n.table.Update("", name, func(v *Namespace) error {
		v.Labels = MergeLabels(v.Labels, labels, replace)
		return nil
	})
}

// Delete forgets a namespace. Errors: ErrNotFound; ErrFailedPrecondition, with a count of what is there, while any
// table has records in it.
func (n *Namespaces) Delete(name string) error {
	return n.s.Update(func(tx *Tx) error {
		if _, err := n.table.In(tx).Get("", name); err != nil {
			return err
		}
		used, err := tx.usage(name)
		if err != nil {
			return err
		}
		if len(used) > 0 {
			return fmt.Errorf("namespace %s is not empty, it has records of %s: delete them first: %w", name, strings.Join(used, ", "), errdefs.ErrFailedPrecondition)
		}
		return n.table.In(tx).Delete("", name)
	})
}

// usage counts the records of a namespace, as "container (2)".
func (tx *Tx) usage(ns string) (used []string, err error) {
	err = tx.btx.ForEach(func(kind []byte, _ *bbolt.Bucket) error {
		if string(kind) == metaBucket {
			return nil
		}
		if n := len(tx.scan(string(kind), join(ns, ""))); n > 0 {
			used = append(used, fmt.Sprintf("%s (%d)", kind, n))
		}
		return nil
	})
	slices.Sort(used)
	return used, err
}

// maxName in bytes is the longest name of a namespace.
const maxName = 76

// ValidName tells what is wrong with the name of a namespace or lease: letters and digits of ASCII, with single dots,
// dashes or underscores between them, at most 76. These are containerd's rules for identifiers.
func ValidName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("has no name: %w", errdefs.ErrInvalidArgument)
	case len(name) > maxName:
		return fmt.Errorf("%.20s…: name of %d bytes is too long, at most %d: %w", name, len(name), maxName, errdefs.ErrInvalidArgument)
	case !regexp.MustCompile(`^[A-Za-z0-9]+([._-][A-Za-z0-9]+)*$`).MatchString(name):
		return fmt.Errorf("%q: a name has letters, digits and single '.', '-' or '_' between them: %w", name, errdefs.ErrInvalidArgument)
	}
	return nil
}

// maxLabel in bytes is how long a label's key and value may be together.
const maxLabel = 4096

// ValidLabels tells what is wrong with labels: a key must not be empty, and key and value have at most 4,096 bytes.
func ValidLabels(labels map[string]string) error {
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if k == "" {
			return fmt.Errorf("label with value %.20q has no key: %w", labels[k], errdefs.ErrInvalidArgument)
		}
		if n := len(k) + len(labels[k]); n > maxLabel {
			return fmt.Errorf("label %.40s: key and value have %d bytes, at most %d: %w", k, n, maxLabel, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// MergeLabels is labels after a change: those of change added, or put in place of all with replace; an empty value
// removes. Neither argument is changed.
func MergeLabels(labels, change map[string]string, replace bool) map[string]string {
	merged := map[string]string{}
	if !replace {
		maps.Copy(merged, labels)
	}
	maps.Copy(merged, change)
	maps.DeleteFunc(merged, func(_, v string) bool { return v == "" })
	return merged
}

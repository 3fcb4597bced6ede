package snapshot

import "context"

// Backing is what a ledger's snapshots are made in: directories (see Directories), or the snapshotter of somebody else.
// Of a record the methods look at Dir, Backend and Kind. Its String names it for the log.
type Backing interface {
	String() string
	// List names all there is of ours.
	List(ctx context.Context) ([]Held, error)
	// Make has do make what belongs to a record in a place; that counts as whole when do has succeeded.
	Make(ctx context.Context, r Record, do func(at string) error) error
	// Doom makes it count as not whole any more; that there is nothing is no error.
	Doom(ctx context.Context, r Record) error
	// Delete deletes it, whole or not; that there is nothing is no error.
	Delete(ctx context.Context, r Record) error
	// Discard deletes what List has found and no record refers to.
	Discard(ctx context.Context, h Held) error
}

// Held is something in a backing.
type Held struct {
	Dir     uint64 // the number that it was made for
	Backend string // its name, where the backing has chosen it
	Place   string // where it is
	Whole   bool
}

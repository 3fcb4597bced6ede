package layer

import "context"

// ChangeKind is how a name has changed, as docker diff writes it.
type ChangeKind string

// The kinds of changes.
const (
	Added   ChangeKind = "A"
	Changed ChangeKind = "C"
	Deleted ChangeKind = "D"
)

// Change is one name that is another in the upper tree than in the lower.
type Change struct {
	Path string // from the root, with a leading slash
	Kind ChangeKind
}

// Changes tells what Diff would write, in the order of a walk. What is in a deleted directory is not told apart; the
// directories on the way to a change are changed too. Nothing is said of the root itself.
func Changes(ctx context.Context, lower, upper string, o DiffOptions) ([]Change, error) {
	return changes(ctx, lower, upper, o, false)
}

// ChangesUpper tells what DiffUpper would write.
func ChangesUpper(ctx context.Context, upper, lower string, o DiffOptions) ([]Change, error) {
	return changes(ctx, lower, upper, o, true)
}

func changes(ctx context.Context, lower, upper string, o DiffOptions, overlay bool) ([]Change, error) {
	d, err := newDiffer(ctx, lower, upper, o, differ{overlay: overlay, listing: true})
	if err != nil {
		return nil, err
	}
	defer d.close()
	var out []Change
	for _, e := range d.chosen() {
		kind := Added
		switch {
		case e.name == "":
			continue
		case e.kind == removed:
			kind = Deleted
		case e.old:
			kind = Changed
		}
		out = append(out, Change{"/" + e.name, kind})
	}
	return out, nil
}

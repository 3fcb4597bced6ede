package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// DiffOptions say how changes are written down.
type DiffOptions struct {
	// SourceDate, if not zero, is the latest modification time that is written; later ones become it. With it, two builds
	// that make the same files at different times give the same layer (SOURCE_DATE_EPOCH).
	SourceDate time.Time
	// UIDMap and GIDMap are those of the user namespace that the upper tree was written in; its owners are mapped back.
	UIDMap, GIDMap []IDMap
	// Omit has names, from the root and without a leading slash, that a runtime has made to mount something there: what is at
	// them is left out where the lower tree has no such name and nobody has put anything into it, and so is what their
	// making has changed of the directory that they are in.
	Omit map[string]bool
}

// IDMap says that the ids from Inside are those from Outside in the upper tree.
type IDMap struct{ Inside, Outside, Size uint32 }

// Diff writes the layer that turns the tree lower into upper; "" for lower is the empty tree. Both are directories as one
// sees them, mounted if need be.
//
// The layer is a function of the trees alone: names in byte order, PAX headers without access and change times and names
// of users. Directories on the way to a change are in it, since a layer applied by itself needs their attributes. What
// is the same in size, owner, mode, attributes and modification time counts as unchanged; contents are compared when the
// times have no fraction of a second, and so may have been set. Sockets are left out, as tar has no place for them.
func Diff(ctx context.Context, w io.Writer, lower, upper string, o DiffOptions) error {
	d, err := newDiffer(ctx, lower, upper, o, differ{})
	if err != nil {
		return err
	}
	defer d.close()
	return d.write(w)
}

// DiffUpper is Diff of an overlay, from its upper directory: only what is in there is looked at. lower is the tree below,
// mounted; it tells a change from what has only been copied up, and "" says that there is none. The kind of the overlay's
// attributes (trusted or user) is seen from themselves. ErrFailedPrecondition for an upper directory written with
// redirect_dir or metacopy, which needs the overlay to be understood: use Diff on that.
func DiffUpper(ctx context.Context, w io.Writer, upper, lower string, o DiffOptions) error {
	d, err := newDiffer(ctx, lower, upper, o, differ{overlay: true})
	if err != nil {
		return err
	}
	defer d.close()
	return d.write(w)
}

// newDiffer gathers what is to be written or told.
func newDiffer(ctx context.Context, lower, upper string, o DiffOptions, d differ) (*differ, error) {
	d.ctx, d.o, d.links = ctx, o, map[inode]*linkGroup{}
	var err error
	if d.upper, err = openTree(upper); err != nil {
		return nil, err
	}
	if lower != "" {
		d.lower, err = openTree(lower)
	}
	if err == nil {
		err = d.compareRoot()
	}
	if err != nil {
		d.close()
		return nil, err
	}
	return &d, nil
}

func (d *differ) close() {
	d.upper.close()
	if d.lower != nil {
		d.lower.close()
	}
}

type changeKind int

const (
	present changeKind = iota
	removed
	opaque
)

// entry is a candidate for the layer.
type entry struct {
	name    string // relative to the root; of what is removed, its own
	kind    changeKind
	file    file
	changed bool // otherwise it is there for what it belongs to: a directory's contents, a file's other names
	old     bool // the lower tree has the name too
}

type inode struct{ dev, ino uint64 }

// linkGroup is the names of one file. If one of them is written all are, so that they are one file again.
type linkGroup struct {
	changed bool
	lower   inode // what the first unchanged one is in the lower tree
	first   string
}

// differ gathers the entries in a first pass and writes them in a second.
type differ struct {
	ctx          context.Context
	o            DiffOptions
	lower, upper *tree
	overlay      bool // the upper tree is the upper directory of one
	listing      bool // of names, for people: what an opaque directory hides is named
	entries      []entry
	links        map[inode]*linkGroup
}

// compareRoot: the root has an entry only if it differs by more than its time, which every change in it changes.
func (d *differ) compareRoot() error {
	up, err := d.upperFile("")
	if err != nil {
		return err
	}
	low := file{stat: unix.Stat_t{Mode: unix.S_IFDIR | 0o755}}
	if d.lower != nil {
		if low, err = d.lower.file(""); err != nil {
			return err
		}
	}
	low.stat.Mtim = up.stat.Mtim
	d.add(entry{name: "", file: up, changed: !sameAttributes(up, low), old: d.lower != nil})
	_, err = d.directory("", d.lower != nil, false)
	return err
}

// upperFile reads a file's attributes, with its owner as seen inside.
func (d *differ) upperFile(name string) (file, error) {
	f, err := d.upper.file(name)
	f.stat.Uid = inside(f.stat.Uid, d.o.UIDMap)
	f.stat.Gid = inside(f.stat.Gid, d.o.GIDMap)
	return f, err
}

func inside(id uint32, maps []IDMap) uint32 {
	for _, m := range maps {
		if id >= m.Outside && id-m.Outside < m.Size {
			return m.Inside + (id - m.Outside)
		}
	}
	return id
}

func (d *differ) add(e entry) { d.entries = append(d.entries, e) }

// directory compares one that is in the upper tree; below says that the lower has a directory of the name too, and hidden
// that an opaque directory above hides that. It tells whether something was omitted.
func (d *differ) directory(name string, below, hidden bool) (omitted bool, err error) {
	if err := d.ctx.Err(); err != nil {
		return false, err
	}
	if d.overlay {
		hides, err := d.upper.isOpaque(name)
		if err != nil {
			return false, err
		}
		hidden = hidden || hides && d.listing
		if hides && below && !d.listing {
			d.add(entry{name: join(name, opaqueMarker), kind: opaque, changed: true})
			below = false
		}
	}
	names, err := d.upper.names(name)
	if err != nil {
		return false, err
	}
	var gone []string
	if below && (!d.overlay || hidden) {
		lowers, err := d.lower.names(name)
		if err != nil {
			return false, err
		}
		for _, n := range lowers {
			if _, found := slices.BinarySearch(names, n); !found {
				gone = append(gone, n)
			}
		}
	}
	for _, n := range merge(names, gone) {
		if _, found := slices.BinarySearch(gone, n); found {
			d.add(entry{name: join(name, n), kind: removed, changed: true})
			continue
		}
		left, err := d.child(join(name, n), below, hidden)
		if err != nil {
			return false, err
		}
		omitted = omitted || left
	}
	return omitted, nil
}

func merge(a, b []string) []string {
	if len(b) == 0 {
		return a
	}
	all := slices.Concat(a, b)
	slices.Sort(all)
	return all
}

// child compares one name of the upper tree; below says that its directory is in the lower one.
func (d *differ) child(name string, below, hidden bool) (omitted bool, err error) {
	up, err := d.upperFile(name)
	if err != nil {
		if errors.Is(err, unix.ENOENT) {
			return false, nil // gone since the directory was read: a container is running
		}
		return false, err
	}
	low, exists := file{}, false
	if below {
		low, err = d.lower.file(name)
		exists = err == nil
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
			return false, err
		}
	}
	if d.overlay {
		if white, err := d.upper.isWhiteout(name, up); err != nil {
			return false, err
		} else if white {
			if exists {
				d.add(entry{name: name, kind: removed, changed: true})
			}
			return false, nil
		}
	}
	omit := !exists && d.o.Omit[name]
	switch up.kind() {
	case unix.S_IFSOCK:
		return false, nil
	case unix.S_IFDIR:
		return omit, d.childDirectory(name, up, low, exists, omit, hidden)
	}
	if omit && up.stat.Size == 0 {
		return true, nil
	}
	same := exists && sameAttributes(up, low)
	if same && up.kind() == unix.S_IFREG && up.stat.Mtim.Nsec == 0 {
		if same, err = d.sameContents(name, up.stat.Size); err != nil {
			return false, err
		}
	}
	if up.stat.Nlink > 1 {
		d.group(name, up, low, same)
	}
	if !same || up.stat.Nlink > 1 {
		d.add(entry{name: name, file: up, changed: !same, old: exists})
	}
	return false, nil
}

func (d *differ) childDirectory(name string, up, low file, exists, omit, hidden bool) error {
	isDir := exists && low.kind() == unix.S_IFDIR
	at := len(d.entries)
	d.add(entry{name: name, file: up, changed: !omit && (!isDir || !sameAttributes(up, low)), old: exists})
	omitted, err := d.directory(name, isDir, hidden)
	if omitted && isDir {
		low.stat.Mtim = up.stat.Mtim // which the making of the names has changed
		d.entries[at].changed = !sameAttributes(up, low)
	}
	return err
}

// group notes a name of a file that has several.
func (d *differ) group(name string, up, low file, same bool) {
	g := d.links[up.inode()]
	if g == nil {
		g = &linkGroup{first: name}
		d.links[up.inode()] = g
	}
	switch {
	case !same:
		g.changed = true
	case g.lower == inode{}:
		g.lower = low.inode()
	case g.lower != low.inode():
		g.changed = true // the same bytes in two files have become one file
	}
}

// sameAttributes compares all that a layer says about a file but its contents.
func sameAttributes(a, b file) bool {
	x, y := &a.stat, &b.stat
	if x.Mode != y.Mode || x.Uid != y.Uid || x.Gid != y.Gid || x.Mtim != y.Mtim || a.target != b.target {
		return false
	}
	switch a.kind() {
	case unix.S_IFREG:
		if x.Size != y.Size {
			return false
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		if x.Rdev != y.Rdev {
			return false
		}
	}
	return maps.Equal(a.xattrs, b.xattrs)
}

// chosen drops the candidates that nothing needs. It goes backwards: what follows a directory in the order of the walk is
// in it, so the nearest entry kept tells whether the directory is on the way to one.
func (d *differ) chosen() []entry {
	var out []entry
	last := ""
	for _, e := range slices.Backward(d.entries) {
		if e.kind == present && !e.changed {
			keep := false
			if e.file.kind() == unix.S_IFDIR {
				keep = e.name != "" && strings.HasPrefix(last, e.name+"/")
			} else if g := d.links[e.file.inode()]; g != nil {
				keep = g.changed
			}
			if !keep {
				continue
			}
		}
		last = e.name
		out = append(out, e)
	}
	slices.Reverse(out)
	return out
}

// refuseOverlayOnly: see DiffUpper.
func refuseOverlayOnly(name, attribute string) error {
	return fmt.Errorf("upper directory: %s has the attribute %s, it was written with redirect_dir or metacopy: %w",
		name, attribute, errdefs.ErrFailedPrecondition)
}

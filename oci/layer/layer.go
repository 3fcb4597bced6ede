// Package layer turns layers into directory trees and directory trees into layers.
//
// A layer is a tar archive of what changed (image-spec, layer.md): new and changed files as entries, removed ones as
// whiteouts. Apply unpacks one, trusting nothing in it; Diff and DiffUpper make one, the same bytes for the same trees.
// What packs it (package compression), digests, registries and the places where trees are kept are not known here.
package layer

import (
	"archive/tar"
	"errors"
	"strings"
)

// Names with a meaning in a layer (image-spec, layer.md, "Whiteouts").
const (
	whiteoutPrefix = ".wh."
	// opaqueMarker says that its directory hides all that lower layers have in it.
	opaqueMarker = ".wh..wh..opq"
	// reservedPrefix begins aufs' own files, which some old layers contain; they are no part of the image.
	reservedPrefix = ".wh..wh."
)

// Extended attributes of overlayfs; with the option userxattr (Linux 5.11) they are in the user namespace.
const (
	trustedOverlay = "trusted.overlay."
	userOverlay    = "user.overlay."
	xattrOpaque    = "opaque"
	xattrWhiteout  = "whiteout" // on an empty regular file; Linux 6.7
	xattrRedirect  = "redirect"
	xattrMetacopy  = "metacopy"
	// xattrImplied is ours, in overlayfs' namespace so that it is never seen through a mount: see Inherit.
	xattrImplied = "mini.implied"
)

// paxXattr is how PAX headers carry extended attributes.
const paxXattr = "SCHILY.xattr."

// ErrNeedsParent is returned by Apply when a layer cannot be applied on its own, without the layers below it: it has a
// hard link to a file of theirs. Apply it to a mounted snapshot of its parent, with Remove.
var ErrNeedsParent = errors.New("the layer refers to files of the layers below it")

// Whiteouts says what becomes of a layer's whiteouts.
type Whiteouts int

const (
	// Remove takes whiteouts as orders: what they name is deleted from the tree, which holds the lower layers.
	Remove Whiteouts = iota
	// Overlay turns them into overlayfs' own: character devices 0:0 and the attribute "opaque". The tree holds this
	// layer alone and needs no other to be there.
	Overlay
)

func overlayXattr(user bool, name string) string {
	if user {
		return userOverlay + name
	}
	return trustedOverlay + name
}

// isSparse says whether the entry's contents have holes. archive/tar reads them as zeros and does not say where.
func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

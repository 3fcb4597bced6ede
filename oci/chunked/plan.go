package chunked

import (
	"io"

	"github.com/opencontainers/go-digest"
)

// Limits of what is worth a request of its own.
const (
	maxRequests = 64
	minSaved    = 8 << 10 // bytes between two requests that are not asked for
)

// Wanted is a layer that is to be put together.
type Wanted struct {
	segments []Segment
	places   map[Key]place // where segments are; without a layer: not known
	missing  int
}

type place struct {
	layer  digest.Digest
	offset int64
}

// Want reads the table of a layer that is wanted.
func Want(t Table, compressed io.Reader) (*Wanted, error) {
	w := &Wanted{places: map[Key]place{}}
	if err := t.Segments(compressed, func(s Segment) {
		w.segments = append(w.segments, s)
		w.places[s.Key] = place{}
	}); err != nil {
		return nil, err
	}
	w.missing = len(w.places)
	return w, nil
}

// Look looks for segments in a layer that is here and has a table. It tells whether there are any.
func (w *Wanted) Look(d digest.Digest, layer io.ReaderAt, t Table) (found bool, err error) {
	err = t.Segments(io.NewSectionReader(layer, t.Offset, t.Size), func(s Segment) {
		if p, wanted := w.places[s.Key]; wanted && p.layer == "" {
			w.places[s.Key] = place{d, s.Offset}
			w.missing--
			found = true
		}
	})
	return found, err
}

// Whole tells that nothing more need be looked for.
func (w *Wanted) Whole() bool { return w.missing == 0 }

// Piece is a run of bytes of the wanted layer and where it is had from.
type Piece struct {
	Offset, Size int64
	Layer        digest.Digest // that has the bytes; empty: they are fetched
	From         int64         // where they are in that layer
}

// End is where the piece ends.
func (p Piece) End() int64 { return p.Offset + p.Size }

// Pieces is the layer in pieces, up to its table. Runs of bytes that are too short to be worth two requests, before and
// behind them, are fetched with their neighbours, so that there are few requests.
func (w *Wanted) Pieces() []Piece {
	pieces := make([]Piece, 0, len(w.segments))
	for _, s := range w.segments {
		p := w.places[s.Key]
		pieces = append(pieces, Piece{s.Offset, s.Size, p.layer, p.offset})
	}
	for shortest := int64(minSaved); ; shortest *= 2 {
		joined, requests := join(pieces, shortest)
		if requests <= maxRequests {
			return joined
		}
	}
}

// join makes of neighbours one piece, and fetches what is here but shorter than some bytes and lies between what is fetched.
func join(pieces []Piece, shortest int64) (joined []Piece, requests int) {
	begun := 0 // where in joined the last run of what is here begins
	var here int64
	for _, p := range pieces {
		if p.Layer != "" {
			here += p.Size
			joined = extend(joined, p)
			continue
		}
		if here < shortest && begun > 0 {
			joined = joined[:begun] // at its end is something fetched
			last := &joined[begun-1]
			last.Size = p.Offset - last.Offset
		}
		joined = extend(joined, p)
		begun, here = len(joined), 0
	}
	for _, p := range joined {
		if p.Layer == "" {
			requests++
		}
	}
	return joined, requests
}

// extend puts a piece behind others, and makes one of it and the last where it is its continuation.
func extend(list []Piece, p Piece) []Piece {
	if n := len(list); n > 0 {
		last := &list[n-1]
		if last.Layer == p.Layer && (p.Layer == "" || last.From+last.Size == p.From) {
			last.Size += p.Size
			return list
		}
	}
	return append(list, p)
}

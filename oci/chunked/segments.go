package chunked

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"maps"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// Key says what a segment holds. Segments with the same key are taken to be of the same bytes.
type Key [sha256.Size]byte

// Segment is a part of a layer between two places that its table knows: the data of a file or of a part of one, or the
// heads of files.
type Segment struct {
	Offset, Size int64
	Key          Key
}

// Segments reads a compressed table and calls yield for each segment of its layer, in their order and without gaps, from
// the first byte to the table's frame. On an error what was yielded means nothing.
//
// Errors: ErrInvalidArgument (malformed, or it does not have the table's checksum), and the reader's.
func (t Table) Segments(compressed io.Reader, yield func(Segment)) error {
	packed, is := io.LimitReader(compressed, t.Size), func() bool { return true }
	if t.Checksum != "" {
		v := t.Checksum.Verifier()
		packed, is = io.TeeReader(packed, v), v.Verified
	}
	z, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxTable))
	if err != nil {
		return err
	}
	defer z.Close()
	w := walker{hash: sha256.New(), limit: t.Start(), yield: yield}
	if err := readEntries(io.LimitReader(z, t.Plain), w.entry); err != nil {
		return err
	}
	if err := w.finish(); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, packed); err != nil {
		return err
	}
	if !is() {
		return malformed("it is not the one with the digest %s", t.Checksum)
	}
	return nil
}

// entry is a file of the table, or, of the type "chunk", a further part of the file before it.
type entry struct {
	Type        string            `json:"type"`
	Name        string            `json:"name"`
	Linkname    string            `json:"linkName"`
	Mode        int64             `json:"mode"`
	Size        int64             `json:"size"` // bytes
	UID         int64             `json:"uid"`
	GID         int64             `json:"gid"`
	UserName    string            `json:"userName"`
	GroupName   string            `json:"groupName"`
	ModTime     string            `json:"modtime"`
	AccessTime  string            `json:"accesstime"`
	ChangeTime  string            `json:"changetime"`
	Devmajor    int64             `json:"devMajor"`
	Devminor    int64             `json:"devMinor"`
	Xattrs      map[string]string `json:"xattrs"`
	Digest      string            `json:"digest"`
	Offset      int64             `json:"offset"`    // of its frame in the layer; 0: it has no data
	EndOffset   int64             `json:"endOffset"` // of the file's last frame; 0: it ends where the next one begins
	ChunkSize   int64             `json:"chunkSize"` // of this part of the file, decompressed; 0: it is the whole
	ChunkDigest string            `json:"chunkDigest"`
}

// readEntries reads the entries of a table one by one.
func readEntries(table io.Reader, each func(*entry) error) error {
	d := json.NewDecoder(table)
	if err := expect(d, json.Delim('{')); err != nil {
		return err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return malformed("%v", err)
		}
		if key != "entries" {
			var skipped json.RawMessage
			if err := d.Decode(&skipped); err != nil {
				return malformed("%v", err)
			}
			continue
		}
		if err := expect(d, json.Delim('[')); err != nil {
			return err
		}
		for d.More() {
			var e entry
			if err := d.Decode(&e); err != nil {
				return malformed("%v", err)
			}
			if err := each(&e); err != nil {
				return err
			}
		}
		if err := expect(d, json.Delim(']')); err != nil {
			return err
		}
	}
	return expect(d, json.Delim('}'))
}

func expect(d *json.Decoder, want json.Delim) error {
	got, err := d.Token()
	if err != nil && !errors.Is(err, io.EOF) || got != want {
		return malformed("%v where %v is expected (%v)", got, want, err)
	}
	return nil
}

// walker goes through a layer's entries in the order of its files.
type walker struct {
	hash  hash.Hash // of what is in the segment that began last
	at    int64     // where it began
	limit int64     // where the last one ends
	end   int64     // where the data of the last file ends, where the table says that
	size  int64     // of the last file
	yield func(Segment)
}

func (w *walker) entry(e *entry) error {
	if e.Type != "chunk" {
		if err := w.endFile(); err != nil {
			return err
		}
		w.head(e)
		w.end, w.size = e.EndOffset, e.Size
	}
	if e.Offset == 0 {
		return nil
	}
	of := cmp.Or(e.ChunkDigest, e.Digest)
	if of == "" {
		return malformed("%q has data without a digest", e.Name)
	}
	if err := w.cut(e.Offset); err != nil {
		return err
	}
	w.text("data", of)
	w.number(cmp.Or(e.ChunkSize, e.Size))
	return nil
}

// head has what a file's head is made of in the key.
func (w *walker) head(e *entry) {
	w.text("head", e.Type, e.Name, e.Linkname, e.UserName, e.GroupName, e.ModTime, e.AccessTime, e.ChangeTime)
	w.number(e.Mode, e.Size, e.UID, e.GID, e.Devmajor, e.Devminor, int64(len(e.Xattrs)))
	for _, k := range slices.Sorted(maps.Keys(e.Xattrs)) {
		w.text(k, e.Xattrs[k])
	}
}

// endFile cuts behind the data of a file, where the table says where that is. Before the next head comes what fills up its
// last block.
func (w *walker) endFile() error {
	if w.end == 0 {
		return nil
	}
	if err := w.cut(w.end); err != nil {
		return err
	}
	w.text("filling")
	w.number(w.size % 512)
	w.end = 0
	return nil
}

func (w *walker) finish() error {
	if err := w.endFile(); err != nil {
		return err
	}
	w.text("end")
	return w.cut(w.limit)
}

// cut ends a segment.
func (w *walker) cut(at int64) error {
	if at < w.at || at > w.limit {
		return malformed("offset %d is not between %d and %d", at, w.at, w.limit)
	}
	if at == w.at {
		return nil
	}
	s := Segment{Offset: w.at, Size: at - w.at}
	w.number(s.Size)
	w.hash.Sum(s.Key[:0])
	w.hash.Reset()
	w.at = at
	w.yield(s)
	return nil
}

func (w *walker) text(list ...string) {
	for _, s := range list {
		w.number(int64(len(s)))
		_, _ = io.WriteString(w.hash, s)
	}
}

func (w *walker) number(list ...int64) {
	var b [8]byte
	for _, n := range list {
		_, _ = w.hash.Write(binary.LittleEndian.AppendUint64(b[:0], uint64(n)))
	}
}

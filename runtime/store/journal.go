package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/failpoint"
)

// A database commit costs two syncs of a disk. Changes that a power cut may undo (Soon) go into a file beside the
// database first, by one write without a sync, and are held in memory; the next commit takes them into the database.
//
// An entry of the journal names the database's transaction that it follows, and its place after it. Entries that
// follow another transaction than the last one are in the database already, so the file is written over from its
// beginning after each commit, and is never cleared. The database cannot lose a commit that entries follow, since that
// was synced before they were written; they can be lost from any of them on, which ends what is read.
type journal struct {
	file *os.File
	size int64 // of the valid entries
	next uint32
}

// pending are the changes in the journal: those that follow the transaction base. It is not changed once published.
type pending struct {
	base uint64
	rows map[row]write
}

const (
	// journalLimit in bytes is when the journal is taken into the database, whoever waits.
	journalLimit = 1 << 20
	entryHead    = 4 + 4 + 8 + 4 // checksum, length of the rows, base, place
	deletedRow   = 0
	savedRow     = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openJournal opens the journal of a database whose last transaction is base, and reads what follows that.
func openJournal(path string, base uint64) (*journal, pending, error) {
	p := pending{base: base}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, p, err
	}
	j := &journal{file: file}
	if p.rows, err = j.read(base); err == nil {
		err = j.reserve()
	}
	if err != nil {
		return nil, p, errors.Join(err, file.Close())
	}
	return j, p, nil
}

// read gives the changes of the valid entries. A file without any is emptied: were the database replaced by an older
// copy, it could some day come to the transaction that they follow.
func (j *journal) read(base uint64) (map[row]write, error) {
	data, err := io.ReadAll(j.file)
	if err != nil {
		return nil, err
	}
	all := map[row]write{}
	for {
		rows, n, ok := readEntry(data[j.size:], base, j.next)
		if !ok {
			break
		}
		maps.Copy(all, rows)
		j.size += int64(n)
		j.next++
	}
	if j.size > 0 || len(data) == 0 {
		return all, nil
	}
	return all, j.file.Truncate(0)
}

// reserve sets space aside: a full disk shall not keep the records of what is deleted from being written.
func (j *journal) reserve() error {
	err := unix.Fallocate(int(j.file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 2*journalLimit)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSPC) {
		return nil
	}
	return err
}

// append writes an entry. When it fails, the journal is as before.
func (j *journal) append(base uint64, rows map[row]write) error {
	entry := appendEntry(nil, base, j.next, rows)
	if _, err := j.file.WriteAt(entry, j.size); err != nil {
		return err
	}
	j.size += int64(len(entry))
	j.next++
	return nil
}

func appendEntry(to []byte, base uint64, place uint32, rows map[row]write) []byte {
	begin := len(to)
	to = append(to, make([]byte, entryHead)...)
	for r, w := range rows {
		kind := byte(savedRow)
		if w.deleted {
			kind = deletedRow
		}
		to = append(to, kind)
		for _, field := range []string{r.kind, r.key, string(w.data)} {
			to = binary.AppendUvarint(to, uint64(len(field)))
			to = append(to, field...)
		}
	}
	head := to[begin:]
	binary.LittleEndian.PutUint32(head[4:], uint32(len(head)-entryHead))
	binary.LittleEndian.PutUint64(head[8:], base)
	binary.LittleEndian.PutUint32(head[16:], place)
	binary.LittleEndian.PutUint32(head, crc32.Checksum(head[4:], castagnoli))
	return to
}

// readEntry reads the entry at the beginning of data, if there is a whole one that follows base in that place.
func readEntry(data []byte, base uint64, place uint32) (rows map[row]write, n int, ok bool) {
	if len(data) < entryHead {
		return nil, 0, false
	}
	length := binary.LittleEndian.Uint32(data[4:])
	if uint64(length) > uint64(len(data)-entryHead) {
		return nil, 0, false
	}
	n = entryHead + int(length)
	if binary.LittleEndian.Uint32(data) != crc32.Checksum(data[4:n], castagnoli) ||
		binary.LittleEndian.Uint64(data[8:]) != base || binary.LittleEndian.Uint32(data[16:]) != place {
		return nil, 0, false
	}
	rows = map[row]write{}
	for rest := data[entryHead:n]; len(rest) > 0; {
		kind := rest[0]
		var fields [3]string
		rest = rest[1:]
		for i := range fields {
			size, used := binary.Uvarint(rest)
			if used <= 0 || size > uint64(len(rest)-used) {
				return nil, 0, false
			}
			fields[i] = string(rest[used : used+int(size)])
			rest = rest[used+int(size):]
		}
		rows[row{fields[0], fields[1]}] = write{data: savedData(kind, fields[2]), deleted: kind == deletedRow}
	}
	return rows, n, true
}

func savedData(kind byte, data string) []byte {
	if kind == deletedRow {
		return nil
	}
	return []byte(data)
}

// Soon is Update for a change that need not survive a power cut, as what is true only while the machine runs. When it
// returns nil the change is written, and survives the end of this process, however it ends; it is on disk with the next
// Update, and SoonDelay later at the latest. A power cut undoes the last changes and never one without those after it.
func (s *Store) Soon(fn func(tx *Tx) error) error { return s.submit(&change{fn: fn, soon: true}) }

// Flush returns when all changes before it are on disk.
func (s *Store) Flush() error {
	return s.submit(&change{fn: func(*Tx) error { return nil }, flush: true})
}

// soften takes a batch of which nothing has to be on disk now: each change into the journal, and with it into memory.
func (s *Store) soften(batch []*change) error {
	btx, err := s.db.Begin(false)
	if err != nil {
		return err
	}
	before := s.pending.Load()
	under := maps.Clone(before.rows)
	if under == nil {
		under = map[row]write{}
	}
	wrote := map[row]write{}
	for _, c := range batch {
		tx := &Tx{btx: btx, under: under}
		if c.err = c.run(tx); c.err != nil {
			continue
		}
		maps.Copy(under, tx.writes)
		maps.Copy(wrote, tx.writes)
	}
	if len(wrote) == 0 {
		return btx.Rollback()
	}
	err = errors.Join(s.journal.append(before.base, wrote), btx.Rollback())
	if err != nil {
		return err
	}
	s.pending.Store(&pending{base: before.base, rows: under})
	if len(before.rows) == 0 {
		s.later.Reset(SoonDelay)
	}
	return failpoint.Hit("store-journaled")
}

// flushLate is called a while after a change that nobody has waited for.
func (s *Store) flushLate() {
	if err := s.Flush(); err != nil && !errdefs.IsUnavailable(err) {
		s.log.Error("changes are not on disk yet; a power cut would undo them", "path", s.path, "error", err)
		s.later.Reset(SoonDelay)
	}
}

// flushLast is called when nobody writes any more.
func (s *Store) flushLast() {
	if s.broken || len(s.pending.Load().rows) == 0 {
		return
	}
	if err := s.harden(nil, true); err != nil {
		s.log.Warn("some changes stay in the journal", "path", s.path, "error", err)
	}
}

func (s *Store) journalPath() string { return s.path + ".journal" }

// recoverJournal takes over what the last daemon had in the journal.
func (s *Store) recoverJournal() error {
	base, err := s.lastTransaction()
	if err != nil {
		return err
	}
	j, p, err := openJournal(s.journalPath(), base)
	if err != nil {
		return fmt.Errorf("store %s: its journal: %w", s.path, explain(err))
	}
	s.journal = j
	s.pending.Store(&p)
	return nil
}

// settled is called when the database has everything, with its last transaction.
func (s *Store) settled(id uint64) {
	s.pending.Store(&pending{base: id})
	s.journal.size, s.journal.next = 0, 0
}

func (s *Store) lastTransaction() (uint64, error) {
	btx, err := s.db.Begin(false)
	if err != nil {
		return 0, err
	}
	return uint64(btx.ID()), btx.Rollback()
}

package ship

import (
	"encoding/binary"
	"os"

	"github.com/minirt/mini/runtime/logs"
)

// cursorFile keeps the place behind the last entry that was sent. It is written after each of them, with one pwrite(2) and
// without a sync: the page cache survives the daemon. After a power cut the place may be an older one, or none.
type cursorFile struct{ f *os.File }

// cursorSize in bytes: file, offset, and both mixed, which tells a whole one from half of one.
const cursorSize = 24

func openCursor(path string) (*cursorFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return &cursorFile{f}, nil
}

func (c *cursorFile) close() { c.f.Close() }

// seal is the third number.
func seal(c logs.Cursor) uint64 { return c.File ^ uint64(c.Offset)*0x9e3779b97f4a7c15 ^ 0x6d696e69 }

// load is the place; the beginning when there is none.
func (c *cursorFile) load() logs.Cursor {
	var b [cursorSize]byte
	if n, err := c.f.ReadAt(b[:], 0); n < cursorSize || err != nil {
		return logs.Cursor{}
	}
	at := logs.Cursor{File: binary.LittleEndian.Uint64(b[:]), Offset: int64(binary.LittleEndian.Uint64(b[8:]))}
	if binary.LittleEndian.Uint64(b[16:]) != seal(at) || at.Offset < 0 {
		return logs.Cursor{}
	}
	return at
}

func (c *cursorFile) save(at logs.Cursor) error {
	var b [cursorSize]byte
	binary.LittleEndian.PutUint64(b[:], at.File)
	binary.LittleEndian.PutUint64(b[8:], uint64(at.Offset))
	binary.LittleEndian.PutUint64(b[16:], seal(at))
	_, err := c.f.WriteAt(b[:], 0)
	return err
}

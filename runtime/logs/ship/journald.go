package ship

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/id"
	"github.com/minirt/mini/runtime/logs/driver"
)

// journalSocket is where systemd-journald takes its native protocol: one datagram an entry
// (https://systemd.io/JOURNAL_NATIVE_PROTOCOL).
const journalSocket = "/run/systemd/journal/socket"

// Priorities of syslog(3), which the journal has too.
const (
	priorityError = 3
	priorityInfo  = 6
)

func priorityOf(stream string) int {
	if stream == "stderr" {
		return priorityError
	}
	return priorityInfo
}

type journald struct {
	conn  *net.UnixConn
	fixed []byte // the fields that every entry has
	buf   []byte
}

func openJournald(s driver.Ship, socket string) (*journald, error) {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("journald is not enabled on this host: %w", err)
	}
	j := &journald{conn: conn}
	for key, value := range map[string]string{
		"CONTAINER_ID": id.Short(s.Info.ID), "CONTAINER_ID_FULL": s.Info.ID, "CONTAINER_NAME": s.Info.Name, "CONTAINER_TAG": s.Tag,
		"IMAGE_NAME": s.Info.ImageName, "SYSLOG_IDENTIFIER": s.Tag,
	} {
		j.fixed = field(j.fixed, key, []byte(value))
	}
	for _, key := range slices.Sorted(maps.Keys(s.Attrs)) {
		if name := journalName(key); name != "" {
			j.fixed = field(j.fixed, name, []byte(s.Attrs[key]))
		}
	}
	return j, nil
}

// journalName makes a field's name of a label's or a variable's, as Docker does: capital letters, digits and underscores,
// of which none comes first.
func journalName(key string) string {
	var name []byte
	for _, r := range key {
		switch {
		case r >= 'a' && r <= 'z':
			r -= 'a' - 'A'
		case (r < 'A' || r > 'Z') && (r < '0' || r > '9'):
			r = '_'
		}
		if len(name) > 0 || r != '_' {
			name = append(name, byte(r))
		}
	}
	return string(name)
}

// field appends one field: KEY=VALUE, or with lines in the value KEY, its length as 64 bits in little endian, and VALUE.
func field(to []byte, key string, value []byte) []byte {
	to = append(to, key...)
	if bytes.IndexByte(value, '\n') < 0 {
		to = append(to, '=')
	} else {
		to = append(to, '\n')
		to = binary.LittleEndian.AppendUint64(to, uint64(len(value)))
	}
	return append(append(to, value...), '\n')
}

func (j *journald) Send(ctx context.Context, l Line) error {
	b := append(j.buf[:0], j.fixed...)
	b = field(b, "MESSAGE", l.text())
	b = field(b, "PRIORITY", strconv.AppendInt(nil, int64(priorityOf(l.Stream)), 10))
	b = field(b, "SYSLOG_TIMESTAMP", []byte(l.Time.UTC().Format(time.RFC3339Nano)))
	if p := l.Part; p != nil {
		b = field(b, "CONTAINER_PARTIAL_ID", []byte(p.ID))
		b = field(b, "CONTAINER_PARTIAL_ORDINAL", strconv.AppendInt(nil, int64(p.Ordinal), 10))
		b = field(b, "CONTAINER_PARTIAL_LAST", strconv.AppendBool(nil, p.Last))
		if !p.Last {
			b = field(b, "CONTAINER_PARTIAL_MESSAGE", []byte("true"))
		}
	}
	j.buf = b
	if deadline, ok := ctx.Deadline(); ok {
		if err := j.conn.SetWriteDeadline(deadline); err != nil {
			return err
		}
	}
	_, err := j.conn.Write(b)
	if errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.ENOBUFS) {
		err = j.sendFile(b)
	}
	return err
}

// sendFile hands over an entry that is too large for a datagram: in a sealed memory file, which the journal takes for one
// that nobody changes any more.
func (j *journald) sendFile(b []byte) error {
	fd, err := unix.MemfdCreate("journal-entry", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "journal-entry")
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	raw, err := j.conn.SyscallConn()
	if err != nil {
		return err
	}
	rights := unix.UnixRights(int(f.Fd()))
	var inner error
	err = raw.Write(func(fd uintptr) bool {
		inner = unix.Sendmsg(int(fd), nil, rights, nil, 0)
		return !errors.Is(inner, unix.EAGAIN)
	})
	return errors.Join(err, inner)
}

func (j *journald) Close() error { return j.conn.Close() }

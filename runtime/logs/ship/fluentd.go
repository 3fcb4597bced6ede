package ship

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/minirt/mini/runtime/logs/driver"
)

// fluentd speaks the Forward protocol, version 1, in its message mode: an array of tag, time, record and option
// (https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1).
type fluentd struct {
	conn   net.Conn
	in     *bufio.Reader
	ship   driver.Ship
	fine   bool // times to the nanosecond
	ack    bool // each message is acknowledged
	record [][2]string
	buf    []byte
}

func openFluentd(ctx context.Context, s driver.Ship) (*fluentd, error) {
	address, err := driver.FluentdAddress(s.Options["fluentd-address"])
	if err != nil {
		return nil, err
	}
	f := &fluentd{ship: s, fine: yes(s, "fluentd-sub-second-precision"), ack: yes(s, "fluentd-request-ack")}
	if address.Network == "tls" {
		f.conn, err = (&tls.Dialer{}).DialContext(ctx, "tcp", address.Address)
	} else {
		var d net.Dialer
		f.conn, err = d.DialContext(ctx, address.Network, address.Address)
	}
	if err != nil {
		return nil, err
	}
	f.in = bufio.NewReader(f.conn)
	f.record = [][2]string{{"container_id", s.Info.ID}, {"container_name", "/" + s.Info.Name}}
	for _, key := range slices.Sorted(maps.Keys(s.Attrs)) {
		f.record = append(f.record, [2]string{key, s.Attrs[key]})
	}
	return f, nil
}

func yes(s driver.Ship, key string) bool {
	is, err := strconv.ParseBool(s.Options[key])
	return err == nil && is
}

// message appends one entry; chunk, when there is one, is to be acknowledged.
func (f *fluentd) message(to []byte, l Line, chunk string) []byte {
	record := append(slices.Clip(f.record), [2]string{"source", l.Stream}, [2]string{"log", string(l.text())})
	if p := l.Part; p != nil {
		if !p.Last {
			record = append(record, [2]string{"partial_message", "true"})
		}
		record = append(record, [2]string{"partial_id", p.ID}, [2]string{"partial_ordinal", strconv.Itoa(p.Ordinal)}, [2]string{"partial_last", strconv.FormatBool(p.Last)})
	}
	option := map[string]string{}
	if chunk != "" {
		option["chunk"] = chunk
	}
	to = packArray(to, 4)
	to = packString(to, f.ship.Tag)
	if f.fine {
		to = packEventTime(to, l.Time)
	} else {
		to = packInt(to, l.Time.Unix())
	}
	to = packMap(to, len(record))
	for _, kv := range record {
		to = packString(packString(to, kv[0]), kv[1])
	}
	to = packMap(to, len(option))
	for key, value := range option {
		to = packString(packString(to, key), value)
	}
	return to
}

func (f *fluentd) Send(ctx context.Context, l Line) error {
	if deadline, ok := ctx.Deadline(); ok {
		if err := f.conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	chunk := ""
	if f.ack {
		var b [16]byte
		rand.Read(b[:]) // never fails
		chunk = base64.StdEncoding.EncodeToString(b[:])
	} else if err := closedByPeer(f.conn); err != nil {
		return err
	}
	f.buf = f.message(f.buf[:0], l, chunk)
	if _, err := f.conn.Write(f.buf); err != nil {
		return err
	}
	if chunk == "" {
		return nil
	}
	got, err := readAck(f.in)
	if err != nil {
		return fmt.Errorf("acknowledgement: %w", err)
	}
	if got != chunk {
		return fmt.Errorf("acknowledgement of another message: %q", got)
	}
	return nil
}

func (f *fluentd) Close() error { return f.conn.Close() }

// The few types of MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md) that go out.

func packArray(to []byte, n int) []byte { return append(to, 0x90|byte(n)) } // up to 15

func packMap(to []byte, n int) []byte {
	if n < 16 {
		return append(to, 0x80|byte(n))
	}
	return append(to, 0xde, byte(n>>8), byte(n)) // up to 65,535
}

func packString(to []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		to = append(to, 0xa0|byte(n))
	case n < 1<<8:
		to = append(to, 0xd9, byte(n))
	case n < 1<<16:
		to = append(to, 0xda, byte(n>>8), byte(n))
	default:
		to = append(to, 0xdb, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(to, s...)
}

func packInt(to []byte, n int64) []byte {
	return append(to, 0xd3, byte(n>>56), byte(n>>48), byte(n>>40), byte(n>>32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

// packEventTime is fluentd's extension of type 0: seconds and nanoseconds, 32 bits each.
func packEventTime(to []byte, t time.Time) []byte {
	s, ns := uint32(t.Unix()), uint32(t.Nanosecond())
	return append(to, 0xd7, 0, byte(s>>24), byte(s>>16), byte(s>>8), byte(s), byte(ns>>24), byte(ns>>16), byte(ns>>8), byte(ns))
}

// maxAck in bytes bounds what is read of an acknowledgement.
const maxAck = 256

// readAck reads {"ack": CHUNK}.
func readAck(in *bufio.Reader) (string, error) {
	head, err := in.ReadByte()
	if err != nil {
		return "", err
	}
	if head != 0x81 {
		return "", fmt.Errorf("a map of one entry is wanted, 0x%02x came", head)
	}
	key, err := readString(in)
	if err != nil {
		return "", err
	}
	if key != "ack" {
		return "", fmt.Errorf("the key ack is wanted, %q came", key)
	}
	return readString(in)
}

func readString(in *bufio.Reader) (string, error) {
	head, err := in.ReadByte()
	if err != nil {
		return "", err
	}
	n := 0
	switch {
	case head&0xe0 == 0xa0:
		n = int(head & 0x1f)
	case head == 0xd9:
		b, err := in.ReadByte()
		if err != nil {
			return "", err
		}
		n = int(b)
	default:
		return "", fmt.Errorf("a short string is wanted, 0x%02x came", head)
	}
	if n > maxAck {
		return "", fmt.Errorf("a string of %d bytes came, at most %d are wanted", n, maxAck)
	}
	b := make([]byte, n)
	for i := range b {
		if b[i], err = in.ReadByte(); err != nil {
			return "", err
		}
	}
	return string(b), nil
}

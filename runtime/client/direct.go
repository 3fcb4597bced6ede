package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/minirt/mini/internal/grpcx"
)

// direct makes calls with one answer over a connection, one after the other: gRPC over HTTP/2 (PROTOCOL-HTTP2.md of gRPC,
// RFC 9113), without goroutines, streams and balancers. Most commands make one such call and end; the library's connection
// took them longer than the daemon takes to answer. What it does not do (streams, calls at the same time, large requests) is
// done by the library.
type direct struct {
	lock   sync.Mutex // held while a call is made
	conn   net.Conn
	framer *http2.Framer
	out    bytes.Buffer // frames that wait for the next write
	fields bytes.Buffer // encoded headers
	encode *hpack.Encoder
	stream uint32 // the last one's number
	sent   int    // bytes of data; the server's window of 64 KiB is not waited for
	got    int    // bytes of data; the window that it was given is not opened again
	broken bool
	idle   *time.Timer
}

const (
	// mostSent bounds what is sent over one connection: the window that a server has opened before it says anything
	// (RFC 9113, section 6.9.2).
	mostSent = 65535
	// mostGot bounds what is received over one, of the largest window that can be given.
	mostGot = math.MaxInt32 / 2
	// linger is how long a connection is kept that nobody uses. Nobody reads what a server says on it meanwhile, that it goes
	// away for instance, so that the server would wait for it.
	linger = 200 * time.Millisecond
	// maxFrame is the largest frame that a server takes unless it says otherwise.
	maxFrame = 16384
)

func newDirect(conn net.Conn) *direct {
	d := &direct{conn: conn}
	d.framer = http2.NewFramer(&d.out, conn)
	d.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	d.framer.SetMaxReadFrameSize(1 << 20)
	d.framer.SetReuseFrames()
	d.encode = hpack.NewEncoder(&d.fields)
	d.out.WriteString(http2.ClientPreface)
	_ = d.framer.WriteSettings( // into a buffer
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: math.MaxInt32},
		http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 20},
		http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	_ = d.framer.WriteWindowUpdate(0, math.MaxInt32-mostSent)
	// At once: a server waits for it, and would at its end. Whether it could be written, the first call tells.
	_ = d.flush()
	d.idle = time.AfterFunc(linger, d.retire)
	return d
}

// retire closes the connection, unless a call is being made.
func (d *direct) retire() {
	if d.lock.TryLock() {
		defer d.lock.Unlock()
		d.broken = true
		_ = d.conn.Close()
	}
}

// errElsewhere says that a call is none for this connection; nothing of it was sent.
var errElsewhere = errors.New("for the library's connection")

// call makes a call and reads its answer. The error is a status, or errElsewhere.
func (d *direct) call(ctx context.Context, method, authority string, request, answer any) error {
	if !d.lock.TryLock() {
		return errElsewhere
	}
	d.idle.Stop()
	defer func() {
		d.idle.Reset(linger)
		d.lock.Unlock()
	}()
	// A frame of data begins with whether it is compressed, and its length.
	data, err := appended(make([]byte, 5, 512), request)
	if err != nil {
		return status.Errorf(codes.Internal, "encode the request: %v", err)
	}
	if d.broken || len(data) > maxFrame || d.sent+len(data) > mostSent || d.got > mostGot {
		return errElsewhere
	}
	if err := ctx.Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	binary.BigEndian.PutUint32(data[1:], uint32(len(data)-5))
	stop := context.AfterFunc(ctx, func() { _ = d.conn.SetDeadline(time.Unix(1, 0)) })
	answered, err := d.roundTrip(ctx, method, authority, data)
	if !stop() {
		d.broken = true // its deadline may have passed meanwhile
	}
	if d.broken {
		_ = d.conn.Close() // the server ends the call with it
	}
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	default:
		return err
	}
	if err := decode(answered, answer); err != nil {
		return status.Errorf(codes.Internal, "decode the answer: %v", err)
	}
	return nil
}

// roundTrip sends a message and returns the one that answers it.
func (d *direct) roundTrip(ctx context.Context, method, authority string, data []byte) ([]byte, error) {
	d.stream += 2
	if d.stream == 2 {
		d.stream = 1
	}
	d.headers(ctx, method, authority)
	_ = d.framer.WriteData(d.stream, true, data) // into a buffer
	d.sent += len(data)
	if err := d.flush(); err != nil {
		return nil, err
	}
	return d.receive()
}

func (d *direct) headers(ctx context.Context, method, authority string) {
	d.fields.Reset()
	add := func(name, value string) { _ = d.encode.WriteField(hpack.HeaderField{Name: name, Value: value}) } // into a buffer
	add(":method", "POST")
	add(":scheme", "http")
	add(":path", method)
	add(":authority", authority)
	add("content-type", "application/grpc")
	add("user-agent", "mini")
	add("te", "trailers")
	if deadline, ok := ctx.Deadline(); ok {
		add("grpc-timeout", timeout(time.Until(deadline)))
	}
	_ = d.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: d.stream, BlockFragment: d.fields.Bytes(), EndHeaders: true})
}

// timeout is a time as grpc-timeout has it: at most 8 digits and a unit.
func timeout(left time.Duration) string {
	left = max(left, time.Microsecond)
	if us := left.Microseconds(); us < 1e8 {
		return strconv.FormatInt(us, 10) + "u"
	}
	return strconv.FormatInt(min(int64(left/time.Second), 1e8-1), 10) + "S"
}

func (d *direct) flush() error {
	_, err := d.conn.Write(d.out.Bytes())
	d.out.Reset()
	if err != nil {
		return d.lost("write to", err)
	}
	return nil
}

// lost is a connection that is of no more use. The words are those of the library, which call knows.
func (d *direct) lost(doing string, err error) error {
	d.broken = true
	return status.Errorf(codes.Unavailable, "connection error: %s the server: %v", doing, err)
}

// receive reads frames until the stream has ended, and returns its message.
func (d *direct) receive() ([]byte, error) {
	var body []byte
	for {
		frame, err := d.framer.ReadFrame()
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = io.EOF
			}
			return nil, d.lost("read from", err)
		}
		switch f := frame.(type) {
		case *http2.DataFrame:
			d.got += int(f.Length)
			if f.StreamID == d.stream {
				body = append(body, f.Data()...)
			}
			if len(body) > grpcx.MaxMessage+5 {
				d.broken = true
				return nil, status.Errorf(codes.ResourceExhausted, "the answer is larger than %d bytes", grpcx.MaxMessage)
			}
		case *http2.MetaHeadersFrame:
			if f.StreamID == d.stream && f.StreamEnded() {
				return message(f, body)
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == d.stream {
				return nil, reset(f.ErrCode)
			}
		case *http2.GoAwayFrame:
			d.broken = true // what was begun is answered still, if its number is not above the last one's
			if f.LastStreamID < d.stream {
				return nil, status.Error(codes.Unavailable, "transport is closing: the server goes away")
			}
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = d.framer.WriteSettingsAck() // with what is sent next
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				_ = d.framer.WritePing(true, f.Data)
				if err := d.flush(); err != nil {
					return nil, err
				}
			}
		}
	}
}

// message is that of a stream that has ended with these headers.
func message(last *http2.MetaHeadersFrame, body []byte) ([]byte, error) {
	if err := statusOf(last); err != nil {
		return nil, err
	}
	if len(body) < 5 || body[0] != 0 || int(binary.BigEndian.Uint32(body[1:])) != len(body)-5 {
		return nil, status.Errorf(codes.Internal, "the answer is not one message: %d bytes", len(body))
	}
	return body[5:], nil
}

// statusOf is the error that the last headers of a stream tell; nil: none.
func statusOf(last *http2.MetaHeadersFrame) error {
	var code, text, details string
	for _, field := range last.RegularFields() {
		switch field.Name {
		case "grpc-status":
			code = field.Value
		case "grpc-message":
			text = field.Value
		case "grpc-status-details-bin":
			details = field.Value
		}
	}
	number, err := strconv.ParseUint(code, 10, 32)
	if err != nil {
		return status.Errorf(codes.Unknown, "this is no gRPC server: HTTP status %s", last.PseudoValue("status"))
	}
	if codes.Code(number) == codes.OK {
		return nil
	}
	if raw, err := base64.RawStdEncoding.DecodeString(trimPadding(details)); err == nil && details != "" {
		full := &spb.Status{}
		if proto.Unmarshal(raw, full) == nil && full.Code == int32(number) {
			return status.FromProto(full).Err()
		}
	}
	if plain, err := url.PathUnescape(text); err == nil {
		text = plain
	}
	return status.Error(codes.Code(number), text)
}

func trimPadding(s string) string { return string(bytes.TrimRight([]byte(s), "=")) }

// reset is what it means that the server has ended a stream without an answer (PROTOCOL-HTTP2.md, "HTTP2 Transport
// Mapping").
func reset(code http2.ErrCode) error {
	c := codes.Internal
	switch code {
	case http2.ErrCodeRefusedStream:
		c = codes.Unavailable
	case http2.ErrCodeCancel:
		c = codes.Canceled
	case http2.ErrCodeEnhanceYourCalm:
		c = codes.ResourceExhausted
	case http2.ErrCodeInadequateSecurity:
		c = codes.PermissionDenied
	}
	return status.Error(c, fmt.Sprintf("the server has ended the call: %v", code))
}

package relay

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// server echoes what it gets, in upper case, and says good bye at the end of a connection.
func server(t *testing.T) (tcp, udp netip.AddrPort) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				data, _ := io.ReadAll(conn)
				conn.Write(append(bytes.ToUpper(data), " bye"...))
			}()
		}
	}()
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	go func() {
		b := make([]byte, 100)
		for {
			n, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			p.WriteTo(bytes.ToUpper(b[:n]), from)
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String()), netip.MustParseAddrPort(p.LocalAddr().String())
}

// free is a port of ::1 that nobody has.
func free(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

func TestRelays(t *testing.T) {
	tcp, udp := server(t)
	at := free(t)
	r := Relays{Log: slog.New(slog.DiscardHandler)}
	if err := r.Open("web", []Route{{"tcp", at, tcp}, {"udp", at, udp}}); err != nil {
		t.Fatal(err)
	}
	if err := r.Open("other", []Route{{"tcp", at, tcp}}); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a port twice: %v", err)
	}
	for range 3 {
		conn, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte("hello"))
		conn.(*net.TCPConn).CloseWrite() // its end is passed on, and the answer still comes
		data, err := io.ReadAll(conn)
		if err != nil || string(data) != "HELLO bye" {
			t.Errorf("answer %q, %v", data, err)
		}
		conn.Close()
	}
	for _, text := range []string{"a", "b"} {
		conn, err := net.Dial("udp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			conn.Write([]byte(text))
			conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			b := make([]byte, 10)
			n, err := conn.Read(b)
			if err != nil || string(b[:n]) != string(bytes.ToUpper([]byte(text))) {
				t.Errorf("datagram %q, %v", b[:n], err)
			}
		}
		conn.Close()
	}
	idle, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	begun := time.Now()
	r.Close("web")
	if time.Since(begun) > 5*time.Second {
		t.Error("the end waits for a connection")
	}
	if _, err := net.Dial("tcp", at.String()); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("after the end: %v", err)
	}
	idle.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := idle.Read(make([]byte, 1)); err == nil || errors.Is(err, unix.EAGAIN) {
		t.Errorf("a connection goes on: %v", err)
	}
	r.CloseAll()
}

func TestNobodyThere(t *testing.T) {
	at := free(t)
	r := Relays{Log: slog.New(slog.DiscardHandler)}
	if err := r.Open("web", []Route{{"tcp", at, netip.MustParseAddrPort("127.0.0.1:1")}}); err != nil {
		t.Fatal(err)
	}
	defer r.CloseAll()
	conn, err := net.Dial("tcp", at.String())
	if err == nil {
		defer conn.Close()
		conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		_, err = conn.Read(make([]byte, 1))
	}
	if !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
	if err := r.Open("x", []Route{{"sctp", at, at}}); err == nil {
		t.Error("sctp is taken")
	}
}

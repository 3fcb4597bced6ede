package ship

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/minirt/mini/runtime/logs"
	"github.com/minirt/mini/runtime/logs/driver"
)

func pid() int { return os.Getpid() }

func example(name string, options map[string]string) driver.Ship {
	return driver.Ship{Driver: name, Options: options, Tag: "tag", Attrs: map[string]string{"my.label": "v"}, Info: driver.Info{ID: strings.Repeat("a", 64), Name: "web", ImageName: "busybox"}}
}

func line(text string) Line {
	return Line{Entry: logs.Entry{Stream: "stdout", Data: []byte(text + "\n"), Time: time.Now()}}
}

func TestJournaldGetsEntriesOfAnySize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	j, err := openJournald(example(driver.Journald, nil), path)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for _, text := range []string{"hello", strings.Repeat("x", 1<<20)} {
		if err := j.Send(t.Context(), line(text)); err != nil {
			t.Fatal(err)
		}
		b, oob := make([]byte, 1<<16), make([]byte, 100)
		n, m, _, _, err := l.ReadMsgUnix(b, oob)
		if err != nil {
			t.Fatal(err)
		}
		got := string(b[:n])
		if m > 0 { // it came as a file
			messages, err := unix.ParseSocketControlMessage(oob[:m])
			if err != nil {
				t.Fatal(err)
			}
			fds, err := unix.ParseUnixRights(&messages[0])
			if err != nil {
				t.Fatal(err)
			}
			f := os.NewFile(uintptr(fds[0]), "entry")
			defer f.Close()
			data, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
			if err != nil {
				t.Fatal(err)
			}
			got = string(data)
		}
		for _, want := range []string{"MESSAGE=" + text + "\n", "PRIORITY=6\n", "CONTAINER_NAME=web\n", "CONTAINER_ID=aaaaaaaaaaaa\n", "CONTAINER_TAG=tag\n", "IMAGE_NAME=busybox\n", "MY_LABEL=v\n"} {
			if !strings.Contains(got, want) {
				t.Errorf("no %.40q in %.400q", want, got)
			}
		}
	}
}

// TestClosedConnectionsAreNotWrittenTo has a server that goes away between two lines: the second must not be lost.
func TestClosedConnectionsAreNotWrittenTo(t *testing.T) {
	for _, name := range []string{driver.Syslog, driver.Fluentd} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		target, err := Open(t.Context(), example(name, map[string]string{"syslog-address": "tcp://" + l.Addr().String(), "fluentd-address": l.Addr().String()}))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if err := target.Send(t.Context(), line("one")); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		eventually(t, name+": the end is noticed", func() bool { return target.Send(t.Context(), line("two")) != nil })
		target.Close()
		l.Close()
	}
}

func TestFluentdAcknowledges(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			in := bufio.NewReader(conn)
			for {
				text, err := in.ReadString('=') // the chunk is base64 of 16 bytes, which ends in ==
				if err != nil {
					break
				}
				if more, err := in.ReadByte(); err != nil || more != '=' {
					break
				}
				chunk := text[len(text)-23:] + "="
				conn.Write(packString(append(packMap(nil, 1), packString(nil, "ack")...), chunk))
			}
			conn.Close()
		}
	}()
	target, err := Open(t.Context(), example(driver.Fluentd, map[string]string{"fluentd-address": "unix://" + l.Addr().String(), "fluentd-request-ack": "true"}))
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	for range 3 {
		if err := target.Send(t.Context(), line("hello")); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBlockedTargetEndsWithTheShipper has a target that takes nothing at all.
func TestBlockedTargetEndsWithTheShipper(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	x := newWorld(t, 100)
	x.o.Path = filepath.Join(t.TempDir(), "log")
	w, err := logs.NewWriter(logs.Options{Driver: logs.DriverJSON, Path: x.o.Path})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	x.o.Open, x.o.Ship = nil, example(driver.Syslog, map[string]string{"syslog-address": "tcp://" + l.Addr().String()})
	stuck := strings.Repeat("x", 8000)
	for range 2000 { // 16 MB are more than the buffers of a connection
		if err := w.Write("stdout", []byte(stuck+"\n"), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	_, stop := x.run()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	time.Sleep(200 * time.Millisecond)
	begun := time.Now()
	stop()
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestOpenSaysWhatDoesNotAnswer(t *testing.T) {
	for name, want := range map[string]string{driver.Syslog: "connection refused", driver.Fluentd: "connection refused"} {
		_, err := Open(context.Background(), example(name, map[string]string{"syslog-address": "tcp://127.0.0.1:1", "fluentd-address": "127.0.0.1:1"}))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "log driver "+name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

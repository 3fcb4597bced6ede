package scenario_test

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// unpack reads one value of MessagePack: what the forward protocol has.
func unpack(in *bufio.Reader) (any, error) {
	head, err := in.ReadByte()
	if err != nil {
		return nil, err
	}
	take := func(n int) []byte {
		b := make([]byte, n)
		if _, e := io.ReadFull(in, b); e != nil {
			err = e
		}
		return b
	}
	size := 0
	switch {
	case head&0xf0 == 0x90:
		list := make([]any, head&0xf)
		for i := range list {
			if list[i], err = unpack(in); err != nil {
				return nil, err
			}
		}
		return list, nil
	case head&0xf0 == 0x80:
		m := map[string]any{}
		for range head & 0xf {
			k, err := unpack(in)
			if err != nil {
				return nil, err
			}
			if m[fmt.Sprint(k)], err = unpack(in); err != nil {
				return nil, err
			}
		}
		return m, nil
	case head&0xe0 == 0xa0:
		size = int(head & 0x1f)
	case head == 0xd9:
		size = int(take(1)[0])
	case head == 0xda:
		size = int(binary.BigEndian.Uint16(take(2)))
	case head == 0xd3:
		return int64(binary.BigEndian.Uint64(take(8))), err
	case head == 0xd7:
		b := take(9)
		return time.Unix(int64(binary.BigEndian.Uint32(b[1:])), int64(binary.BigEndian.Uint32(b[5:]))), err
	default:
		return nil, fmt.Errorf("byte 0x%02x", head)
	}
	return string(take(size)), err
}

// fluentd takes messages of the forward protocol until the listener is closed.
func fluentd(l net.Listener) *sink {
	got := &sink{}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for in := bufio.NewReader(conn); ; {
					v, err := unpack(in)
					if err != nil {
						return
					}
					message := v.([]any)
					data, _ := json.Marshal(message[2])
					got.add(fmt.Sprintf("%s %T %v %s", message[0], message[1], message[2].(map[string]any)["log"], data))
				}
			}()
		}
	}()
	return got
}

func logFluentd(t *testing.T, d *testenv.DaemonProcess, n nerd, run func(string, ...string) string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	got := fluentd(l)
	run("fluent", "-d", "--log-driver", "fluentd", "--log-opt", "fluentd-address="+l.Addr().String(), "--log-opt", "tag=docker.{{.Name}}",
		"--log-opt", "fluentd-sub-second-precision=true", "--log-opt", "labels=tier", "--label", "tier=front", toolbox, "sh", "-c", "x=0123456789abcdef; for i in 1 2 3 4 5 6 7 8 9 10 11; do x=$x$x; done; echo $x; "+counting)
	testenv.Eventually(t, 20*time.Second, "some lines have come", func() bool { return got.has("line 60") })
	d.Restart()
	testenv.Eventually(t, 30*time.Second, "all lines have come", func() bool { return got.has(" last {") })
	var lines []string
	for _, m := range got.all() {
		lines = append(lines, strings.TrimPrefix(m, "docker.fluent time.Time "))
	}
	allLines(t, lines, 1)
	id := strings.TrimSpace(n.do("inspect", "-f", "{{.Id}}", "fluent"))
	for _, want := range []string{`"source":"stderr"`, `"tier":"front"`, `"container_name":"/fluent"`, `"container_id":"` + id + `"`, `"partial_message":"true","partial_ordinal":"1"`, `"partial_last":"true"`} {
		if !got.has(want) {
			t.Errorf("no %s in %.300s", want, got.all()[len(got.all())-1])
		}
	}
}

// logFluentdTLS has a fluentd whose certificate the machine trusts, or not.
func logFluentdTLS(t *testing.T, d *testenv.DaemonProcess, n nerd, run func(string, ...string) string) {
	dir := testenv.Dir(t)
	ca := testenv.NewAuthority(t, filepath.Join(dir, "ca.pem"))
	ca.Issue(t, "server", filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"), time.Now().Add(time.Hour))
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	check(t, err)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	check(t, err)
	defer l.Close()
	got := fluentd(l)
	options := []string{"--log-driver", "fluentd", "--log-opt", "fluentd-address=tls://" + l.Addr().String()}
	refused(t, n.try(nil, append(append([]string{"run", "--rm", "--network=none"}, options...), toolbox, "true")...), "initialize logging driver", "certificate")
	d.Env = append(d.Env, "SSL_CERT_FILE="+filepath.Join(dir, "ca.pem"))
	d.Restart()
	run("enciphered", append(append([]string{"--rm"}, options...), toolbox, "echo", "by TLS")...)
	testenv.Eventually(t, 20*time.Second, "the line has come", func() bool { return got.has("by TLS {") })
}

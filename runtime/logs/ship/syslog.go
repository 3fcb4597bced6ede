package ship

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/minirt/mini/runtime/logs/driver"
)

// The formats, as Docker has them: that of the C library's syslog(3) when nobody says, RFC 3164 and RFC 5424, the latter
// with seconds or microseconds.
const (
	formatRFC3164      = "rfc3164"
	formatRFC5424      = "rfc5424"
	formatRFC5424Micro = "rfc5424micro"
)

// microStamp is the time of RFC 5424 to the microsecond, which is its limit (section 6.2.3).
const microStamp = "2006-01-02T15:04:05.000000Z07:00"

type syslog struct {
	conn     net.Conn
	format   string
	framed   bool // by the length: RFC 5425, section 4.3
	facility int
	tag      string
	hostname string
	buf      []byte
}

func openSyslog(ctx context.Context, s driver.Ship) (*syslog, error) {
	facility, err := driver.SyslogFacility(s.Options["syslog-facility"])
	if err != nil {
		return nil, err
	}
	address, err := driver.SyslogAddress(s.Options["syslog-address"])
	if err != nil {
		return nil, err
	}
	hostname, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	out := &syslog{format: s.Options["syslog-format"], facility: facility, tag: s.Tag, hostname: hostname}
	out.framed = address.Network == "tcp+tls" && (out.format == formatRFC5424 || out.format == formatRFC5424Micro)
	out.conn, err = dialSyslog(ctx, address, s.Options)
	return out, err
}

func dialSyslog(ctx context.Context, a driver.Address, options map[string]string) (net.Conn, error) {
	var d net.Dialer
	switch a.Network {
	case "":
		return localSyslog(ctx)
	case "tcp+tls":
		config, err := tlsOf(options)
		if err != nil {
			return nil, err
		}
		return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", a.Address)
	}
	return d.DialContext(ctx, a.Network, a.Address)
}

// localSyslog is the host's own, at one of its usual places.
func localSyslog(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	var last error
	for _, kind := range []string{"unixgram", "unix"} {
		for _, path := range []string{"/dev/log", "/var/run/syslog", "/var/run/log"} {
			conn, err := d.DialContext(ctx, kind, path)
			if err == nil {
				return conn, nil
			}
			if last == nil {
				last = err
			}
		}
	}
	return nil, fmt.Errorf("unix syslog delivery error: %w: start one, or give --log-opt syslog-address", last)
}

func tlsOf(options map[string]string) (*tls.Config, error) {
	// Docker's rule: the option skips the check whatever its value.
	_, skip := options["syslog-tls-skip-verify"]
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: skip}
	if path := options["syslog-tls-ca-cert"]; path != "" {
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("syslog-tls-ca-cert: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("syslog-tls-ca-cert: %s has no certificate", path)
		}
	}
	certificate, key := options["syslog-tls-cert"], options["syslog-tls-key"]
	if (certificate == "") != (key == "") {
		return nil, errors.New("syslog-tls-cert and syslog-tls-key: one is missing: give both")
	}
	if certificate != "" {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("syslog-tls-cert: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// message appends one entry.
func (s *syslog) message(to []byte, l Line, now time.Time) []byte {
	priority := s.facility<<3 | priorityOf(l.Stream)
	pid := os.Getpid()
	switch s.format {
	case formatRFC5424, formatRFC5424Micro:
		layout := time.RFC3339
		if s.format == formatRFC5424Micro {
			layout = microStamp
		}
		to = fmt.Appendf(to, "<%d>1 %s %s %s %d %s - ", priority, now.Format(layout), s.hostname, s.tag, pid, s.tag)
	case formatRFC3164:
		to = fmt.Appendf(to, "<%d>%s %s %s[%d]: ", priority, now.Format(time.Stamp), s.hostname, s.tag, pid)
	default:
		to = fmt.Appendf(to, "<%d>%s %s[%d]: ", priority, now.Format(time.Stamp), s.tag, pid)
	}
	return append(append(to, l.text()...), '\n')
}

func (s *syslog) Send(ctx context.Context, l Line) error {
	if deadline, ok := ctx.Deadline(); ok {
		if err := s.conn.SetWriteDeadline(deadline); err != nil {
			return err
		}
	}
	if err := closedByPeer(s.conn); err != nil {
		return err
	}
	s.buf = s.message(s.buf[:0], l, l.Time.Local())
	if s.framed {
		s.buf = append(strconv.AppendInt(nil, int64(len(s.buf)), 10), append([]byte{' '}, s.buf...)...)
	}
	_, err := s.conn.Write(s.buf)
	return err
}

func (s *syslog) Close() error { return s.conn.Close() }

package driver

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/logs"
)

// checks are of the values of options, by name.
type checks map[string]func(string) error

func anything(string) error { return nil }

func boolean(value string) error {
	if _, err := strconv.ParseBool(value); err != nil {
		return errors.New("write true or false")
	}
	return nil
}

func bytesOf(value string) error {
	if n, err := size(value); err != nil || n == 0 {
		return errors.New("write a size, for example 10m")
	}
	return nil
}

func count(value string) error {
	if n, err := strconv.ParseInt(value, 10, 32); err != nil || n < 1 {
		return errors.New("write a number, at least 1")
	}
	return nil
}

func retries(value string) error {
	if _, err := strconv.ParseUint(value, 10, 31); err != nil {
		return errors.New("write a number, 0 or more")
	}
	return nil
}

func duration(value string) error {
	if d, err := time.ParseDuration(value); err != nil || d < 0 {
		return errors.New("write a time, for example 1s or 500ms")
	}
	return nil
}

func expression(value string) error {
	_, err := regexp.Compile(value)
	return err
}

func wholePath(value string) error {
	if !filepath.IsAbs(value) {
		return errors.New("write a whole path, from / on")
	}
	return nil
}

func oneOf(values ...string) func(string) error {
	return func(value string) error {
		if !slices.Contains(values, value) {
			return fmt.Errorf("write one of %s", strings.Join(values, ", "))
		}
		return nil
	}
}

// with joins tables.
func with(all ...checks) checks {
	out := checks{}
	for _, c := range all {
		maps.Copy(out, c)
	}
	return out
}

// attributes choose what of the container goes along with each line.
func attributes() checks {
	return checks{"labels": anything, "labels-regex": expression, "env": anything, "env-regex": expression, "tag": tag}
}

func tag(value string) error {
	_, err := tagOf(value, "", Info{ID: strings.Repeat("0", 64), Name: "name"})
	return err
}

// delivery says who waits for whom. Nobody ever waits for a place that the output is shipped to: the files hold it.
func delivery() checks {
	mode := func(value string) error {
		if value != "blocking" && value != "non-blocking" {
			return fmt.Errorf("logger: logging mode not supported: %s: write blocking or non-blocking", value)
		}
		return nil
	}
	return checks{"mode": mode, "max-buffer-size": bytesOf}
}

// cache bounds the files beside the place that the output is for.
func cache() checks {
	return checks{"cache-disabled": boolean, "cache-max-size": bytesOf, "cache-max-file": count, "cache-compress": boolean}
}

// optionsOf are the options of a driver; nil: it is not known.
func optionsOf(driver string) checks {
	files := checks{"max-size": bytesOf, "max-file": count, "compress": boolean}
	switch driver {
	case logs.DriverJSON:
		return with(files, attributes(), delivery(), checks{"log-path": wholePath})
	case Local:
		return with(files, delivery())
	case Journald:
		return with(attributes(), delivery(), cache())
	case Syslog:
		return with(attributes(), delivery(), cache(), checks{
			"syslog-address": syslogAddress, "syslog-facility": syslogFacility, "syslog-format": oneOf("", "rfc3164", "rfc5424", "rfc5424micro"),
			"syslog-tls-ca-cert": anything, "syslog-tls-cert": anything, "syslog-tls-key": anything, "syslog-tls-skip-verify": anything,
		})
	case Fluentd:
		return with(attributes(), delivery(), cache(), checks{
			"fluentd-address": fluentdAddress, "fluentd-async": boolean, "fluentd-async-connect": boolean, "fluentd-async-reconnect-interval": duration,
			"fluentd-buffer-limit": bytesOf, "fluentd-retry-wait": duration, "fluentd-max-retries": retries,
			"fluentd-sub-second-precision": boolean, "fluentd-request-ack": boolean,
		})
	case binaryScheme:
		return cache()
	}
	return nil
}

// check holds a choice against what its driver knows.
func check(c Choice) error {
	known := optionsOf(c.Driver)
	if known == nil {
		return fmt.Errorf("no log driver named '%s' is registered: use one of %s: %w", c.Driver, strings.Join(Drivers(), ", "), errdefs.ErrInvalidArgument)
	}
	for _, key := range slices.Sorted(maps.Keys(c.Options)) {
		is := known[key]
		if is == nil {
			return fmt.Errorf("unknown log opt '%s' for %s log driver: it has %s: %w", key, c.Driver, strings.Join(slices.Sorted(maps.Keys(known)), ", "), errdefs.ErrInvalidArgument)
		}
		if err := is(c.Options[key]); err != nil {
			return fmt.Errorf("log opt %s=%s: %w: %w", key, c.Options[key], err, errdefs.ErrInvalidArgument)
		}
	}
	if c.Options["max-buffer-size"] != "" && c.Options["mode"] != "non-blocking" {
		return fmt.Errorf("logger: max-buffer-size option is only supported with 'mode=non-blocking': %w", errdefs.ErrInvalidArgument)
	}
	if c.Options["fluentd-async"] != "" && c.Options["fluentd-async-connect"] != "" {
		return fmt.Errorf("conflicting options: cannot specify both 'fluentd-async' and 'fluentd-async-connect': %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

// Address is where a target is.
type Address struct {
	Network string // tcp, udp, tcp+tls, unix, unixgram; empty: the host's own syslog
	Address string // HOST:PORT, or a path
}

// SyslogAddress reads an address as --log-opt syslog-address has it. The empty one is the host's own.
func SyslogAddress(text string) (Address, error) {
	if text == "" {
		return Address{}, nil
	}
	if path, ok := strings.CutPrefix(text, "/dev/"); ok { // Docker's old way
		return Address{"unixgram", "/dev/" + path}, nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return Address{}, err
	}
	switch u.Scheme {
	case "unix", "unixgram":
		if u.Path == "" {
			return Address{}, errors.New("the path of the socket is missing")
		}
		return Address{u.Scheme, u.Path}, nil
	case "udp", "tcp", "tcp+tls":
		return Address{u.Scheme, withPort(u.Host, "514")}, hostless(u.Host)
	}
	return Address{}, errors.New("write udp://, tcp://, tcp+tls://, unix:// or unixgram:// and an address")
}

func syslogAddress(text string) error {
	_, err := SyslogAddress(text)
	return err
}

// hostless refuses an address that names no host.
func hostless(host string) error {
	if host == "" || strings.HasPrefix(host, ":") {
		return errors.New("the host is missing")
	}
	return nil
}

func withPort(host, port string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// FluentdAddress reads an address as --log-opt fluentd-address has it; Network is tcp, tls or unix.
func FluentdAddress(text string) (Address, error) {
	const port = "24224"
	if text == "" {
		return Address{"tcp", net.JoinHostPort("127.0.0.1", port)}, nil
	}
	if !strings.Contains(text, "://") {
		text = "tcp://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return Address{}, err
	case u.Scheme == "unix" && strings.TrimLeft(u.Path, "/") == "":
		return Address{}, errors.New("path is empty")
	case u.Scheme == "unix":
		return Address{"unix", u.Path}, nil
	case u.Scheme != "tcp" && u.Scheme != "tls":
		return Address{}, fmt.Errorf("unsupported scheme: '%s': write HOST:PORT, tcp://, tls:// or unix://", u.Scheme)
	case u.Path != "":
		return Address{}, errors.New("should not contain a path element")
	}
	host := u.Host
	if h, p, err := net.SplitHostPort(host); err == nil && h == "" {
		host = net.JoinHostPort("127.0.0.1", p)
	}
	return Address{u.Scheme, withPort(host, port)}, hostless(host)
}

func fluentdAddress(text string) error {
	_, err := FluentdAddress(text)
	return err
}

// facilities are the names of RFC 5424, section 6.2.1, by number; those between have none.
func facilities() []string {
	return []string{
		"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "", "", "", "",
		"local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
	}
}

// SyslogFacility reads a facility by name or number; empty is daemon.
func SyslogFacility(text string) (int, error) {
	if text == "" {
		text = "daemon"
	}
	if i := slices.Index(facilities(), text); i >= 0 {
		return i, nil
	}
	if n, err := strconv.Atoi(text); err == nil && n >= 0 && n < len(facilities()) {
		return n, nil
	}
	return 0, errors.New("invalid syslog facility: write a name, as daemon or local0, or a number below 24")
}

func syslogFacility(text string) error {
	_, err := SyslogFacility(text)
	return err
}

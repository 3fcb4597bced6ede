package driver

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/supervisor/wire"
)

func example() (Info, Files) {
	return Info{
		ID: strings.Repeat("ab", 32), Name: "web", Namespace: "default", Args: []string{"sh", "-c", "x"}, ImageID: "sha256:" + strings.Repeat("cd", 32),
		ImageName: "busybox", Labels: map[string]string{"tier": "front", "team": "a", "other": "o"}, Env: []string{"A=1", "HOME=/root", "EMPTY="}, DaemonName: "minid",
	}, Files{Path: "/log", MaxSize: 64 << 20, MaxFiles: 3}
}

// choice reads DRIVER KEY=VALUE….
func choice(line string) Choice {
	fields := strings.Fields(line)
	c := Choice{Driver: fields[0]}
	for _, f := range fields[1:] {
		key, value, _ := strings.Cut(f, "=")
		if c.Options == nil {
			c.Options = map[string]string{}
		}
		c.Options[key] = value
	}
	return c
}

func TestDecideFiles(t *testing.T) {
	info, files := example()
	for line, want := range map[string]wire.Log{
		"json-file":             {Driver: "json-file", Path: "/log", MaxSize: 64 << 20, MaxFiles: 3},
		"json-file max-size=1m": {Driver: "json-file", Path: "/log", MaxSize: 1 << 20, MaxFiles: 3},
		"json-file max-size=-1": {Driver: "json-file", Path: "/log", MaxFiles: 3},
		"json-file max-size=10k max-file=5 compress=true": {Driver: "json-file", Path: "/log", MaxSize: 10 << 10, MaxFiles: 5, Compress: true},
		"json-file log-path=/x/y.log":                     {Driver: "json-file", Path: "/x/y.log", MaxSize: 64 << 20, MaxFiles: 3},
		"json-file labels=tier,none env=A tag={{.Name}}/{{.ID}}": {
			Driver: "json-file", Path: "/log", MaxSize: 64 << 20, MaxFiles: 3, Attrs: map[string]string{"tier": "front", "A": "1", "tag": "web/abababababab"},
		},
		"json-file labels-regex=^t env-regex=^E": {
			Driver: "json-file", Path: "/log", MaxSize: 64 << 20, MaxFiles: 3, Attrs: map[string]string{"tier": "front", "team": "a", "EMPTY": ""},
		},
		"json-file mode=non-blocking max-buffer-size=4m": {Driver: "json-file", Path: "/log", MaxSize: 64 << 20, MaxFiles: 3},
		"local":            {Driver: "json-file", Path: "/log", MaxSize: 20 << 20, MaxFiles: 5, Compress: true},
		"local max-file=1": {Driver: "json-file", Path: "/log", MaxSize: 20 << 20, MaxFiles: 1},
		"none anything=x":  {Driver: "none"},
		"journald cache-max-size=1m cache-max-file=2 cache-compress=false": {Driver: "json-file", Path: "/log", MaxSize: 1 << 20, MaxFiles: 2},
		"binary:///usr/bin/logger?dir=/tmp/x&quiet=": {
			Driver: "json-file", Path: "/log", MaxSize: 20 << 20, MaxFiles: 5, Compress: true,
			Logger: &wire.Logger{Path: "/usr/bin/logger", Args: []string{"dir", "/tmp/x", "quiet"}},
		},
	} {
		got, err := Decide(choice(line), info, files)
		if err != nil || !reflect.DeepEqual(got.File, want) {
			t.Errorf("%s: %+v, %v, want %+v", line, got.File, err, want)
		}
	}
}

func TestDecideShipping(t *testing.T) {
	info, files := example()
	for line, want := range map[string]string{
		"journald": "ababababababtag map[] false",
		"syslog tag={{.ImageName}}/{{.Name}}/{{.ID}} labels=team": "busybox/web/ababababababtag map[team:a] false",
		"fluentd tag=docker.{{.FullID}} cache-disabled=true":      "docker." + info.ID + "tag map[] true",
		"syslog tag={{.DaemonName}}-{{.Command}}-{{.ImageID}}":    "minid-sh_-c_x-cdcdcdcdcdcdtag map[] false",
		"syslog tag={{upper_.Name}}{{json_.ContainerLabels}}":     `WEB{"other":"o","team":"a","tier":"front"}tag map[] false`,
	} {
		c := choice(line)
		for k, v := range c.Options {
			c.Options[k] = strings.ReplaceAll(v, "_", " ")
		}
		p, err := Decide(c, info, files)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if got := strings.ReplaceAll(p.Ship.Tag, " ", "_") + "tag " + fmt.Sprint(p.Ship.Attrs, p.Hidden); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
}

func TestRefused(t *testing.T) {
	info, files := example()
	for line, want := range map[string]string{
		"gelf":                               "no log driver named 'gelf' is registered: use one of json-file, local",
		"json-file max-files=1":              "unknown log opt 'max-files' for json-file log driver: it has compress, env,",
		"local labels=x":                     "unknown log opt 'labels' for local log driver",
		"json-file max-size=big":             "write a size",
		"json-file max-file=0":               "at least 1",
		"json-file compress=true max-file=1": "compress cannot be true when max-file is less than 2",
		"json-file tag={{.Nothing}}":         "tag",
		"json-file tag={{":                   "tag",
		"json-file mode=maybe":               "logging mode not supported: maybe",
		"json-file max-buffer-size=1m":       "only supported with 'mode=non-blocking'",
		"json-file env-regex=(":              "missing closing )",
		"json-file log-path=x":               "whole path",
		"syslog syslog-address=http://x":     "udp://, tcp://",
		"syslog syslog-address=udp://":       "host is missing",
		"syslog syslog-address=unix://":      "path of the socket is missing",
		"syslog syslog-facility=none":        "invalid syslog facility",
		"syslog syslog-facility=24":          "invalid syslog facility",
		"syslog syslog-format=json":          "rfc3164",
		"fluentd fluentd-address=udp://x":    "unsupported scheme",
		"fluentd fluentd-address=tcp://x/y":  "path element",
		"fluentd fluentd-max-retries=-1":     "0 or more",
		"fluentd fluentd-retry-wait=1":       "write a time",
		"fluentd fluentd-async=perhaps":      "true or false",
		"binary://relative":                  "whole path",
		"binary:///x max-size=1m":            "unknown log opt 'max-size'",
	} {
		_, err := Decide(choice(line), info, files)
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func TestAddresses(t *testing.T) {
	for text, want := range map[string]Address{
		"": {}, "udp://10.0.0.1": {"udp", "10.0.0.1:514"}, "tcp://[fd00::1]:1514": {"tcp", "[fd00::1]:1514"}, "tcp+tls://host:6514": {"tcp+tls", "host:6514"},
		"unixgram:///dev/log": {"unixgram", "/dev/log"}, "unix:///run/x": {"unix", "/run/x"},
	} {
		if got, err := SyslogAddress(text); err != nil || got != want {
			t.Errorf("syslog %q: %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]Address{
		"": {"tcp", "127.0.0.1:24224"}, "host": {"tcp", "host:24224"}, "host:1": {"tcp", "host:1"}, "tls://host": {"tls", "host:24224"},
		":1": {"tcp", "127.0.0.1:1"}, "unix:///run/x": {"unix", "/run/x"}, "tcp://[::1]": {"tcp", "[::1]:24224"},
	} {
		if got, err := FluentdAddress(text); err != nil || got != want {
			t.Errorf("fluentd %q: %v, %v", text, got, err)
		}
	}
}

// FuzzDecide gives options of all kinds to all drivers: what is taken has a whole plan.
func FuzzDecide(f *testing.F) {
	f.Add("json-file", "tag", "{{.Name}}")
	f.Add("syslog", "syslog-address", "tcp+tls://a:1")
	f.Add("fluentd", "fluentd-address", "unix:///x")
	f.Add("binary:///x?y=z", "cache-max-size", "1m")
	f.Fuzz(func(t *testing.T, driver, key, value string) {
		info, files := example()
		c := Choice{Driver: driver, Options: map[string]string{key: value}}
		p, err := Decide(c, info, files)
		if err != nil {
			return
		}
		if p.File.Driver != "none" && (p.File.Path == "" || p.File.MaxSize < 0) {
			t.Fatalf("%+v: %+v", c, p.File)
		}
	})
}

func TestEveryDriverIsListed(t *testing.T) {
	for _, d := range Drivers() {
		if d != "none" && !strings.HasPrefix(d, binaryScheme) && optionsOf(d) == nil {
			t.Errorf("driver %s has no options", d)
		}
	}
	if got := slices.Collect(maps.Keys(optionsOf("none"))); got != nil {
		t.Error(got)
	}
}

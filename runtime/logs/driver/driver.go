// Package driver knows the log drivers as Docker has them, with their options, and decides what of a container's output is
// written where. It is pure: what is decided the supervisor and package ship carry out.
//
// Every driver but none has the output written to files by the supervisor, so that it depends on no daemon and no other
// host, and so that it can be read: json-file and local for good, the others as what Docker calls a cache. Of those that
// go further, journald, syslog and fluentd are shipped from the files by the daemon, and a program of the user's (a binary
// logger, binary://PATH?KEY=VALUE) is fed by the supervisor.
package driver

import (
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"

	"github.com/minirt/mini/runtime/logs"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// The drivers beside those of package logs, whose cri only pods have.
const (
	Local    = "local"
	Journald = "journald"
	Syslog   = "syslog"
	Fluentd  = "fluentd"
)

// binaryScheme begins the URI of a binary logger, which stands for a driver's name.
const binaryScheme = "binary"

// Choice is what a client says of a container's log.
type Choice struct {
	Driver  string            `json:"driver,omitempty"`
	Options map[string]string `json:"options,omitempty"`
}

// Info is what of a container can be in its log.
type Info struct {
	ID, Name, Namespace string
	Args                []string // of the first process
	ImageID, ImageName  string
	Labels              map[string]string
	Env                 []string // KEY=VALUE
	DaemonName          string
}

// Files says where the files are, and how many there are when nobody says so.
type Files struct {
	Path     string
	MaxSize  int64 // in bytes, of one of json-file; 0: no bound
	MaxFiles int
}

// Plan is what becomes of a container's output.
type Plan struct {
	File   wire.Log // what the supervisor does
	Hidden bool     // the files are not for people to read
	Ship   *Ship    // nil: the daemon has nothing to do with it
}

// Ship is where the daemon sends the output.
type Ship struct {
	Driver  string
	Options map[string]string
	Tag     string
	Attrs   map[string]string // of the labels and variables asked for
	Info    Info
}

// Beside is a plan for a log that is written for somebody else, a kubelet: its lines go to the journal too.
func Beside(file wire.Log, info Info) (Plan, error) {
	p := Plan{File: file, Ship: &Ship{Driver: Journald, Info: info}}
	var err error
	p.Ship.Tag, err = tagOf("", defaultTag, info)
	return p, err
}

// The bounds of what is kept beside the place that the output is for, and of the driver local; Docker's.
const (
	cacheSize  = 20 << 20
	cacheFiles = 5
)

// Drivers are the names that can be given, for people.
func Drivers() []string {
	return []string{logs.DriverJSON, Local, Journald, Syslog, Fluentd, logs.DriverNone, binaryScheme + "://PROGRAM"}
}

// Decide makes a plan. ErrInvalidArgument: the driver or one of its options is not known, or cannot be.
func Decide(c Choice, info Info, f Files) (Plan, error) {
	if strings.HasPrefix(c.Driver, binaryScheme+":") {
		return decideBinary(c, f)
	}
	if c.Driver == logs.DriverNone {
		return Plan{File: wire.Log{Driver: logs.DriverNone}, Hidden: true}, nil // Docker takes any option with it
	}
	if err := check(c); err != nil {
		return Plan{}, err
	}
	if c.Driver == logs.DriverJSON || c.Driver == Local {
		return decideFile(c, info, f)
	}
	p, err := decideCache(c, f)
	if err != nil {
		return Plan{}, err
	}
	p.Ship = &Ship{Driver: c.Driver, Options: c.Options, Info: info}
	if p.Ship.Tag, err = tagOf(c.Options["tag"], defaultTag, info); err != nil {
		return Plan{}, err
	}
	p.Ship.Attrs, err = attrsOf(c.Options, info)
	return p, err
}

// decideFile is for the drivers whose files are all there is.
func decideFile(c Choice, info Info, f Files) (Plan, error) {
	l := wire.Log{Driver: logs.DriverJSON, Path: f.Path, MaxSize: f.MaxSize, MaxFiles: f.MaxFiles}
	if c.Driver == Local {
		l.MaxSize, l.MaxFiles, l.Compress = cacheSize, cacheFiles, true
	}
	if c.Options["log-path"] != "" {
		l.Path = filepath.Clean(c.Options["log-path"])
	}
	if err := bounds(c.Options, "", &l); err != nil {
		return Plan{}, err
	}
	if c.Driver == Local {
		return Plan{File: l}, nil
	}
	var err error
	if l.Attrs, err = attrsOf(c.Options, info); err != nil {
		return Plan{}, err
	}
	if c.Options["tag"] != "" {
		tag, err := tagOf(c.Options["tag"], "", info)
		if err != nil {
			return Plan{}, err
		}
		if l.Attrs == nil {
			l.Attrs = map[string]string{}
		}
		l.Attrs["tag"] = tag
	}
	return Plan{File: l}, nil
}

// decideCache is for the drivers whose output is for somewhere else.
func decideCache(c Choice, f Files) (Plan, error) {
	p := Plan{File: wire.Log{Driver: logs.DriverJSON, Path: f.Path, MaxSize: cacheSize, MaxFiles: cacheFiles, Compress: true}}
	p.Hidden, _ = strconv.ParseBool(c.Options["cache-disabled"]) // has been checked
	return p, bounds(c.Options, "cache-", &p.File)
}

// decideBinary reads containerd's URI of a binary logger: the path of a program, and keys and values for arguments.
func decideBinary(c Choice, f Files) (Plan, error) {
	uri, err := url.Parse(c.Driver)
	if err == nil && (uri.Host != "" || !filepath.IsAbs(uri.Path)) {
		err = fmt.Errorf("the program needs a whole path")
	}
	if err != nil {
		return Plan{}, fmt.Errorf("log driver %s: %w: write it like binary:///usr/local/bin/logger?key=value: %w", c.Driver, err, errdefs.ErrInvalidArgument)
	}
	if err := check(Choice{Driver: binaryScheme, Options: c.Options}); err != nil {
		return Plan{}, err
	}
	p, err := decideCache(c, f)
	if err != nil {
		return Plan{}, err
	}
	query := uri.Query()
	p.File.Logger = &wire.Logger{Path: uri.Path}
	for _, key := range slices.Sorted(maps.Keys(query)) {
		p.File.Logger.Args = append(p.File.Logger.Args, key)
		if value := query.Get(key); value != "" {
			p.File.Logger.Args = append(p.File.Logger.Args, value)
		}
	}
	return p, nil
}

// bounds reads how large the files may be, from options that have been checked.
func bounds(options map[string]string, prefix string, l *wire.Log) error {
	if value, ok := options[prefix+"max-size"]; ok {
		n, err := size(value)
		if err != nil {
			return err
		}
		l.MaxSize = max(0, n)
	}
	if value, ok := options[prefix+"max-file"]; ok {
		n, err := strconv.Atoi(value)
		if err != nil {
			return err
		}
		l.MaxFiles = n
	}
	rotates := l.MaxSize > 0 && l.MaxFiles > 1
	value, ok := options[prefix+"compress"]
	if !ok {
		l.Compress = l.Compress && rotates
		return nil
	}
	l.Compress, _ = strconv.ParseBool(value) // has been checked
	if l.Compress && !rotates {
		return fmt.Errorf("compress cannot be true when max-file is less than 2 or max-size is not set: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

// size reads a number of bytes; -1 is no bound.
func size(value string) (int64, error) {
	if value == "-1" {
		return -1, nil
	}
	return units.RAMInBytes(value)
}

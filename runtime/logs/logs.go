// Package logs writes and reads the log files of containers, in the two formats of the field: CRI's
//
//	2016-10-06T00:17:09.669794202Z stdout F line
//
// (Kubernetes, docs "CRI container log format": the third word is F for a full line and P for a part of one) and
// Docker's json-file
//
//	{"log":"line\n","stream":"stdout","time":"2016-10-06T00:17:09.669794202Z"}
//
// A Writer lives in the supervisor, beside the container's pipes; Read serves everyone else from the files alone. The
// package depends on the standard library only, to keep the supervisor small. Streams that are not kept in files
// (attachments) and the daemon's own log do not live here.
//
// # Rotation
//
// The current file is at Path, older ones at Path.1 (the youngest) to Path.N. A file only ever moves to a higher number,
// from the highest down, and Path itself is replaced by one rename, so it is never missing. A reader holds the file it
// reads open and finds its place by inode: the next file is the nearest one below it in number. A log that the kubelet
// renames is the same to a reader; the writer makes the new file in Reopen.
package logs

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Drivers: the formats of a log, and none for no log.
const (
	DriverJSON = "json-file"
	DriverCRI  = "cri"
	DriverNone = "none"
)

// MaxLine in bytes is how much of a line one entry of the log has unless the options say otherwise; longer lines are
// written in parts. It is the limit of dockerd, containerd and CRI-O.
const MaxLine = 16 << 10

// MostLine in bytes is the most that the options may say: every reader takes an entry of that.
const MostLine = maxEntry / 2

// Entry is one line of a log, or a part of one.
type Entry struct {
	Time   time.Time
	Stream string // stdout or stderr
	// Data ends with a newline, unless Partial. It is valid until the function that got it returns.
	Data    []byte
	Partial bool // the line goes on in the stream's next entry, or its end was never written
	// Attrs are what the container's client wanted to be kept with each line: labels, variables, a tag.
	Attrs map[string]string
	End   Cursor // behind it; only when ReadOptions.From is set
}

var errDriver = errors.New("unknown log driver, want json-file or cri")

func checkDriver(driver string) error {
	switch driver {
	case DriverJSON, DriverCRI, DriverNone:
		return nil
	}
	return fmt.Errorf("%w: %q", errDriver, driver)
}

// rotated is the name of the file that was rotated n times; 0 is the current one.
func rotated(path string, n int) string {
	if n == 0 {
		return path
	}
	return path + "." + strconv.Itoa(n)
}

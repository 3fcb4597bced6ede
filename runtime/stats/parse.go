package stats

import (
	"bytes"
	"iter"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// maxFile bounds one file, in bytes: a list of 8192 CPUs or a thousand devices fits.
const maxFile = 1 << 20

// pageLeast is what a read of a longer file returns at least, in bytes: a page but for the next line.
const pageLeast = 3 << 10

// reader reads small files of cgroupfs and procfs into one buffer: each result is valid until the next read. It makes no
// os.File, which would register with the poller. Finding a directory costs as much as opening, reading and closing a
// file in it, because cgroupfs asks for each part of the path anew whether it is still there: so the directory of the
// last file is kept open for the next one.
type reader struct {
	buf   []byte
	found int // files that were there
	parts Parts
	dir   string // open as fd; empty: none
	fd    int
}

func newReader() *reader { return &reader{buf: make([]byte, 8<<10)} }

func (r *reader) wants(p Parts) bool { return r.parts&p != 0 }

// enter opens a directory, and leaves the one before.
func (r *reader) enter(dir string) bool {
	if dir == r.dir {
		return true
	}
	r.close()
	fd, err := openat(unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	r.dir, r.fd = dir, fd
	return true
}

func (r *reader) close() {
	if r.dir != "" {
		unix.Close(r.fd)
		r.dir = ""
	}
}

func openat(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// read returns a file's content, and nil when it isn't there: a controller or a kernel without it, or a group just
// removed.
func (r *reader) read(dir, name string) []byte {
	if dir == "" || !r.enter(dir) {
		return nil
	}
	fd, err := openat(r.fd, name, unix.O_RDONLY)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	n := 0
	for {
		if n == len(r.buf) {
			if n >= maxFile {
				return nil
			}
			r.buf = append(r.buf, make([]byte, len(r.buf))...)
		}
		k, err := unix.Read(fd, r.buf[n:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil: // ENODEV: the group was removed; EOPNOTSUPP: pressure is switched off
			return nil
		}
		// The kernel fills a page with whole lines or values before it answers, so much less than a page is the end; another
		// read would only say so.
		if n += k; k == 0 || n < min(len(r.buf), pageLeast) {
			r.found++
			return r.buf[:n]
		}
	}
}

// first reads the first of several files that is there.
func (r *reader) first(dir string, names ...string) []byte {
	for _, name := range names {
		if data := r.read(dir, name); data != nil {
			return data
		}
	}
	return nil
}

// lines gives each line without its end.
func lines(data []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(data) > 0 {
			line, rest, _ := bytes.Cut(data, []byte("\n"))
			if !yield(line) {
				return
			}
			data = rest
		}
	}
}

// word cuts the first word off a line.
func word(line []byte) (first, rest []byte) {
	line = bytes.TrimLeft(line, " \t")
	at := bytes.IndexAny(line, " \t")
	if at < 0 {
		return line, nil
	}
	return line[:at], bytes.TrimLeft(line[at:], " \t")
}

// number reads the decimal number at the beginning; none is 0, and one too large the largest.
func number(data []byte) uint64 {
	var n uint64
	for _, c := range data {
		if c < '0' || c > '9' {
			break
		}
		if n > (math.MaxUint64-9)/10 {
			return math.MaxUint64
		}
		n = n*10 + uint64(c-'0')
	}
	return n
}

// limit reads a limit: no number ("max"), and v1's largest number of pages, are none.
func limit(data []byte) uint64 {
	n := number(data)
	if n >= math.MaxInt64-0xffff { // v1 rounds the largest number down to its page size, at most 64 KiB
		return 0
	}
	return n
}

// parsePSI reads "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" and "full …".
func parsePSI(data []byte) PSI {
	var p PSI
	for line := range lines(data) {
		kind, rest := word(line)
		to := &p.Some
		switch string(kind) {
		case "some":
		case "full":
			to = &p.Full
		default:
			continue
		}
		for len(rest) > 0 {
			var field []byte
			field, rest = word(rest)
			key, value, _ := bytes.Cut(field, []byte("="))
			switch string(key) {
			case "avg10":
				to.Avg10 = hundredths(value)
			case "avg60":
				to.Avg60 = hundredths(value)
			case "avg300":
				to.Avg300 = hundredths(value)
			case "total":
				to.Total = number(value)
			}
		}
	}
	return p
}

// hundredths reads "12.34" without making a string of it.
func hundredths(data []byte) float64 {
	whole, part, _ := bytes.Cut(data, []byte("."))
	if len(part) > 2 {
		part = part[:2]
	}
	f := float64(number(part))
	if len(part) == 1 {
		f *= 10
	}
	return float64(number(whole)) + f/100
}

// parseNetDev reads proc_pid_net(5) dev: after two lines of heading "eth0: " and 8 numbers received, 8 sent. The
// loopback is left out: what a container says to itself is no traffic.
func parseNetDev(data []byte) []Interface {
	var list []Interface
	for line := range lines(data) {
		name, rest, ok := bytes.Cut(line, []byte(":"))
		name = bytes.TrimSpace(name)
		if !ok || len(name) == 0 || string(name) == "lo" || bytes.IndexByte(name, '|') >= 0 {
			continue
		}
		var v [16]uint64
		for i := range v {
			var w []byte
			w, rest = word(rest)
			v[i] = number(w)
		}
		list = append(list, Interface{
			Name: string(name), RxBytes: v[0], RxPackets: v[1], RxErrors: v[2], RxDropped: v[3],
			TxBytes: v[8], TxPackets: v[9], TxErrors: v[10], TxDropped: v[11],
		})
	}
	return list
}

// sharesHostNetwork tells whether a process is in this process's network namespace. The daemon runs in the host's.
func sharesHostNetwork(pid int) bool {
	its := networkNamespace(strconv.Itoa(pid))
	return its != 0 && its == ownNetwork()
}

// ownNetwork is the network namespace of this process, which does not change.
var ownNetwork = sync.OnceValue(func() uint64 { return networkNamespace("self") })

// networkNamespace is the inode number of a process's network namespace, 0 when it has ended.
func networkNamespace(pid string) uint64 {
	var st unix.Stat_t
	if unix.Stat("/proc/"+pid+"/ns/net", &st) != nil {
		return 0
	}
	return st.Ino
}

// pageSizes lists the machine's huge page sizes as the hugetlb controller's files name them; they are fixed at boot.
var pageSizes = sync.OnceValue(func() []string {
	entries, err := os.ReadDir("/sys/kernel/mm/hugepages")
	if err != nil {
		return nil
	}
	var sizes []string
	for _, e := range entries {
		kb, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(e.Name(), "hugepages-"), "kB"), 10, 64)
		switch {
		case err != nil:
		case kb >= 1<<20:
			sizes = append(sizes, strconv.FormatUint(kb>>20, 10)+"GB")
		case kb >= 1<<10:
			sizes = append(sizes, strconv.FormatUint(kb>>10, 10)+"MB")
		default:
			sizes = append(sizes, strconv.FormatUint(kb, 10)+"KB")
		}
	}
	return sizes
})

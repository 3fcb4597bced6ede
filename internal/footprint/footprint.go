// Package footprint makes this process small after work that is rare and large, as its start is: what was used for it
// goes back to the system.
package footprint

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// Release collects garbage, returns the free memory, and lets go of the pages of the program file: those that are still
// needed are mapped again from the page cache, 16 at a time, when they are touched. A process that has run every
// initializer of every package has most of its file mapped, and uses a fraction of it afterwards. It takes some
// milliseconds.
func Release() error {
	debug.FreeOSMemory()
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range clean(maps, program) {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, r.from, r.to-r.from, unix.MADV_DONTNEED); errno != 0 {
			errs = append(errs, fmt.Errorf("madvise %x-%x: %w", r.from, r.to, errno))
		}
	}
	return errors.Join(errs...)
}

// span is a range of addresses.
type span struct{ from, to uintptr }

// clean finds in proc_pid_smaps(5) where a file is mapped and has no page that was ever written: of such a mapping
// nothing is lost. The data segment, and relocated addresses that were made read-only, are not clean.
func clean(smaps []byte, file string) []span {
	var found []span
	var this span
	candidate := false
	for line := range bytes.Lines(smaps) {
		line = bytes.TrimRight(line, "\n")
		if r, perms, path, ok := head(line); ok {
			this = r
			candidate = path == file && perms[1] == '-'
			continue
		}
		key, value, _ := bytes.Cut(line, []byte(":"))
		if candidate && string(key) == "Anonymous" && string(bytes.TrimSpace(value)) == "0 kB" {
			found = append(found, this)
		}
	}
	return found
}

// head reads the first line of a mapping: "00400000-010ed000 r-xp 00000000 fe:00 1234    /usr/bin/minid".
func head(line []byte) (r span, perms, path string, ok bool) {
	var offset, device, inode string
	n, _ := fmt.Sscanf(string(line), "%x-%x %s %s %s %s", &r.from, &r.to, &perms, &offset, &device, &inode)
	if n < 6 || len(perms) != 4 {
		return span{}, "", "", false
	}
	if at := bytes.IndexByte(line, '/'); at >= 0 {
		path = string(line[at:])
	}
	return r, perms, path, true
}

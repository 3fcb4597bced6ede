package confine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"
)

// Filters remembers the filters of the profiles that were seen. It never keeps a container from being started: what it
// does not have, libcontainer compiles.
type Filters struct {
	// Run runs one child in the background, when there is a good moment for it.
	Run func(child func())
	Log *slog.Logger

	mu    sync.Mutex
	known map[[sha256.Size]byte]filter
}

// filter is empty while it is compiled, and when that was in vain.
type filter struct {
	file  *os.File
	final final
}

func (f filter) close() {
	if f.file != nil {
		f.file.Close()
	}
}

const (
	maxProfiles    = 64               // about 40 KiB each
	compileTimeout = 30 * time.Second // of a busy machine
)

// Get returns the file to be passed as the first of the process's ExtraFiles, for the caller to close; nil when the
// profile's filter is not known yet.
func (f *Filters) Get(profile *configs.Seccomp) *os.File {
	f.mu.Lock()
	defer f.mu.Unlock()
	if file := f.find(profile).file; file != nil {
		return duplicate(file)
	}
	return nil
}

// Final returns the program that libcontainer gives the kernel for a profile, and with which flags (seccomp(2)); known is
// false when that is not known yet, or when the process would need somebody who listens to its filter.
func (f *Filters) Final(profile *configs.Seccomp) (program []byte, flags uint, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := f.find(profile).final
	return last.program, uint(last.flags), len(last.program) > 0 && last.flags&unix.SECCOMP_FILTER_FLAG_NEW_LISTENER == 0
}

// find has a filter that was not seen before compiled. The lock is held.
func (f *Filters) find(profile *configs.Seccomp) filter {
	if !Enabled || profile == nil {
		return filter{}
	}
	data, err := json.Marshal(profile)
	if err != nil {
		return filter{}
	}
	key := sha256.Sum256(data)
	one, seen := f.known[key]
	if !seen {
		f.make(key, data)
	}
	return one
}

// make has a filter compiled. The lock is held.
func (f *Filters) make(key [sha256.Size]byte, profile []byte) {
	if f.known == nil {
		f.known = map[[sha256.Size]byte]filter{}
	}
	for other, one := range f.known { // any one goes: so many profiles are not in use at once
		if len(f.known) < maxProfiles {
			break
		}
		delete(f.known, other)
		one.close()
	}
	f.known[key] = filter{}
	go f.Run(func() {
		one, err := compiled(profile)
		if err != nil {
			f.Log.Warn("a seccomp filter is compiled anew at each start: it was not possible ahead", "error", err)
			return
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if _, wanted := f.known[key]; wanted {
			f.known[key] = one
		} else {
			one.close()
		}
	})
}

// compiled has a child of this program compile a profile.
func compiled(profile []byte) (filter, error) {
	ctx, cancel := context.WithTimeout(context.Background(), compileTimeout)
	defer cancel()
	var stderr bytes.Buffer
	child := exec.CommandContext(ctx, "/proc/self/exe", "seccomp-compile")
	child.Stdin, child.Stderr = bytes.NewReader(profile), &stderr
	child.Env = []string{"GOMAXPROCS=1"}
	data, err := child.Output()
	if err != nil {
		return filter{}, fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	data, last, err := cutFinal(data)
	if err != nil {
		return filter{}, err
	}
	if _, _, err := parse(data); err != nil {
		return filter{}, err
	}
	file, err := seal(data)
	return filter{file: file, final: last}, err
}

func duplicate(f *os.File) *os.File {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), f.Name())
}

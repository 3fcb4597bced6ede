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
	known map[[sha256.Size]byte]*os.File // nil while it is compiled, and when that was in vain
}

const (
	maxProfiles    = 64               // about 40 KiB each
	compileTimeout = 30 * time.Second // of a busy machine
)

// Get returns the file to be passed as the first of the process's ExtraFiles, for the caller to close; nil when the
// profile's filter is not known yet.
func (f *Filters) Get(profile *configs.Seccomp) *os.File {
	if !Enabled || profile == nil {
		return nil
	}
	data, err := json.Marshal(profile)
	if err != nil {
		return nil
	}
	key := sha256.Sum256(data)
	f.mu.Lock()
	defer f.mu.Unlock()
	file, seen := f.known[key]
	if file != nil {
		return duplicate(file)
	}
	if !seen {
		f.make(key, data)
	}
	return nil
}

// make has a filter compiled. The lock is held.
func (f *Filters) make(key [sha256.Size]byte, profile []byte) {
	if f.known == nil {
		f.known = map[[sha256.Size]byte]*os.File{}
	}
	for other, file := range f.known { // any one goes: so many profiles are not in use at once
		if len(f.known) < maxProfiles {
			break
		}
		delete(f.known, other)
		if file != nil {
			file.Close()
		}
	}
	f.known[key] = nil
	go f.Run(func() {
		file, err := compiled(profile)
		if err != nil {
			f.Log.Warn("a seccomp filter is compiled anew at each start: it was not possible ahead", "error", err)
			return
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if _, wanted := f.known[key]; wanted {
			f.known[key] = file
		} else {
			file.Close()
		}
	})
}

// compiled has a child of this program compile a profile.
func compiled(profile []byte) (*os.File, error) {
	ctx, cancel := context.WithTimeout(context.Background(), compileTimeout)
	defer cancel()
	var stderr bytes.Buffer
	child := exec.CommandContext(ctx, "/proc/self/exe", "seccomp-compile")
	child.Stdin, child.Stderr = bytes.NewReader(profile), &stderr
	child.Env = []string{"GOMAXPROCS=1"}
	data, err := child.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	if _, _, err := parse(data); err != nil {
		return nil, err
	}
	return seal(data)
}

func duplicate(f *os.File) *os.File {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), f.Name())
}

// Final returns the program that the kernel gets for a profile, and with which flags (seccomp(2)); known is false when it
// is not known yet, or is none that can be put in force without libcontainer.
func (f *Filters) Final(profile *configs.Seccomp) (program []byte, flags uint, known bool) {
	return nil, 0, false
}

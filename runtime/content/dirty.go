package content

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/internal/atomicfile"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// A blob's rename may reach the disk before its bytes do, so after a power cut a name proves nothing. Instead of a sync
// per blob there is one for all blobs of a pull (Sync), and a file that says that one is due: it is on the disk before
// the first blob that needs it, and goes after the sync that covers them all. Found by Open, it says that the blobs
// made since have to be read again.
//
// Its content is the kernel's boot ID: in the same boot nothing was lost but a process, and the page cache has all that
// the renames promise.

// dirt is the state of the dirty file.
type dirt struct {
	gate    sync.RWMutex // read-held during a commit, so that Sync knows which commits are over
	mark    sync.Mutex   // held while the file is made
	dirty   bool
	commits int64 // guarded by mark
	failed  error // of a sync; guarded by mark
}

// clockSlack is by how much the clock may have been set back since the dirty file was made.
const clockSlack = time.Hour

func (s *Store) dirtyPath() string { return filepath.Join(s.root, "dirty") }

// soil is called before each commit, with the gate held.
func (s *Store) soil() error {
	s.mark.Lock()
	defer s.mark.Unlock()
	s.commits++
	if s.dirty {
		return nil
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	if err := atomicfile.Write(s.dirtyPath(), []byte(boot), 0o600); err != nil {
		return err
	}
	s.dirty = true
	return nil
}

// Sync makes all blobs that were committed before it durable: one syncfs of the file system. The caller then records
// what refers to them. When it fails nothing is known of them, and the store stays unsafe until it is opened again.
func (s *Store) Sync(_ context.Context) error {
	s.gate.Lock() // waits for the commits under way
	s.mark.Lock()
	before, dirty, failed := s.commits, s.dirty, s.failed
	s.mark.Unlock()
	s.gate.Unlock()
	if failed != nil {
		return failed
	}
	if !dirty {
		return nil
	}
	err := unix.Syncfs(int(s.dir.Fd()))
	s.mark.Lock()
	defer s.mark.Unlock()
	if err != nil {
		// The kernel tells each write error once: a later sync that succeeds would prove nothing.
		s.failed = fmt.Errorf("content store %s: sync: %w: blobs may be lost, check the disk and restart the daemon: %w", s.root, err, errdefs.ErrDataLoss)
		return s.failed
	}
	if s.dirty && s.commits == before { // another Sync may have been faster
		// Durable or not: a dirty file that comes back costs a verification.
		if err := os.Remove(s.dirtyPath()); err != nil {
			return fmt.Errorf("content store: %w", err)
		}
		s.dirty = false
	}
	return nil
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

// recoverDirty verifies what a power cut may have damaged.
func (s *Store) recoverDirty() error {
	saved, err := os.ReadFile(s.dirtyPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	s.dirty = true
	if boot, err := bootID(); err == nil && boot == string(saved) {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Lstat(s.dirtyPath(), &st); err != nil {
		return err
	}
	since := time.Unix(st.Ctim.Unix()).Add(-clockSlack)
	bad, checked, err := s.verifySince(since)
	if err != nil {
		return err
	}
	s.log.Info("blobs verified after an unclean end", "checked", checked, "removed", len(bad))
	return s.Sync(context.Background())
}

// verifySince reads the blobs named after a time, several at once, and removes the damaged ones.
func (s *Store) verifySince(since time.Time) (bad []digest.Digest, checked int, err error) {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(context.Background())
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		all, err := os.ReadDir(s.blobDir(a))
		if err != nil {
			return nil, 0, err
		}
		for _, e := range all {
			d := digest.NewDigestFromEncoded(a, e.Name())
			var st unix.Stat_t
			if valid(d) != nil || unix.Lstat(s.own(d), &st) != nil || time.Unix(st.Ctim.Unix()).Before(since) {
				continue
			}
			checked++
			g.Go(func() error {
				err := s.Verify(ctx, d)
				if !errdefs.IsDataLoss(err) && !errors.Is(err, unix.EIO) {
					return err
				}
				s.log.Warn("a blob was damaged by the unclean end and is removed", "digest", d, "error", err)
				mu.Lock()
				defer mu.Unlock()
				bad = append(bad, d)
				return s.Delete(ctx, d)
			})
		}
	}
	return bad, checked, g.Wait()
}

// Package content keeps blobs by their digest, for all namespaces together. A blob is whole and verified from the moment
// it has its name; what is still being received is an ingest, and can be resumed, by another process too. What blobs
// mean (manifests, layers) is runtime/image's business, and so is deciding which of them may go.
//
//	root/blobs/sha256/<hex>              a blob, read-only
//	root/ingest/<hex of the ref>/data    what has been received so far
//	root/ingest/<hex of the ref>/ingest.json
//	root/dirty                           there are blobs that no Sync has covered (dirty.go)
package content

import (
	"context"
	_ "crypto/sha256" // the algorithms of digests
	_ "crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/internal/keylock"
	"github.com/opencontainers/go-digest"
)

// Info is what is known of a blob.
type Info struct {
	Digest    digest.Digest
	Size      int64 // bytes
	CreatedAt time.Time
	UpdatedAt time.Time // of the labels, or else CreatedAt
	Labels    map[string]string
}

// Record is what is saved of a blob beside its bytes.
type Record struct {
	Labels    map[string]string `json:"labels,omitempty"`
	UpdatedAt time.Time         `json:"updated_at"`
}

// Records is where labels are kept, by digest in the empty namespace; *store.Table[Record] is one. Get answers
// ErrNotFound for a blob without labels.
type Records interface {
	Get(ns, key string) (Record, error)
	Put(ns, key string, r Record) error
	Delete(ns, key string) error
}

// Reader reads a blob. It is an *os.File below, so io.Copy from it to a file or socket stays in the kernel. It goes on
// working when the blob is deleted.
type Reader interface {
	io.ReaderAt
	io.ReadCloser
	io.WriterTo
	Size() int64
}

// Store is a content store in a directory. One process opens it at a time; its methods may be called by many goroutines.
type Store struct {
	root    string
	dir     *os.File // root, held open so that Sync hears of all write errors since
	records Records
	log     *slog.Logger
	refs    keylock.Locks // held by the writer of a ref
	labels  sync.Mutex    // held while labels change
	behind  []string      // roots of stores that are only read
	dirt
}

// Open opens the store in root, making it when there is none. After a power cut it verifies the blobs that were not
// synced and removes those that are damaged.
func Open(root string, records Records, log *slog.Logger) (*Store, error) {
	s := &Store{root: root, records: records, log: log}
	for _, d := range []string{s.blobDir(digest.SHA256), s.blobDir(digest.SHA512), s.ingestRoot()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("content store: %w", explain(err))
		}
	}
	dir, err := os.Open(root)
	if err != nil {
		return nil, fmt.Errorf("content store: %w", err)
	}
	s.dir = dir
	if err := errors.Join(s.recoverDirty(), s.recoverIngests()); err != nil {
		return nil, errors.Join(fmt.Errorf("content store %s: %w", root, err), dir.Close())
	}
	return s, nil
}

// Close lets go of the directory. Readers and writers stay usable.
func (s *Store) Close() error { return s.dir.Close() }

func (s *Store) blobDir(a digest.Algorithm) string { return filepath.Join(s.root, "blobs", a.String()) }

// Behind has blobs that are not here looked for in the stores with these roots, which are never written to: they are
// opened and described like those here, and neither listed nor deleted. It is for the time before the store is used.
func (s *Store) Behind(roots ...string) { s.behind = append(s.behind, roots...) }

// Path is the blob's file, whether or not it exists; "" for what is no digest.
func (s *Store) Path(d digest.Digest) string {
	own := s.own(d)
	if own == "" || len(s.behind) == 0 || isThere(own) {
		return own
	}
	for _, root := range s.behind {
		if path := filepath.Join(root, "blobs", d.Algorithm().String(), d.Encoded()); isThere(path) {
			return path
		}
	}
	return own
}

// own is the file of a blob of this store alone.
func (s *Store) own(d digest.Digest) string {
	if valid(d) != nil {
		return ""
	}
	return filepath.Join(s.blobDir(d.Algorithm()), d.Encoded())
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// valid tells what is wrong with a digest; only then may it become a part of a path.
func valid(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w: %w", d, err, errdefs.ErrInvalidArgument)
	}
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return fmt.Errorf("digest %q: the algorithm is neither sha256 nor sha512: %w", d, errdefs.ErrInvalidArgument)
	}
	return nil
}

// Has tells whether the blob is there.
func (s *Store) Has(d digest.Digest) bool {
	return isThere(s.Path(d))
}

// Info describes a blob. Errors: ErrNotFound, ErrInvalidArgument.
func (s *Store) Info(_ context.Context, d digest.Digest) (Info, error) {
	if err := valid(d); err != nil {
		return Info{}, err
	}
	fi, err := os.Lstat(s.Path(d))
	if err != nil {
		return Info{}, blobError(d, err)
	}
	i := Info{Digest: d, Size: fi.Size(), CreatedAt: fi.ModTime(), UpdatedAt: fi.ModTime()}
	r, err := s.records.Get("", d.String())
	if errdefs.IsNotFound(err) {
		return i, nil
	}
	if err != nil {
		return Info{}, err
	}
	i.Labels, i.UpdatedAt = r.Labels, r.UpdatedAt
	return i, nil
}

// blob is the Reader of a file.
type blob struct {
	*os.File
	size int64
}

func (b blob) Size() int64 { return b.size }

// Open opens a blob. Errors: ErrNotFound, ErrInvalidArgument.
func (s *Store) Open(_ context.Context, d digest.Digest) (Reader, error) {
	if err := valid(d); err != nil {
		return nil, err
	}
	f, err := os.Open(s.Path(d))
	if err != nil {
		return nil, blobError(d, err)
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, errors.Join(blobError(d, err), f.Close())
	}
	return blob{f, fi.Size()}, nil
}

// List calls visit for every blob, by digest. An error of visit ends it, and is returned.
func (s *Store) List(ctx context.Context, visit func(Info) error) error {
	return s.list(ctx, s.root, visit)
}

// ListAll is List, and then for those of the stores behind that are not here; one that several have comes several times.
func (s *Store) ListAll(ctx context.Context, visit func(Info) error) error {
	err := s.List(ctx, visit)
	for _, root := range s.behind {
		if err != nil {
			return err
		}
		err = s.list(ctx, root, func(i Info) error {
			if isThere(s.own(i.Digest)) {
				return nil
			}
			return visit(i)
		})
	}
	return err
}

func (s *Store) list(ctx context.Context, root string, visit func(Info) error) error {
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		all, err := os.ReadDir(filepath.Join(root, "blobs", a.String()))
		if errors.Is(err, fs.ErrNotExist) && root != s.root {
			continue
		}
		if err != nil {
			return fmt.Errorf("content store: %w", err)
		}
		for _, e := range all {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			i, err := s.Info(ctx, digest.NewDigestFromEncoded(a, e.Name()))
			if errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) {
				continue // deleted meanwhile, or not ours
			}
			if err != nil {
				return err
			}
			if err := visit(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// SetLabels changes the labels given and keeps the others, or with replace has only those given. A label with an empty
// value is removed. ErrNotFound without the blob.
func (s *Store) SetLabels(ctx context.Context, d digest.Digest, labels map[string]string, replace bool) (Info, error) {
	s.labels.Lock()
	defer s.labels.Unlock()
	i, err := s.Info(ctx, d)
	if err != nil {
		return Info{}, err
	}
	r := Record{Labels: map[string]string{}, UpdatedAt: time.Now().UTC()}
	sources := []map[string]string{i.Labels, labels}
	if replace {
		sources = sources[1:]
	}
	for _, m := range sources {
		for k, v := range m {
			if v == "" {
				delete(r.Labels, k)
			} else {
				r.Labels[k] = v
			}
		}
	}
	if err := s.records.Put("", d.String(), r); err != nil {
		return Info{}, err
	}
	i.Labels, i.UpdatedAt = r.Labels, r.UpdatedAt
	return i, nil
}

// Delete removes a blob and its labels. Errors: ErrNotFound, ErrInvalidArgument.
func (s *Store) Delete(_ context.Context, d digest.Digest) error {
	if err := valid(d); err != nil {
		return err
	}
	s.labels.Lock()
	defer s.labels.Unlock()
	if !isThere(s.own(d)) {
		return blobError(d, fs.ErrNotExist)
	}
	// The labels first: should the power go between, no later blob inherits them.
	if err := s.records.Delete("", d.String()); err != nil {
		return err
	}
	if err := os.Remove(s.own(d)); err != nil {
		return blobError(d, err)
	}
	return nil
}

// Verify reads a blob and compares its digest. ErrDataLoss when it is another.
func (s *Store) Verify(ctx context.Context, d digest.Digest) error {
	r, err := s.Open(ctx, d)
	if err != nil {
		return err
	}
	defer r.Close()
	got, err := hashFile(ctx, r, d.Algorithm(), r.Size())
	if err != nil {
		return fmt.Errorf("blob %s: %w", d, err)
	}
	if sum := digest.NewDigest(d.Algorithm(), got); sum != d {
		return fmt.Errorf("blob %s: digest of the stored bytes is %s: delete it and fetch it again: %w", d, sum, errdefs.ErrDataLoss)
	}
	return nil
}

// Opener opens blobs; *Store is one.
type Opener interface {
	Open(ctx context.Context, d digest.Digest) (Reader, error)
}

// ReadAll reads a small blob. Errors: ErrNotFound; ErrResourceExhausted when it has more than limit bytes.
func ReadAll(ctx context.Context, s Opener, d digest.Digest, limit int64) ([]byte, error) {
	r, err := s.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if r.Size() > limit {
		return nil, fmt.Errorf("blob %s: %d bytes are more than the %d allowed here: %w", d, r.Size(), limit, errdefs.ErrResourceExhausted)
	}
	data := make([]byte, r.Size())
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("blob %s: %w", d, err)
	}
	return data, nil
}

func blobError(d digest.Digest, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("blob %s is not in the content: %w", d, errdefs.ErrNotFound)
	}
	return fmt.Errorf("blob %s: %w", d, explain(err))
}

// explain gives an error of the file system its class.
func explain(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("the disk is full, free some space and try again: %w: %w", err, errdefs.ErrResourceExhausted)
	}
	return err
}

package content

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"github.com/minirt/mini/internal/failpoint"
	"github.com/opencontainers/go-digest"
)

// Writer receives a blob. It hashes what it writes. One goroutine at a time uses it. Close has to be called, whatever
// came before.
type Writer struct {
	s        *Store
	ref, dir string
	expected digest.Digest
	file     *os.File // nil: committed or closed
	algo     digest.Algorithm
	hash     hash.Hash
	offset   int64
	unlock   func()
}

// Writer begins an ingest, or resumes it: then Offset is above 0, and the bytes up to it have been hashed again. An
// ingest left by another Expected or Total begins anew. Errors: ErrAlreadyExists when the expected blob is there;
// ErrUnavailable while another writes the ref; ErrInvalidArgument.
func (s *Store) Writer(ctx context.Context, i Ingest) (*Writer, error) {
	if i.Ref == "" {
		return nil, fmt.Errorf("ingest without a ref: %w", errdefs.ErrInvalidArgument)
	}
	if i.Total < 0 {
		return nil, fmt.Errorf("ingest %s: a total of %d bytes: %w", i.Ref, i.Total, errdefs.ErrInvalidArgument)
	}
	if i.Expected != "" {
		if err := valid(i.Expected); err != nil {
			return nil, fmt.Errorf("ingest %s: %w", i.Ref, err)
		}
	}
	unlock, err := s.lockRef(ctx, i)
	if err != nil {
		return nil, err
	}
	w, err := s.openIngest(ctx, i)
	if err != nil {
		unlock()
		return nil, err
	}
	w.unlock = unlock
	return w, nil
}

func (s *Store) lockRef(ctx context.Context, i Ingest) (func(), error) {
	if i.Wait {
		return s.refs.Lock(ctx, i.Ref)
	}
	unlock, ok := s.refs.TryLock(i.Ref)
	if !ok {
		return nil, busy(i.Ref)
	}
	return unlock, nil
}

// openIngest does the work of Writer, with the ref locked.
func (s *Store) openIngest(ctx context.Context, i Ingest) (*Writer, error) {
	w := &Writer{s: s, ref: i.Ref, dir: s.ingestDir(i.Ref), expected: i.Expected, algo: digest.Canonical}
	if i.Expected != "" {
		w.algo = i.Expected.Algorithm()
		if s.Has(i.Expected) {
			return nil, errors.Join(fmt.Errorf("blob %s is in the content already: %w", i.Expected, errdefs.ErrAlreadyExists), os.RemoveAll(w.dir))
		}
	}
	if err := w.begin(i); err != nil {
		return nil, w.wrap(err)
	}
	// A commit that was cut short has left it read-only.
	if err := os.Chmod(dataPath(w.dir), 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, w.wrap(err)
	}
	f, err := os.OpenFile(dataPath(w.dir), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, w.wrap(err)
	}
	w.file = f
	fi, err := f.Stat()
	if err == nil {
		n := fi.Size()
		if i.Total > 0 && n > i.Total {
			n = 0 // nothing of it can be right
		}
		err = w.seek(ctx, n)
	}
	if err != nil {
		return nil, errors.Join(w.wrap(err), f.Close())
	}
	return w, nil
}

// begin makes the ingest's directory and record, unless they are there for the same blob.
func (w *Writer) begin(i Ingest) error {
	r, err := readIngest(w.dir)
	if err == nil && r.Ref == i.Ref && r.Expected == i.Expected && r.Total == i.Total {
		return nil
	}
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		if err := os.RemoveAll(w.dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		return err
	}
	return writeIngest(w.dir, ingestRecord{i.Ref, i.Total, i.Expected, time.Now().UTC(), i.Once})
}

// seek cuts the data to n bytes and hashes them.
func (w *Writer) seek(ctx context.Context, n int64) error {
	if err := w.file.Truncate(n); err != nil {
		return err
	}
	h, err := hashFile(ctx, w.file, w.algo, n)
	if err != nil {
		return err
	}
	w.hash, w.offset = h, n
	_, err = w.file.Seek(n, io.SeekStart)
	return err
}

func (w *Writer) wrap(err error) error { return fmt.Errorf("ingest %s: %w", w.ref, explain(err)) }

var errClosed = fmt.Errorf("the writer is closed: %w", errdefs.ErrFailedPrecondition)

// Write appends bytes. ErrResourceExhausted when the disk is full: what was written counts, and can be resumed.
func (w *Writer) Write(p []byte) (int, error) {
	if w.file == nil {
		return 0, w.wrap(errClosed)
	}
	n, err := w.file.Write(p)
	w.hash.Write(p[:n])
	w.offset += int64(n)
	if err != nil {
		return n, w.wrap(err)
	}
	return n, nil
}

// ReadFrom appends all that r has, in large pieces; io.Copy uses it.
func (w *Writer) ReadFrom(r io.Reader) (int64, error) {
	b := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(b)
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, *b)
}

// Offset is how many bytes are there.
func (w *Writer) Offset() int64 { return w.offset }

// Path is the file that is written. It has the same inode as the blob that it becomes.
func (w *Writer) Path() string { return dataPath(w.dir) }

// Digest is that of the bytes so far, with the expected digest's algorithm, or else SHA-256.
func (w *Writer) Digest() digest.Digest { return digest.NewDigest(w.algo, w.hash) }

// Truncate keeps only the first n bytes. ErrOutOfRange when there are fewer.
func (w *Writer) Truncate(n int64) error {
	if w.file == nil {
		return w.wrap(errClosed)
	}
	if n < 0 || n > w.offset {
		return fmt.Errorf("ingest %s: cannot be cut to %d bytes, it has %d: %w", w.ref, n, w.offset, errdefs.ErrOutOfRange)
	}
	if err := w.seek(context.Background(), n); err != nil {
		return w.wrap(err)
	}
	return nil
}

// Commit makes the bytes a blob, after it has verified them against size (0: not known) and expected (empty: the
// ingest's, or whatever they are). It is durable after the next Store.Sync. Errors: ErrAlreadyExists when the blob was
// there already, which is as good; ErrFailedPrecondition when bytes are still missing, the ingest stays; ErrDataLoss
// when they are wrong or too many, the ingest is removed.
func (w *Writer) Commit(ctx context.Context, size int64, expected digest.Digest) error {
	if w.file == nil {
		return w.wrap(errClosed)
	}
	d, err := w.verify(ctx, size, expected)
	if errdefs.IsDataLoss(err) {
		return errors.Join(err, w.end(true))
	}
	if err != nil {
		return err
	}
	if w.s.Has(d) {
		return errors.Join(fmt.Errorf("blob %s is in the content already: %w", d, errdefs.ErrAlreadyExists), w.end(true))
	}
	if err := w.publish(d); err != nil {
		return w.wrap(err)
	}
	return w.end(true)
}

// verify returns the digest that the bytes have, if it is the right one.
func (w *Writer) verify(ctx context.Context, size int64, expected digest.Digest) (digest.Digest, error) {
	switch {
	case size > 0 && w.offset < size:
		return "", fmt.Errorf("ingest %s: it has %d bytes of %d: write the rest first: %w", w.ref, w.offset, size, errdefs.ErrFailedPrecondition)
	case size > 0 && w.offset > size:
		return "", fmt.Errorf("ingest %s: %d bytes were received, more than the expected %d: %w", w.ref, w.offset, size, errdefs.ErrDataLoss)
	}
	if expected == "" {
		expected = w.expected
	}
	if expected == "" {
		return w.Digest(), nil
	}
	if err := valid(expected); err != nil {
		return "", w.wrap(err)
	}
	got := w.Digest()
	if a := expected.Algorithm(); a != w.algo {
		h, err := hashFile(ctx, w.file, a, w.offset)
		if err != nil {
			return "", w.wrap(err)
		}
		got = digest.NewDigest(a, h)
	}
	if got != expected {
		return "", fmt.Errorf("blob %s: digest of the %d received bytes is %s: %w", expected, w.offset, got, errdefs.ErrDataLoss)
	}
	return expected, nil
}

// publish gives the data the blob's name.
func (w *Writer) publish(d digest.Digest) error {
	w.s.gate.RLock()
	defer w.s.gate.RUnlock()
	if err := w.s.soil(); err != nil {
		return err
	}
	if err := w.file.Chmod(0o444); err != nil { // and the time of change becomes later than the dirty file's
		return err
	}
	if err := failpoint.Hit("content-commit-before-rename"); err != nil {
		return err
	}
	if err := os.Rename(w.Path(), w.s.own(d)); err != nil {
		return err
	}
	return failpoint.Hit("content-commit-after-rename")
}

// Close ends the writing. What was not committed stays, to be resumed.
func (w *Writer) Close() error {
	if w.file == nil {
		return nil
	}
	return w.end(false)
}

func (w *Writer) end(remove bool) error {
	err := w.file.Close()
	w.file = nil
	if remove {
		err = errors.Join(err, os.RemoveAll(w.dir))
	}
	w.unlock()
	if err != nil {
		return w.wrap(err)
	}
	return nil
}

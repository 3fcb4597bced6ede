package image

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
)

// isNoSpace tells whether an error is a full disk or an exhausted quota.
func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// fullError is a full disk, with the directory that was written to.
type fullError struct {
	dir string
	err error
}

func (e *fullError) Error() string { return e.err.Error() }
func (e *fullError) Unwrap() error { return e.err }

// writing notes the directory that was written to when the disk was found full.
func writing(dir string, err error) error {
	if isNoSpace(err) {
		return &fullError{dir, err}
	}
	return err
}

// explain says of a full disk which directory is full and what can be done; other errors stay as they are.
func (s *Service) explain(err error) error {
	if err == nil || !isNoSpace(err) {
		return err
	}
	dir := filepath.Dir(s.Content.Path(digest.FromString("")))
	var full *fullError
	if errors.As(err, &full) {
		dir = full.dir
	}
	return fmt.Errorf("%w: %s: delete images that are not needed (prune), or give it more room: %w", err, fullness(dir), errdefs.ErrResourceExhausted)
}

// fullness describes the filesystem of a directory: it may be the bytes or the inodes that are used up, or a quota.
func fullness(dir string) string {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return "the filesystem of " + dir + " is full"
	}
	total := float64(st.Blocks) * float64(st.Bsize)
	switch free := float64(st.Bavail) * float64(st.Bsize); {
	case st.Files > 0 && st.Ffree == 0:
		return fmt.Sprintf("the filesystem of %s has none of its %d inodes left", dir, st.Files)
	case free > total/10:
		return fmt.Sprintf("the filesystem of %s was full or is limited by a quota (%s of %s are free now)", dir, units.BytesSize(free), units.BytesSize(total))
	default:
		return fmt.Sprintf("the filesystem of %s is full (%s of %s are free)", dir, units.BytesSize(free), units.BytesSize(total))
	}
}

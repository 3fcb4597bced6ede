package image

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// isNoSpace tells whether an error is a full disk or an exhausted quota.
func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// explain says of a full disk which directory is full and what can be done; other errors stay as they are.
func (s *Service) explain(err error) error {
	if err == nil || !isNoSpace(err) {
		return err
	}
	where := filepath.Dir(filepath.Dir(filepath.Dir(s.Content.Path(digest.FromString(""))))) // below it: blobs/sha256/…
	return fmt.Errorf("%w: the filesystem of %s or of the snapshots is full: delete images (prune), or give it more room: %w",
		err, where, errdefs.ErrResourceExhausted)
}

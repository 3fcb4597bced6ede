package content

import (
	"fmt"
	"os"

	"github.com/opencontainers/go-digest"
)

// Take makes a file of the store's filesystem a blob, which somebody else has verified. It is moved; where the blob is there
// already it is left.
func (s *Store) Take(path string, d digest.Digest) error {
	if err := valid(d); err != nil {
		return err
	}
	if s.Has(d) {
		return nil
	}
	s.gate.RLock()
	defer s.gate.RUnlock()
	err := s.soil()
	if err == nil {
		err = os.Chmod(path, 0o444) // and the time of change becomes later than the dirty file's
	}
	if err == nil {
		err = os.Rename(path, s.own(d))
	}
	if err != nil {
		return fmt.Errorf("take blob %s: %w", d, explain(err))
	}
	return nil
}

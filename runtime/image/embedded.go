package image

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/oci/name"
)

// Embedded is an image that comes with the daemon: where no registry is reached, there still is one to run. It is
// imported when somebody first asks for it by its name, into the namespace that was asked.
type Embedded struct {
	Name string // normalised
	Open func() (archive io.ReadCloser, ok bool)
}

// embedded imports the image that the daemon carries under this name, and says whether it carries one.
func (s *Service) embedded(ctx context.Context, ns, ref string) (bool, error) {
	parsed, err := name.Parse(ref)
	if err != nil || s.Embedded.Open == nil || parsed.String() != s.Embedded.Name {
		return false, nil
	}
	archive, ok := s.Embedded.Open()
	if !ok {
		return false, fmt.Errorf("image %s: this minid was built without it: run make toolbox, then make build: %w", ref, errdefs.ErrNotFound)
	}
	defer archive.Close()
	if _, err := s.Import(ctx, ns, archive, ImportOptions{}); err != nil {
		return false, fmt.Errorf("import the image %s that minid carries: %w", ref, err)
	}
	return true, nil
}

package spec

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// CDI injects devices of the Container Device Interface, like nvidia.com/gpu=all. oci/spec/cdi implements it with the
// interface's own library; it is apart because that library brings a YAML parser, which only the daemon needs.
type CDI interface {
	// Inject adds the devices' edits to a document. unresolved names those that no CDI file defines; then nothing was added.
	Inject(s *specs.Spec, devices []string) (unresolved []string, err error)
}

// cdiRule injects the request's CDI devices.
func cdiRule(b *builder) error {
	if len(b.req.CDIDevices) == 0 {
		return nil
	}
	if b.in.CDI == nil {
		return unable("devices %s: no CDI directory is configured", strings.Join(b.req.CDIDevices, ", "))
	}
	unresolved, err := b.in.CDI.Inject(b.spec, b.req.CDIDevices)
	if len(unresolved) > 0 {
		return fmt.Errorf("devices %s aren't defined in any CDI file (/etc/cdi, /var/run/cdi): %w", strings.Join(unresolved, ", "), errdefs.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("devices %s: %w", strings.Join(b.req.CDIDevices, ", "), err)
	}
	return nil
}

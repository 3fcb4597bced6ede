package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/containerd/errdefs"
)

// PrepareSources makes the directories that binds with CreateSource need, and checks that the others' sources are there:
// the runtime would fail much later, and name its own steps. Build does not do it, because it touches the host; call it
// before the container starts. Errors: ErrNotFound, ErrInvalidArgument.
func PrepareSources(mounts []Mount) error {
	for _, m := range mounts {
		named := m.Type == "image" || m.Type == "volume" // by something else than a path of the host
		if m.Source == "" || named || (m.Type != "bind" && m.Type != "" && !isBind(m.Options)) {
			continue
		}
		_, err := os.Stat(m.Source)
		switch {
		case err == nil:
		case errors.Is(err, fs.ErrNotExist) && m.CreateSource:
			if err := os.MkdirAll(m.Source, 0o755); err != nil {
				return fmt.Errorf("mount %s: make its source: %w", m.Target, err)
			}
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("mount %s: its source %s isn't on this host: make it first: %w", m.Target, m.Source, errdefs.ErrNotFound)
		default:
			return invalid("mount %s: its source: %v", m.Target, err)
		}
	}
	return nil
}

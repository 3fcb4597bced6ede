package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/minirt/mini/internal/atomicfile"
	"github.com/minirt/mini/runtime/image"
	"github.com/minirt/mini/runtime/toolbox"
)

// importTimeout bounds how long the embedded image may hold up the start: it is a few MiB.
const importTimeout = 10 * time.Second

// importToolbox puts the image that the program carries into the default namespace, once for each version of the
// program: a user who deletes it is not given it again. A failure is not the daemon's.
func (d *Daemon) importToolbox(ctx context.Context) error {
	marker := filepath.Join(d.Config.Root, "toolbox")
	last, err := os.ReadFile(marker)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if strings.TrimSpace(string(last)) == d.Options.Version {
		return nil
	}
	archive, ok := toolbox.Archive()
	if !ok {
		return nil
	}
	defer archive.Close()
	ctx, cancel := context.WithTimeout(ctx, importTimeout)
	defer cancel()
	start := time.Now()
	if _, err := d.images.Import(ctx, defaultNamespace, archive, image.ImportOptions{}); err != nil {
		d.Log.Warn("the embedded image is not imported", "image", toolbox.Name, "error", err)
		return nil
	}
	d.Log.Info("imported the embedded image", "image", toolbox.Name, "took", time.Since(start).Round(time.Millisecond))
	return atomicfile.Write(marker, []byte(d.Options.Version+"\n"), 0o644)
}

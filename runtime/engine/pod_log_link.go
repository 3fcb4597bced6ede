package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/minirt/mini/internal/mount"
)

// linkedLogs is what the pod's logs are called in the directory that shows them to its containers.
const linkedLogs = "logs"

// showLogs shows the pod's log directory, read-only, in a directory that its containers may mount, where the pod asks for
// that. The directory is its client's, who has made it.
func showLogs(rec Pod) error {
	if rec.LogLink == "" {
		return nil
	}
	dir, err := os.OpenRoot(rec.LogLink)
	if err != nil {
		return fmt.Errorf("the directory to show the logs in: %w", err)
	}
	defer dir.Close()
	if err := dir.Mkdir(linkedLogs, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("the directory to show the logs in: %w", err)
	}
	logs := mount.Mount{Type: "bind", Source: rec.LogDir, Target: linkedLogs, Options: []string{"bind", "ro", "nosuid", "nodev", "noexec"}}
	return mount.All([]mount.Mount{logs}, rec.LogLink)
}

// hideLogs undoes showLogs, before somebody removes the directory with what is in it.
func hideLogs(rec Pod) error {
	if rec.LogLink == "" {
		return nil
	}
	return mount.Unmount(filepath.Join(rec.LogLink, linkedLogs))
}

// logLink is a link by a container's id to its log, beside the logs of its pod, where the pod shows them; empty without.
func (e *Engine) logLink(c Container) (link, target string) {
	if c.Pod == "" || c.Log.Path == "" {
		return "", ""
	}
	p, err := e.podOfContainer(c)
	if err != nil || p.record().LogLink == "" {
		return "", ""
	}
	dir := p.record().LogDir
	target, err = filepath.Rel(dir, c.Log.Path) // relative: containers see the directory elsewhere
	if err != nil || !filepath.IsLocal(target) {
		return "", ""
	}
	return filepath.Join(dir, c.ID+".log"), target
}

func (e *Engine) linkLog(c Container) error {
	link, target := e.logLink(c)
	if link == "" {
		return nil
	}
	return os.Symlink(target, link)
}

func (e *Engine) unlinkLog(c Container) error {
	link, _ := e.logLink(c)
	if link == "" {
		return nil
	}
	if err := os.Remove(link); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

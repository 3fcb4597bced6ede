package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/minirt/mini/internal/atomicfile"
	"github.com/minirt/mini/runtime/cri"
	"github.com/minirt/mini/runtime/engine"
)

// bootIDFile is the kernel's name for the time since it was booted (random(4)).
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// lastRun is what a daemon leaves in its root for the next one.
type lastRun struct {
	Version string `json:"version"`
	Boot    string `json:"boot"`  // the kernel's name for the time since the machine was booted
	Clean   bool   `json:"clean"` // the daemon, and then the machine, ended in order
}

func lastRunFile(root string) string { return filepath.Join(root, "last-run.json") }

// readLastRun is what the daemon before left; false: there was none, or nothing can be read of it.
func readLastRun(root string) (lastRun, bool) {
	var last lastRun
	data, err := os.ReadFile(lastRunFile(root))
	return last, err == nil && json.Unmarshal(data, &last) == nil
}

// markRun says that a daemon runs, or that it has ended in order.
func markRun(root, version string, clean bool) error {
	boot, err := os.ReadFile(bootIDFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	data, err := json.Marshal(lastRun{Version: version, Boot: strings.TrimSpace(string(boot)), Clean: clean})
	if err != nil {
		return err
	}
	return atomicfile.Write(lastRunFile(root), append(data, '\n'), 0o644)
}

// rebooted says whether the machine was booted since a daemon ran.
func (l lastRun) rebooted() bool {
	boot, err := os.ReadFile(bootIDFile)
	return err == nil && l.Boot != strings.TrimSpace(string(boot))
}

// checkLastRun marks this run, and says whether the machine went down under the daemon before: then what it has on record
// is compared with what is on the disk. A full disk is no reason not to run.
func (d *Daemon) checkLastRun() (lost bool) {
	last, known := readLastRun(d.Config.Root)
	if err := markRun(d.Config.Root, d.Options.Version, false); err != nil {
		d.Log.Warn("the run is not marked: a power cut would not be noticed", "error", err)
	}
	d.closers.Add(func(context.Context) error {
		if !d.orderly {
			return nil
		}
		return markRun(d.Config.Root, d.Options.Version, true)
	})
	return known && !last.Clean && last.rebooted()
}

// checkAfterLoss compares the records with the disk after a power cut, mends what can be mended, and tells the rest.
func (d *Daemon) checkAfterLoss(ctx context.Context) {
	d.Log.Warn("the machine went down under the last daemon; what it has on record is checked")
	problems, checked, err := d.engine.Check(ctx, true, true)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil:
		d.Log.Error("the check after a power cut", "error", err)
	}
	for _, p := range problems {
		d.Log.Warn("found after a power cut", "kind", p.Kind, "object", p.Object, "problem", p.Problem, "repaired", p.Repaired)
	}
	d.Log.Info("checked after a power cut", "objects", checked, "problems", len(problems))
}

// WipeOptions say what Wipe removes.
type WipeOptions struct {
	Images bool // images too
	// Force removes what there is also when the machine was not booted, or for images when the version is the same, since the
	// daemon ran last.
	Force bool
}

// Wiped is what was removed.
type Wiped struct {
	Pods, Containers, Images int
	Why                      string // nothing was
}

// Wipe removes what a daemon that does not run has left of Kubernetes' pods and containers, and of its images if that is asked
// for: after a reboot, or an upgrade, where the machine's owner wants to begin anew. Without Force it does nothing when there
// was none. What other clients have made stays.
func Wipe(ctx context.Context, o Options, w WipeOptions) (_ Wiped, err error) {
	last, known := readLastRun(o.Config.Root)
	containers, images := w.Force || known && last.rebooted(), w.Images && (w.Force || known && last.Version != o.Version)
	if !containers && !images {
		return Wiped{Why: "the machine was not booted since minid ran last, and its version is the same: --force wipes all the same"}, nil
	}
	d, err := Open(ctx, o)
	if err != nil {
		return Wiped{}, err
	}
	d.orderly = true
	defer func() { err = errors.Join(err, d.closers.Run(ctx)) }()
	var out Wiped
	if containers {
		if err := d.wipeContainers(ctx, &out); err != nil {
			return out, err
		}
	}
	if images {
		return out, d.wipeImages(ctx, &out)
	}
	return out, nil
}

func (d *Daemon) wipeContainers(ctx context.Context, out *Wiped) error {
	var errs []error
	pods, err := d.engine.ListPods(ctx, cri.Namespace)
	if err != nil {
		return err
	}
	for _, p := range pods {
		err := d.engine.RemovePod(ctx, p.Namespace, p.ID)
		if err == nil {
			out.Pods++
		}
		errs = append(errs, err)
	}
	all, err := d.engine.List(ctx, cri.Namespace)
	if err != nil {
		return err
	}
	for _, c := range all {
		_, err := d.engine.Delete(ctx, c.Namespace, c.ID, engine.DeleteOptions{Force: true})
		if err == nil {
			out.Containers++
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (d *Daemon) wipeImages(ctx context.Context, out *Wiped) error {
	images, err := d.images.List(ctx, cri.Namespace)
	if err != nil {
		return err
	}
	var errs []error
	for _, i := range images {
		_, err := d.images.Delete(ctx, cri.Namespace, i.Name, true)
		if err == nil {
			out.Images++
		}
		errs = append(errs, err)
	}
	_, err = d.engine.CollectGarbage(ctx, false)
	return errors.Join(append(errs, err)...)
}

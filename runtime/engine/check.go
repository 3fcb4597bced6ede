package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/cgroup"
	"github.com/minirt/mini/runtime/image"
	"github.com/minirt/mini/runtime/sandbox"
	"github.com/minirt/mini/runtime/snapshot"
)

// Check compares the records with the host, in both directions, and with repair mends what it finds. It returns the
// problems and how many objects it has looked at. quick does not read the blobs' bytes.
func (e *Engine) Check(ctx context.Context, repair, quick bool) ([]Problem, int, error) {
	var all []Problem
	found, err := e.Store.Check(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("check the store: %w", err)
	}
	for _, p := range found {
		all = append(all, Problem{Kind: "store", Object: p.Object, Problem: p.Problem, Remedy: "restore meta.db from a copy, or remove the object"})
	}
	images, err := e.Images.Problems(ctx, repair, quick)
	if err != nil {
		return all, 0, fmt.Errorf("check the images: %w", err)
	}
	for _, p := range images {
		all = append(all, Problem{Kind: p.Kind, Object: p.Object, Problem: p.Problem, Remedy: p.Remedy, Repaired: p.Repaired})
	}
	containers, err := e.List(ctx, "")
	if err != nil {
		return all, 0, err
	}
	for _, c := range containers {
		all = append(all, e.checkContainer(ctx, c, repair)...)
	}
	pods := e.livePods("")
	for _, p := range pods {
		all = append(all, e.checkPodRecord(ctx, p, repair)...)
	}
	all = append(all, e.checkLeftovers(repair)...)
	problems, volumes := e.checkVolumes(ctx, repair)
	all = append(all, problems...)
	blobs, err := e.Images.Count(ctx)
	return all, blobs + len(containers) + len(pods) + volumes, err
}

// checkContainer looks for what a record promises and the host does not have.
func (e *Engine) checkContainer(ctx context.Context, c Container, repair bool) []Problem {
	problem := func(what, remedy string) Problem {
		return Problem{Kind: "container", Object: c.Namespace + "/" + c.ID, Problem: what, Remedy: remedy}
	}
	var found []Problem
	switch c.State {
	case Running, Paused:
		if !sandbox.Alive(c.PID, c.StartTime) {
			found = append(found, problem(fmt.Sprintf("recorded as %s, and process %d does not live", c.State, c.PID),
				"delete it, or restart the daemon"))
		}
	case Creating, Removing:
		if left, repaired := e.checkHalf(ctx, c, repair); left {
			p := problem("left half "+map[State]string{Creating: "made", Removing: "removed"}[c.State], "delete it")
			p.Repaired = repaired
			found = append(found, p)
		}
	}
	if c.Pod != "" && !e.ownedPod(c.Namespace, c.Pod) {
		found = append(found, problem("its pod "+c.Pod+" has no record", "delete it"))
	}
	if c.Snapshot != "" && c.State != Creating && c.State != Removing {
		found = append(found, e.checkSnapshot(ctx, c)...)
	}
	return found
}

// checkHalf says whether a container is left half made or half removed, with nobody at it, and removes it to repair it.
func (e *Engine) checkHalf(ctx context.Context, c Container, repair bool) (left, repaired bool) {
	k := key{c.Namespace, c.ID}
	unlock, free := e.locks.TryLock(k.String())
	if !free {
		return false, false // somebody is at it
	}
	defer unlock()
	l := e.exactly(k.ns, k.id)
	if l == nil || l.state() != c.State {
		return false, false // somebody has just been
	}
	return true, repair && e.undo(ctx, l) == nil
}

func (e *Engine) checkSnapshot(ctx context.Context, c Container) []Problem {
	s := e.Snapshotters[c.Snapshotter]
	if s == nil {
		return []Problem{{Kind: "container", Object: c.Namespace + "/" + c.ID, Problem: "its snapshotter " + c.Snapshotter + " is not configured",
			Remedy: "configure it again"}}
	}
	if _, err := s.Info(ctx, snapshot.Key{Namespace: c.Namespace, Name: c.Snapshot}); err != nil {
		return []Problem{{Kind: "container", Object: c.Namespace + "/" + c.ID, Problem: "its root filesystem is gone: " + err.Error(),
			Remedy: "delete it"}}
	}
	return nil
}

// checkLeftovers looks for what is on the host and has no record: bundles with their mounts, log directories, cgroups,
// and the directories of pods with their pinned namespaces and shared memory.
func (e *Engine) checkLeftovers(repair bool) []Problem {
	var found []Problem
	report := func(kind, path, what string, remove func() error) {
		p := Problem{Kind: kind, Object: path, Problem: what, Remedy: "minictr check --repair removes it"}
		if repair {
			p.Repaired = remove() == nil
		}
		found = append(found, p)
	}
	for _, dir := range unowned(filepath.Join(e.State, "pods"), e.ownedPod) {
		report("pod", dir, "namespaces and files of no pod", func() error { return removePodDir(dir) })
	}
	for _, dir := range unowned(filepath.Join(e.State, "containers"), e.owned) {
		report("mount", dir, "a bundle of no container", func() error { return removeBundle(dir) })
	}
	for _, dir := range unowned(filepath.Join(e.Root, "containers"), e.owned) {
		report("container", dir, "log files of no container", func() error { return os.RemoveAll(dir) })
	}
	for _, root := range cgroupRoots() {
		for _, dir := range unowned(filepath.Join(root, e.cgroupParent()), e.owned) {
			report("cgroup", dir, "a control group of no container", func() error {
				paths := map[string]string{"": dir}
				return errors.Join(cgroup.Kill(paths), cgroup.Remove(dir))
			})
		}
	}
	return found
}

// unowned lists dir/NAMESPACE/ID directories whose owner is not known.
func unowned(dir string, owned func(ns, id string) bool) []string {
	var found []string
	spaces, err := os.ReadDir(dir)
	if err != nil {
		return nil // nothing was ever made here
	}
	for _, ns := range spaces {
		if !ns.IsDir() {
			continue
		}
		ids, err := os.ReadDir(filepath.Join(dir, ns.Name()))
		if err != nil {
			continue
		}
		for _, id := range ids {
			if !id.IsDir() {
				continue
			}
			if !owned(ns.Name(), id.Name()) {
				found = append(found, filepath.Join(dir, ns.Name(), id.Name()))
			}
		}
	}
	return found
}

// owned says whether there is a container with this id, or a record of one that cannot be read.
func (e *Engine) owned(ns, id string) bool {
	if e.exactly(ns, id) != nil {
		return true
	}
	_, err := e.Containers.Get(ns, id)
	return err == nil || errdefs.IsDataLoss(err) || errdefs.IsFailedPrecondition(err)
}

func removeBundle(dir string) error {
	if err := unmountBundle(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// cgroupRoots are the hierarchies' mount points: one on cgroup v2, one for each controller on v1.
func cgroupRoots() []string {
	if cgroup.Mode() == cgroup.V2 {
		return []string{cgroup.Root}
	}
	entries, err := os.ReadDir(cgroup.Root)
	if err != nil {
		return nil
	}
	var roots []string
	for _, entry := range entries {
		if entry.IsDir() {
			roots = append(roots, filepath.Join(cgroup.Root, entry.Name()))
		}
	}
	return roots
}

// CollectGarbage deletes the content and the snapshots that no image, lease or container refers to.
func (e *Engine) CollectGarbage(ctx context.Context, dryRun bool) (image.Collected, error) {
	if !dryRun {
		e.removeHalves(ctx)
	}
	return e.Images.CollectGarbage(ctx, image.CollectOptions{DryRun: dryRun, Used: e.usedImages()})
}

// removeHalves tries again to remove what could not be removed wholly: its snapshotter, or what else it has, may answer now.
func (e *Engine) removeHalves(ctx context.Context) {
	containers, err := e.List(ctx, "")
	if err != nil {
		e.Log.Warn("what is half removed stays so until the next collection", "error", err)
	}
	for _, c := range containers {
		if c.State == Creating || c.State == Removing {
			e.checkHalf(ctx, c, true)
		}
	}
}

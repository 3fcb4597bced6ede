package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/inroot"
	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/image"
	"github.com/minirt/mini/runtime/snapshot"
)

// MountImage is the type of a mount whose source is an image: its files, read-only, at the target.
const MountImage = "image"

// imagesDir has a directory for each image mount of a container, named by its place in the request.
func imagesDir(bundle string) string { return filepath.Join(bundle, "images") }

func imageMountKey(c Container, i int) snapshot.Key {
	return snapshot.Key{Namespace: c.Namespace, Name: fmt.Sprintf("%s-image-%d", c.ID, i)}
}

// imageMounts are the places of a container's image mounts in its request.
func imageMounts(c Container) []int {
	var at []int
	if c.Request == nil {
		return nil
	}
	for i, m := range c.Request.Mounts {
		if m.Type == MountImage {
			at = append(at, i)
		}
	}
	return at
}

// viewImages makes a view of each image that a container mounts. The images have to be there.
func (e *Engine) viewImages(ctx context.Context, c Container, opts snapshot.Options) error {
	sn := e.Snapshotters[c.Snapshotter]
	for _, i := range imageMounts(c) {
		m := c.Request.Mounts[i]
		files, artifact, err := e.Images.Artifact(ctx, c.Namespace, m.Source)
		if err == nil && artifact {
			err = linkArtifact(artifactDir(e.home(c), i), files)
		}
		if err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
		if artifact {
			continue
		}
		resolved, err := e.Images.Resolve(ctx, c.Namespace, m.Source, "")
		if err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
		chain, err := e.Images.Unpack(ctx, c.Namespace, resolved.Image.Name, c.Snapshotter, "", nil)
		if err != nil {
			return fmt.Errorf("mount %s: unpack image %s: %w", m.Target, resolved.Image.Name, err)
		}
		if _, err := sn.View(ctx, imageMountKey(c, i), chain, opts); err != nil && !errdefs.IsAlreadyExists(err) {
			return fmt.Errorf("mount %s: view image %s: %w", m.Target, resolved.Image.Name, err)
		}
	}
	return nil
}

// artifactDir has the files of an artifact that is mounted; it goes with the container's logs.
func artifactDir(home string, i int) string { return filepath.Join(home, "artifacts", fmt.Sprint(i)) }

// linkArtifact gives the blobs of an artifact their names. They are links: a collection may take the blobs away.
func linkArtifact(dir string, files []image.ArtifactFile) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.Link(f.Path, path); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// bindImages mounts the images in the bundle, and turns the request's image mounts into binds of them.
func (e *Engine) bindImages(ctx context.Context, c Container, r spec.Request) (spec.Request, error) {
	at := imageMounts(c)
	if len(at) == 0 {
		return r, nil
	}
	first := len(r.Mounts) - len(c.Request.Mounts) // those of the pod come before
	r.Mounts = slices.Clone(r.Mounts)
	for _, i := range at {
		m := c.Request.Mounts[i]
		source, err := e.mountImage(ctx, c, i)
		if err != nil {
			return r, fmt.Errorf("mount %s: image %s: %w", m.Target, m.Source, err)
		}
		options := slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "rw" || o == "ro" })
		m.Type, m.Source, m.SubPath = "bind", source, ""
		m.Options = append(options, "rbind", "ro")
		r.Mounts[first+i] = m
	}
	return r, nil
}

// mountImage mounts the view, unless it is there already, and finds the path below it that is asked for.
func (e *Engine) mountImage(ctx context.Context, c Container, i int) (string, error) {
	if artifact := artifactDir(e.home(c), i); isDir(artifact) {
		return below(artifact, c.Request.Mounts[i].SubPath)
	}
	dir := filepath.Join(imagesDir(e.Bundle(c)), fmt.Sprint(i))
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return "", err
	}
	mounted, err := mount.Mounted(dir)
	if err != nil {
		return "", err
	}
	if !mounted {
		mounts, err := e.Snapshotters[c.Snapshotter].Mounts(ctx, imageMountKey(c, i))
		if err == nil {
			mounts, err = e.inContext(mounts, filesLabel(c))
		}
		if err == nil {
			err = mount.All(mounts, dir)
		}
		if err != nil {
			return "", err
		}
	}
	return below(dir, c.Request.Mounts[i].SubPath)
}

// below finds a path inside a directory that is not ours to trust: links are followed, but never out of it.
func below(dir, sub string) (string, error) {
	if sub == "" {
		return dir, nil
	}
	if filepath.IsAbs(sub) || slices.Contains(strings.Split(sub, "/"), "..") {
		return "", fmt.Errorf("sub path %q: give a relative path without ..: %w", sub, errdefs.ErrInvalidArgument)
	}
	path, err := resolveIn(dir, sub)
	if errors.Is(err, unix.ENOENT) {
		return "", fmt.Errorf("sub path %q: the image has no such file or directory: %w", sub, errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return "", fmt.Errorf("sub path %q: %w", sub, err)
	}
	return path, nil
}

// resolveIn is the real path of a path in a root: its links are followed, and never out of the root.
func resolveIn(dir, path string) (string, error) {
	f, err := inroot.Find(dir, path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return os.Readlink(inroot.Path(f.Fd()))
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// unmountIn takes away what is mounted on the entries of a directory: of images, or of volumes, in a bundle.
func unmountIn(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // nothing was ever mounted
	}
	var errs []error
	for _, entry := range entries {
		errs = append(errs, mount.Unmount(filepath.Join(dir, entry.Name())))
	}
	return errors.Join(errs...)
}

// removeImageViews removes what viewImages made.
func (e *Engine) removeImageViews(ctx context.Context, c Container) error {
	var errs []error
	for _, i := range imageMounts(c) {
		if err := e.Snapshotters[c.Snapshotter].Remove(ctx, imageMountKey(c, i)); err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

package cri

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/engine"
)

// The parts of a container's checkpoint, by the names that other runtimes' archives have too.
const (
	checkpointImages = "checkpoint"      // criu's files
	checkpointDiff   = "rootfs-diff.tar" // what the container has written
	checkpointConfig = "config.dump"
	checkpointSpec   = "spec.dump"
)

// CheckpointContainer writes an archive of a running container, which runs on.
func (s *runtimeServer) CheckpointContainer(ctx context.Context, r *v1.CheckpointContainerRequest) (*v1.CheckpointContainerResponse, error) {
	location, err := hostPath("checkpoint location", r.GetLocation())
	if err != nil {
		return nil, err
	}
	timeout, err := seconds("checkpoint timeout", r.GetTimeout())
	if err != nil {
		return nil, err
	}
	c, err := s.running(ctx, r.GetContainerId())
	if err != nil {
		return nil, err
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	if err := s.criu(ctx); err != nil {
		return nil, err
	}
	// Beside the archive, so that it gets its name by a rename.
	dir, err := os.MkdirTemp(filepath.Dir(location), ".checkpoint-")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, unable("checkpoint to %s: the directory is not there: make it", location)
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint to %s: %w", location, err)
	}
	defer os.RemoveAll(dir)
	parts := filepath.Join(dir, "parts")
	if err := os.Mkdir(parts, 0o700); err != nil {
		return nil, err
	}
	if err := s.capture(ctx, c, parts); err != nil {
		return nil, err
	}
	archive := filepath.Join(dir, "archive")
	if err := archiveDirectory(parts, archive); err != nil {
		return nil, fmt.Errorf("checkpoint to %s: %w", location, err)
	}
	return &v1.CheckpointContainerResponse{}, os.Rename(archive, location)
}

// capture writes the parts of a container's checkpoint into a directory.
func (s *runtimeServer) capture(ctx context.Context, c engine.Container, dir string) error {
	images := filepath.Join(dir, checkpointImages)
	err := s.Engine.Checkpoint(ctx, Namespace, c.ID, engine.CheckpointOptions{Path: images, LeaveRunning: true, TCPEstablished: true, FileLocks: true})
	if err != nil {
		return cannotCheckpoint(err)
	}
	document, err := s.Engine.Spec(ctx, Namespace, c.ID)
	if err != nil {
		return err
	}
	k := unpack(c)
	for file, content := range map[string]any{
		checkpointSpec: document,
		checkpointConfig: map[string]any{
			"id": c.ID, "name": k.metadata().GetName(), "rootfsImageName": c.Image, "rootfsImageRef": k.ImageID, "runtime": c.Runtime,
			"createdTime": c.CreatedAt, "config": k.config,
		},
	} {
		data, err := json.Marshal(content)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
			return err
		}
	}
	return s.writeDiff(ctx, c, filepath.Join(dir, checkpointDiff))
}

// cannotCheckpoint gives what criu has refused the class of a host that cannot do it; other classes stay.
func cannotCheckpoint(err error) error {
	if class := errdefs.Resolve(err); class == errdefs.ErrUnknown || class == errdefs.ErrInternal {
		return fmt.Errorf("%v: %w", err, errdefs.ErrFailedPrecondition)
	}
	return err
}

func (s *runtimeServer) writeDiff(ctx context.Context, c engine.Container, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := s.Disk.Diff(ctx, c, f); err != nil {
		return fmt.Errorf("checkpoint container %s: what it has written: %w", c.ID, err)
	}
	return f.Close()
}

// archiveDirectory writes the files below a directory as a tar archive, synced: the name that it then gets must not be
// that of half an archive.
func archiveDirectory(dir, archive string) error {
	f, err := os.OpenFile(archive, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	root := os.DirFS(dir)
	err = fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if !info.IsDir() && !info.Mode().IsRegular() {
			return nil // criu's own links and sockets are of no use elsewhere
		}
		header, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		header.Name = name
		if err := w.WriteHeader(header); err != nil || info.IsDir() {
			return err
		}
		from, err := root.Open(name)
		if err != nil {
			return err
		}
		defer from.Close()
		_, err = io.Copy(w, from)
		return err
	})
	if err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

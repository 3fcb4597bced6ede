package cri

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/id"
	ocilayer "github.com/minirt/mini/oci/layer"
	"github.com/minirt/mini/runtime/engine"
)

// maxDump bounds the description of a container in an archive, in bytes.
const maxDump = 4 << 20

// archived is a container that is made of an archive of a checkpoint (CheckpointContainer's, or one that CRI-O or containerd
// has written) instead of an image: its start goes on where the checkpoint was made.
type archived struct {
	path   string
	id     string              // of the container to be made
	dir    string              // in its bundle, for the parts of the archive
	config *v1.ContainerConfig // with the image that the archive names
}

// archivedContainer is what a configuration asks for whose image is the absolute path of an archive; nil: it has an image.
func (s *runtimeServer) archivedContainer(ctx context.Context, config *v1.ContainerConfig) (*archived, error) {
	location := config.GetImage().GetImage()
	if !filepath.IsAbs(location) {
		return nil, nil
	}
	location, err := hostPath("archive of a checkpoint", location)
	if err != nil {
		return nil, err
	}
	if err := s.criu(ctx); err != nil {
		return nil, err
	}
	image, err := imageOfArchive(location)
	if err != nil {
		return nil, fmt.Errorf("restore from %s: %w", location, err)
	}
	a := &archived{path: location, id: id.New(), config: proto.Clone(config).(*v1.ContainerConfig)}
	a.dir = filepath.Join(s.Engine.Bundle(engine.Container{Namespace: Namespace, ID: a.id}), "archive")
	for _, ref := range image {
		if _, err = s.Images.Resolve(ctx, Namespace, ref, ""); err == nil {
			a.config.Image.Image, a.config.Image.UserSpecifiedImage = ref, ""
			return a, nil
		}
	}
	return nil, fmt.Errorf("restore from %s: pull its image first: %w", location, err)
}

// imageOfArchive is what an archive calls its container's image, the surest first.
func imageOfArchive(location string) ([]string, error) {
	f, err := os.Open(location)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no such file: %w", errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readDump(f)
}

// readDump finds the description of the container among an archive's files.
func readDump(r io.Reader) ([]string, error) {
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil, invalid("it has no %s: it is no archive of a checkpoint", checkpointConfig)
		}
		if err != nil {
			return nil, invalid("it is no archive: %v", err)
		}
		if path.Clean(h.Name) != checkpointConfig || h.Typeflag != tar.TypeReg {
			continue
		}
		data, err := io.ReadAll(io.LimitReader(archive, maxDump+1))
		if err != nil {
			return nil, invalid("its %s: %v", checkpointConfig, err)
		}
		var dump struct {
			RootfsImageRef, RootfsImageName string
		}
		if len(data) > maxDump || json.Unmarshal(data, &dump) != nil {
			return nil, invalid("its %s is damaged", checkpointConfig)
		}
		var refs []string
		for _, ref := range []string{dump.RootfsImageRef, dump.RootfsImageName} {
			if ref != "" {
				refs = append(refs, ref)
			}
		}
		if len(refs) == 0 {
			return nil, invalid("its %s names no image", checkpointConfig)
		}
		return refs, nil
	}
}

// images is where criu's files are when the archive has been unpacked.
func (a *archived) images() string {
	if a == nil {
		return ""
	}
	return filepath.Join(a.dir, checkpointImages)
}

// unpackArchive gives a new container what the archive has of it. On an error the container is removed.
func (s *runtimeServer) unpackArchive(ctx context.Context, a *archived, c engine.Container) error {
	if c.ID != a.id {
		return nil // the same request was made before
	}
	err := s.takeParts(ctx, a, c)
	if err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	_, undo := s.Engine.Delete(ctx, Namespace, c.ID, engine.DeleteOptions{Force: true})
	return errors.Join(fmt.Errorf("restore from %s: %w", a.path, err), unlessGone(undo))
}

func (s *runtimeServer) takeParts(ctx context.Context, a *archived, c engine.Container) error {
	f, err := os.Open(a.path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return err
	}
	if _, err := ocilayer.Apply(ctx, a.dir, f, ocilayer.ApplyOptions{}); err != nil {
		return err
	}
	diff := filepath.Join(a.dir, checkpointDiff)
	err = s.applyDiff(ctx, c, diff)
	if errors.Is(err, os.ErrNotExist) {
		return nil // it had written nothing
	}
	return errors.Join(err, os.Remove(diff))
}

package cri

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/runtime/image"
)

// maxProfile bounds a profile of system calls, in bytes.
const maxProfile = 1 << 20

// seccompArtifact is the profile of system calls that an image in a registry has: the first file of an OCI artifact. It is
// pulled when it is not there.
func (s *runtimeServer) seccompArtifact(ctx context.Context, ref string) ([]byte, error) {
	if err := checkImage(ref); err != nil {
		return nil, err
	}
	if _, err := s.Images.Get(ctx, Namespace, ref); errdefs.IsNotFound(err) {
		if _, err := s.Images.Pull(ctx, Namespace, image.PullOptions{Name: ref}, nil); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	files, is, err := s.Images.Artifact(ctx, Namespace, ref)
	switch {
	case err != nil:
		return nil, err
	case !is || len(files) == 0:
		return nil, invalid("it is an image for containers: name an OCI artifact whose first file is a profile")
	}
	f, err := os.Open(files[0].Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxProfile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxProfile {
		return nil, fmt.Errorf("its file %s has more than %d bytes: %w", files[0].Name, maxProfile, errdefs.ErrInvalidArgument)
	}
	return data, nil
}

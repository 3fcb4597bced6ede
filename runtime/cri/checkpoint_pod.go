package cri

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/atomicfile"
	"github.com/minirt/mini/runtime/engine"
)

const (
	manifestName    = "manifest.json"
	manifestVersion = 1
	maxManifest     = 16 << 20 // bytes
	resumeTimeout   = 30 * time.Second
)

// manifest describes the checkpoint of a pod. It is written last: a directory without one is none.
//
//	manifest.json
//	containers/0/checkpoint/…      criu's files
//	containers/0/rootfs-diff.tar   what the container had written
//	containers/0/{config,spec}.dump
type manifest struct {
	Version    int                 `json:"version"`
	CreatedAt  time.Time           `json:"createdAt"`
	Runtime    string              `json:"runtime"`   // handler
	PodConfig  []byte              `json:"podConfig"` // PodSandboxConfig, in protobuf's encoding
	Containers []manifestContainer `json:"containers"`
}

type manifestContainer struct {
	Name    string `json:"name"`
	ID      string `json:"id"` // that it had
	ImageID string `json:"imageID"`
	Dir     string `json:"dir"`    // below the manifest's
	Config  []byte `json:"config"` // ContainerConfig, in protobuf's encoding
}

// CheckpointPod writes a checkpoint of running containers of a pod, all of one moment. They run on.
func (s *runtimeServer) CheckpointPod(ctx context.Context, r *v1.CheckpointPodRequest) (_ *v1.CheckpointPodResponse, err error) {
	p, containers, err := s.checkCheckpointPod(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := s.criu(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, emptyDirectory(r.GetOutputPath()))
		}
	}()
	// Nobody is left frozen, whatever happens and whether or not the client still waits.
	defer func() { err = errors.Join(err, s.resume(ctx, containers)) }()
	for _, c := range containers {
		if err := s.Engine.Pause(ctx, Namespace, c.ID); err != nil {
			return nil, err
		}
	}
	m := manifest{Version: manifestVersion, CreatedAt: time.Now(), Runtime: p.Runtime}
	if m.PodConfig, err = proto.Marshal(podConfig(p)); err != nil {
		return nil, err
	}
	for i, c := range containers {
		k := unpack(c)
		entry := manifestContainer{
			Name: k.metadata().GetName(), ID: c.ID, ImageID: k.ImageID, Config: k.Config, Dir: filepath.Join("containers", strconv.Itoa(i)),
		}
		dir := filepath.Join(r.GetOutputPath(), entry.Dir)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		if err := s.capture(ctx, c, dir); err != nil {
			return nil, err
		}
		m.Containers = append(m.Containers, entry)
	}
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("checkpoint pod %s: %w", p.ID, err)
	}
	data, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return &v1.CheckpointPodResponse{}, atomicfile.Write(filepath.Join(r.GetOutputPath(), manifestName), data, 0o600)
}

// checkCheckpointPod holds the CRI's rules for the request, before anything is touched.
func (s *runtimeServer) checkCheckpointPod(ctx context.Context, r *v1.CheckpointPodRequest) (engine.Pod, []engine.Container, error) {
	var none engine.Pod
	if err := checkPodCall(ctx, "checkpoint", r.GetOptions()); err != nil {
		return none, nil, err
	}
	dir, err := hostPath("checkpoint output path", r.GetOutputPath())
	if err != nil {
		return none, nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return none, nil, invalid("checkpoint output path %s: it must be a directory that is there: %v", dir, err)
	}
	if len(entries) > 0 {
		return none, nil, invalid("checkpoint output path %s: it has %s already: give an empty directory", dir, entries[0].Name())
	}
	p, err := s.pod(ctx, r.GetPodSandboxId())
	if err != nil {
		return none, nil, err
	}
	if p.State != engine.PodReady {
		return none, nil, unable("pod %s is not ready: only a running pod can be checkpointed", p.ID)
	}
	if len(r.GetContainerIds()) == 0 {
		return none, nil, invalid("checkpoint of pod %s: it names no container", p.ID)
	}
	var containers []engine.Container
	for _, id := range r.GetContainerIds() {
		c, err := s.container(ctx, id)
		switch {
		case err != nil:
			return none, nil, err
		case c.Pod != p.ID:
			return none, nil, invalid("container %s is not of pod %s", c.ID, p.ID)
		case c.State != engine.Running:
			return none, nil, unable("container %s is %s: it must be running", c.ID, c.State)
		case slices.ContainsFunc(containers, func(have engine.Container) bool { return have.ID == c.ID }):
			return none, nil, invalid("container %s is named twice", c.ID)
		}
		containers = append(containers, c)
	}
	return p, containers, nil
}

// checkPodCall holds what checkpoints and restores of pods have in common: a deadline, and no options, for there are none.
func checkPodCall(ctx context.Context, what string, options map[string]string) error {
	if _, ok := ctx.Deadline(); !ok {
		return invalid("%s of a pod: the call has no deadline: set one", what)
	}
	for _, key := range sortedKeys(options) {
		return invalid("%s of a pod: option %.64q: this runtime has no options", what, key)
	}
	return nil
}

// resume lets run what was paused for a checkpoint.
func (s *runtimeServer) resume(ctx context.Context, containers []engine.Container) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resumeTimeout)
	defer cancel()
	var errs []error
	for _, c := range containers {
		now, err := s.Engine.Get(ctx, Namespace, c.ID)
		if err == nil && now.State == engine.Paused {
			err = s.Engine.Resume(ctx, Namespace, c.ID)
		}
		errs = append(errs, unlessGone(err))
	}
	return errors.Join(errs...)
}

// emptyDirectory removes what is in a directory, which itself is the caller's.
func emptyDirectory(dir string) error {
	entries, err := os.ReadDir(dir)
	errs := []error{err}
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return errors.Join(errs...)
}

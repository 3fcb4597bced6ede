package cri

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/runtime/engine"
)

// removeTimeout bounds the removal of what a failed restore has made.
const removeTimeout = 2 * time.Minute

// RestorePod makes a pod and its containers of a checkpoint. Nothing runs yet: StartContainer goes on where the checkpoint
// was made.
func (s *runtimeServer) RestorePod(ctx context.Context, r *v1.RestorePodRequest) (*v1.RestorePodResponse, error) {
	if err := checkPodCall(ctx, "restore", r.GetOptions()); err != nil {
		return nil, err
	}
	if err := s.checkHandler(r.GetRuntimeHandler()); err != nil {
		return nil, err
	}
	dir, err := hostPath("checkpoint path", r.GetCheckpointPath())
	if err != nil {
		return nil, err
	}
	m, err := readManifest(dir)
	if err != nil {
		return nil, err
	}
	if m.Runtime != r.GetRuntimeHandler() {
		return nil, invalid("checkpoint %s was made with the runtime handler %q, and cannot be restored with %q", dir, m.Runtime, r.GetRuntimeHandler())
	}
	pod, done, err := s.podOptions(ctx, r.GetConfig(), r.GetRuntimeHandler())
	if err != nil {
		return nil, err
	}
	defer done()
	creates, err := s.restoredContainers(ctx, engine.Pod{PodOptions: pod}, m, dir, r.GetContainerConfigs())
	if err != nil {
		return nil, err
	}
	if err := s.refuseTaken(ctx, pod.Key); err != nil {
		return nil, err
	}
	if err := s.criu(ctx); err != nil {
		return nil, err
	}
	return s.restore(ctx, pod, m, dir, creates)
}

// refuseTaken makes sure that a restored pod is a new one: its failure removes it.
func (s *runtimeServer) refuseTaken(ctx context.Context, key string) error {
	all, err := s.Engine.ListPods(ctx, Namespace)
	if err != nil {
		return err
	}
	for _, p := range all {
		if p.Key == key && p.State != engine.PodStopped {
			return fmt.Errorf("pod %s has the same metadata: remove it first, or raise the attempt: %w", p.ID, errdefs.ErrAlreadyExists)
		}
	}
	return nil
}

// restoredContainers matches the configurations of a request with a checkpoint, by name, and translates them. The
// results are in the order of the manifest.
func (s *runtimeServer) restoredContainers(ctx context.Context, pod engine.Pod, m manifest, dir string, configs []*v1.ContainerConfig) ([]engine.CreateOptions, error) {
	if len(configs) != len(m.Containers) {
		return nil, invalid("restore: %d container configurations for the %d containers of the checkpoint", len(configs), len(m.Containers))
	}
	byName := map[string]*v1.ContainerConfig{}
	for _, c := range configs {
		name := c.GetMetadata().GetName()
		if name == "" || byName[name] != nil {
			return nil, invalid("restore: container name %.64q is empty or given twice", name)
		}
		byName[name] = c
	}
	var creates []engine.CreateOptions
	for _, was := range m.Containers {
		config := byName[was.Name]
		if config == nil {
			return nil, invalid("restore: the checkpoint has a container %.64q, and no configuration is given for it", was.Name)
		}
		if err := sameProcess(was, config); err != nil {
			return nil, err
		}
		o, err := s.containerOptions(ctx, pod, config)
		if err != nil {
			return nil, fmt.Errorf("restore container %s: %w", was.Name, err)
		}
		// The image may have got other names since; its bytes are what the checkpoint was made on.
		o.Image = was.ImageID
		o.InPod = config.GetMetadata().GetName()
		o.Front, err = keepContainer(config, was.ImageID, filepath.Join(dir, was.Dir, checkpointImages))
		if err != nil {
			return nil, err
		}
		creates = append(creates, o)
	}
	return creates, nil
}

// sameProcess refuses a configuration that describes another process than the checkpoint has.
func sameProcess(was manifestContainer, config *v1.ContainerConfig) error {
	old := &v1.ContainerConfig{}
	if err := proto.Unmarshal(was.Config, old); err != nil {
		return invalid("restore container %s: its configuration in the checkpoint is damaged: %v", was.Name, err)
	}
	who := func(c *v1.ContainerConfig) *v1.LinuxContainerSecurityContext {
		s := c.GetLinux().GetSecurityContext()
		return &v1.LinuxContainerSecurityContext{
			RunAsUser: s.GetRunAsUser(), RunAsGroup: s.GetRunAsGroup(), RunAsUsername: s.GetRunAsUsername(),
			SupplementalGroups: s.GetSupplementalGroups(), SupplementalGroupsPolicy: s.GetSupplementalGroupsPolicy(),
		}
	}
	for _, field := range []struct {
		what string
		same bool
	}{
		{"command", slices.Equal(old.GetCommand(), config.GetCommand())},
		{"args", slices.Equal(old.GetArgs(), config.GetArgs())},
		{"working_dir", old.GetWorkingDir() == config.GetWorkingDir()},
		{"envs", slices.EqualFunc(old.GetEnvs(), config.GetEnvs(), func(a, b *v1.KeyValue) bool { return proto.Equal(a, b) })},
		{"tty", old.GetTty() == config.GetTty()},
		{"user or groups", proto.Equal(who(old), who(config))},
	} {
		if !field.same {
			return invalid("restore container %s: its %s is not that of the checkpointed process", was.Name, field.what)
		}
	}
	return nil
}

// restore makes what has been checked. On an error the pod and its containers are removed.
func (s *runtimeServer) restore(ctx context.Context, o engine.PodOptions, m manifest, dir string, creates []engine.CreateOptions) (_ *v1.RestorePodResponse, err error) {
	p, err := s.Engine.RunPod(ctx, Namespace, o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
		defer cancel()
		err = errors.Join(err, unlessGone(s.Engine.RemovePod(ctx, Namespace, p.ID)))
	}()
	out := &v1.RestorePodResponse{PodSandboxId: p.ID}
	for i, create := range creates {
		was := m.Containers[i]
		create.Pod = p.ID
		create.Key = p.ID + create.Key // the translation did not know the pod's id
		c, err := s.Engine.Create(ctx, Namespace, create)
		if err != nil {
			return nil, err
		}
		if err := s.applyDiff(ctx, c, filepath.Join(dir, was.Dir, checkpointDiff)); err != nil {
			return nil, fmt.Errorf("restore container %s: what it had written: %w", was.Name, err)
		}
		out.RestoredContainers = append(out.RestoredContainers, &v1.RestoredContainer{Name: was.Name, ContainerId: c.ID})
	}
	return out, nil
}

func (s *runtimeServer) applyDiff(ctx context.Context, c engine.Container, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.Engine.ApplyChanges(ctx, Namespace, c.ID, f)
}

// readManifest reads the manifest of a checkpoint and checks it: the directory comes from the client.
func readManifest(dir string) (manifest, error) {
	var m manifest
	f, err := os.Open(filepath.Join(dir, manifestName))
	if err != nil {
		return m, invalid("checkpoint %s: it has no %s, so it is no whole checkpoint of this runtime: %v", dir, manifestName, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return m, fmt.Errorf("checkpoint %s: %w", dir, err)
	}
	if len(data) > maxManifest {
		return m, invalid("checkpoint %s: its %s has more than %d bytes", dir, manifestName, maxManifest)
	}
	m, err = parseManifest(data)
	if err != nil {
		return m, fmt.Errorf("checkpoint %s: %w", dir, err)
	}
	return m, nil
}

func parseManifest(data []byte) (manifest, error) {
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return m, invalid("%s: %v", manifestName, err)
	}
	if m.Version != manifestVersion {
		return m, invalid("%s: version %d, and this runtime reads version %d", manifestName, m.Version, manifestVersion)
	}
	if len(m.Containers) == 0 {
		return m, invalid("%s: it has no containers", manifestName)
	}
	if err := checkCount("containers of a checkpoint", len(m.Containers)); err != nil {
		return m, err
	}
	names := map[string]bool{}
	for _, c := range m.Containers {
		if c.Name == "" || names[c.Name] || c.ImageID == "" {
			return m, invalid("%s: container %.64q has no name or no image, or is there twice", manifestName, c.Name)
		}
		if !filepath.IsLocal(c.Dir) {
			return m, invalid("%s: container %.64q: its directory %.128q is not below the checkpoint's", manifestName, c.Name, c.Dir)
		}
		names[c.Name] = true
	}
	return m, nil
}

package engine

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/layer"
	"github.com/minirt/mini/runtime/image"
	"github.com/minirt/mini/runtime/snapshot"
)

// CommitOptions is what a client says of the image that is made of a container.
type CommitOptions struct {
	Name        string   // empty: by its digest alone
	Author      string   // of the image
	Comment     string   // in its history
	Changes     []string // instructions of a Dockerfile, to its configuration
	NoPause     bool     // its processes go on while its files are read
	Compression string   // as image.LayerOptions has it
	OCI         bool
}

// Commit makes an image of a container, as docker does: of its image's layers and one of what it has changed, with its
// configuration. What is mounted into it, as volumes are, is not in the image.
func (e *Engine) Commit(ctx context.Context, ns, id string, o CommitOptions) (image.Image, error) {
	l, unlock, err := e.locked(ctx, ns, id)
	if err != nil {
		return image.Image{}, err
	}
	defer unlock()
	img, err := e.commit(ctx, l, o)
	if err != nil {
		return image.Image{}, fmt.Errorf("commit container %s: %w", l.key.id, err)
	}
	e.publish(l, "commit", map[string]string{"image": img.Name, "comment": o.Comment})
	return img, nil
}

func (e *Engine) commit(ctx context.Context, l *live, o CommitOptions) (image.Image, error) {
	c, s, err := e.withFiles(ctx, l)
	if err != nil {
		return image.Image{}, err
	}
	if c.Snapshot == "" || c.ImageDigest == "" {
		return image.Image{}, fmt.Errorf("it was not made of an image: export it, and import that: %w", errdefs.ErrInvalidArgument)
	}
	now := time.Now().UTC()
	options := image.LayerOptions{Name: o.Name, Compression: o.Compression, OCI: o.OCI, History: ocispec.History{
		Created: &now, Author: o.Author, Comment: o.Comment,
	}}
	configure := func(config *oci.Config) error {
		ofContainer(config, c, s)
		options.History.CreatedBy = strings.Join(config.Cmd, " ")
		return config.Change(o.Changes...)
	}
	// What is wrong with the instructions is said before anything stands still.
	if err := configure(&oci.Config{}); err != nil {
		return image.Image{}, err
	}
	l.at("making an image of it")
	if !o.NoPause {
		thaw, err := e.freeze(ctx, l)
		if err != nil {
			return image.Image{}, err
		}
		defer thaw()
	}
	return e.Images.CommitLayer(ctx, c.Namespace, digest.Digest(c.ImageDigest), options, configure, func(ctx context.Context, w io.Writer) error {
		return e.compare(ctx, c, func(pair snapshot.Compared) error {
			return pair.Diff(ctx, w, layer.DiffOptions{Omit: mountPoints(c, s)})
		})
	})
}

// ofContainer makes of an image's configuration that of a container: what its request says instead, or its document where
// it has no request. What an image's builds are to do is not a container's.
func ofContainer(config *oci.Config, c Container, s *specs.Spec) {
	config.ImageConfig = c.ImageConfig
	config.OnBuild = nil
	config.Labels = maps.Clone(c.ImageConfig.Labels)
	for k, v := range c.Labels {
		if config.Labels == nil {
			config.Labels = map[string]string{}
		}
		config.Labels[k] = v
	}
	if c.HealthCheck != nil {
		check := oci.HealthCheck(*c.HealthCheck)
		config.Healthcheck = &check
	}
	if c.Request == nil {
		if p := s.Process; p != nil {
			config.Entrypoint, config.Cmd, config.Env, config.WorkingDir = nil, p.Args, p.Env, p.Cwd
		}
		return
	}
	r := c.Request
	if r.Entrypoint != nil {
		config.Entrypoint, config.Cmd = *r.Entrypoint, nil
	}
	if len(r.Args) > 0 {
		config.Cmd = r.Args
	}
	config.Env = mergeEnv(c.ImageConfig.Env, r.Env)
	for to, from := range map[*string]string{&config.User: r.User, &config.WorkingDir: r.Cwd, &config.StopSignal: r.StopSignal} {
		if from != "" {
			*to = from
		}
	}
	config.ExposedPorts = exposedBy(c)
	config.Volumes = maps.Clone(c.ImageConfig.Volumes)
	for _, m := range r.Mounts {
		if m.Type == MountVolume && !m.Inherited && volumeOf(m).Anonymous {
			if config.Volumes == nil {
				config.Volumes = map[string]struct{}{}
			}
			config.Volumes[m.Target] = struct{}{}
		}
	}
}

// mergeEnv is a request's environment, and then the image's that it neither sets nor, by KEY alone, takes away.
func mergeEnv(image, request []string) []string {
	var out []string
	said := map[string]bool{}
	for _, kv := range request {
		key, _, set := strings.Cut(kv, "=")
		if said[key] = true; set {
			out = slices.DeleteFunc(out, func(old string) bool { return strings.HasPrefix(old, key+"=") })
			out = append(out, kv)
		}
	}
	for _, kv := range image {
		if key, _, _ := strings.Cut(kv, "="); !said[key] {
			out = append(out, kv)
		}
	}
	return out
}

// exposedBy are the ports that the image or the container's request says are of interest.
func exposedBy(c Container) map[string]struct{} {
	out := maps.Clone(c.ImageConfig.ExposedPorts)
	add := func(port string) {
		if out == nil {
			out = map[string]struct{}{}
		}
		out[port] = struct{}{}
	}
	for _, p := range c.Net.Ports {
		add(fmt.Sprintf("%d/%s", p.ContainerPort, cmp.Or(p.Protocol, "tcp")))
	}
	if ports, err := exposed(c.Net.Expose); err == nil { // it was checked when the container was made
		for _, p := range ports {
			add(fmt.Sprintf("%d/%s", p.ContainerPort, p.Protocol))
		}
	}
	return out
}

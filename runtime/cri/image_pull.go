package cri

import (
	"cmp"
	"context"
	"encoding/base64"
	"net/url"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/oci/registry"
	"github.com/minirt/mini/runtime/cri/policy"
	"github.com/minirt/mini/runtime/image"
)

// PullImage brings an image, and answers with its id.
func (s *imageServer) PullImage(ctx context.Context, r *v1.PullImageRequest) (*v1.PullImageResponse, error) {
	ref := r.GetImage().GetImage()
	if err := checkImage(ref); err != nil {
		return nil, err
	}
	if err := s.checkHandler(r.GetImage().GetRuntimeHandler()); err != nil {
		return nil, err
	}
	credentials, err := registryAuth(r.GetAuth())
	if err != nil {
		return nil, err
	}
	namespace := r.GetSandboxConfig().GetMetadata().GetNamespace()
	options := image.RegistryOptions{Override: credentials}
	if credentials == nil {
		options.DockerConfig = s.Policy().AuthFile(namespace, ref)
	}
	pulled, err := s.Images.Pull(ctx, Namespace, image.PullOptions{
		Name: ref, PolicyNamespace: namespace, Snapshotter: s.pullSnapshotter(r), Registry: options, Cgroup: s.pullCgroup(r),
	}, nil)
	if err != nil {
		return nil, imageError(ctx, err)
	}
	id := s.Images.ID(ctx, pulled.Target)
	if id == "" {
		return nil, unable("image %s was pulled, but it has nothing for this host's platform", ref)
	}
	return &v1.PullImageResponse{ImageRef: id.String()}, nil
}

// handlerAnnotation names the runtime handler of a pull that has no field for it, in the image's annotations or the pod's:
// containerd's name (pkg/cri/annotations), for kubelets without the feature gate RuntimeClassInImageCriApi.
const handlerAnnotation = "io.containerd.cri.runtime-handler"

// pullSnapshotter is whose layers a pull makes: those of the handler that the image is for. One of an annotation that is
// not known counts as none.
func (s *imageServer) pullSnapshotter(r *v1.PullImageRequest) string {
	if s.Policy == nil || s.Policy() == nil {
		return ""
	}
	handler := cmp.Or(r.GetImage().GetRuntimeHandler(), r.GetImage().GetAnnotations()[handlerAnnotation],
		r.GetSandboxConfig().GetAnnotations()[handlerAnnotation])
	return s.Policy().Handlers[handler].Snapshotter
}

// pullCgroup is where a pull works: "" is the daemon's own cgroup, which is also that of a pull for no pod.
func (s *imageServer) pullCgroup(r *v1.PullImageRequest) string {
	if s.Policy == nil || s.Policy() == nil {
		return ""
	}
	group := s.Policy().PullCgroup
	if group == policy.PullInPod {
		return r.GetSandboxConfig().GetLinux().GetCgroupParent()
	}
	return group
}

// registryAuth translates the credentials of a pull; nil: none. They are shown to no other host than they were given for.
func registryAuth(a *v1.AuthConfig) (*registry.HostOverride, error) {
	if a == nil {
		return nil, nil
	}
	o := &registry.HostOverride{
		Username: a.GetUsername(), Password: a.GetPassword(), IdentityToken: a.GetIdentityToken(), RegistryToken: a.GetRegistryToken(),
	}
	if o.Username == "" && o.Password == "" && a.GetAuth() != "" {
		// The error must not show what was sent.
		plain, err := base64.StdEncoding.DecodeString(strings.TrimSpace(a.GetAuth()))
		user, password, ok := strings.Cut(string(plain), ":")
		if err != nil || !ok {
			return nil, invalid("pull credentials: auth is not the base64 of user:password")
		}
		o.Username, o.Password = user, strings.Trim(password, "\x00")
	}
	if *o == (registry.HostOverride{}) {
		return nil, nil
	}
	host, err := serverHost(a.GetServerAddress())
	o.Host = host
	return o, err
}

// serverHost is the host that credentials are for: clients write it alone or as a URL, and Docker's hub by the address of
// its old index. "" is the registry of the image.
func serverHost(address string) (string, error) {
	if address == "" {
		return "", nil
	}
	text := address
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return "", invalid("pull credentials: server address %.128q is no host", address)
	}
	if u.Host == "index.docker.io" || u.Host == "registry-1.docker.io" {
		return "docker.io", nil
	}
	return u.Host, nil
}

// RemoveImage removes all names of an image. It is idempotent; the bytes go with a collection in the background.
func (s *imageServer) RemoveImage(ctx context.Context, r *v1.RemoveImageRequest) (*v1.RemoveImageResponse, error) {
	ref := r.GetImage().GetImage()
	if err := checkImage(ref); err != nil {
		return nil, err
	}
	one, err := s.Images.Get(ctx, Namespace, ref)
	if errdefs.IsNotFound(err) {
		return &v1.RemoveImageResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	names := []image.Image{one}
	if id := s.Images.ID(ctx, one.Target); id != "" {
		if names, err = s.names(ctx, id); err != nil {
			return nil, err
		}
	}
	for _, n := range names {
		if _, err := s.Images.Delete(ctx, Namespace, n.Name, true); unlessGone(err) != nil {
			return nil, err
		}
	}
	s.collectSoon()
	return &v1.RemoveImageResponse{}, nil
}

const (
	collectDelay   = time.Second // for the images that are removed together with this one
	collectTimeout = 10 * time.Minute
)

// collectSoon frees the space of removed images in the background, once for all that are removed within a second.
func (s *imageServer) collectSoon() {
	select {
	case s.collect <- struct{}{}:
	default:
		return // one is about to begin
	}
	time.AfterFunc(collectDelay, func() {
		<-s.collect
		if s.Serving.Err() != nil {
			return
		}
		ctx, cancel := context.WithTimeout(s.Serving, collectTimeout)
		defer cancel()
		if _, err := s.Engine.CollectGarbage(ctx, false); err != nil && s.Serving.Err() == nil {
			s.Log.Warn("free the space of removed images; the next collection will", "error", err)
		}
		s.space.stale()
	})
}

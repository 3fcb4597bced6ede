package scenario_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// requirement is one of a policy (containers-policy.json(5)).
type requirement map[string]any

var accepted = []requirement{{"type": "insecureAcceptAnything"}}

// cosigned wants an image to be signed with a key, for its repository.
func cosigned(s *cosigner) []requirement {
	return []requirement{{"type": "sigstoreSigned", "keyPath": s.Public, "signedIdentity": map[string]string{"type": "matchRepository"}}}
}

// writePolicy writes a policy that refuses what it does not name.
func writePolicy(t *testing.T, path string, scopes map[string][]requirement) {
	t.Helper()
	data, err := json.Marshal(map[string]any{
		"default": []requirement{{"type": "reject"}}, "transports": map[string]any{"docker": scopes},
	})
	if err == nil {
		err = os.WriteFile(path, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestImageTrust pulls and runs images as a policy wants them signed: by cosign's signatures in the registry, and by
// atomic ones beside it.
func TestImageTrust(t *testing.T) {
	testenv.Binary(t, "minid-trust")
	busybox, config := testenv.Image(t, "busybox"), testenv.Image(t, "config")
	dir := testenv.Dir(t)
	policy, policies, lookaside, registriesD := filepath.Join(dir, "policy.json"), filepath.Join(dir, "policies"), filepath.Join(dir, "lookaside"), filepath.Join(dir, "registries.d")
	for _, d := range []string{policies, registriesD} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	beside := fmt.Sprintf("default-docker:\n  lookaside: file://%s\n", lookaside)
	if err := os.WriteFile(filepath.Join(registriesD, "default.yaml"), []byte(beside), 0o644); err != nil {
		t.Fatal(err)
	}
	writePolicy(t, policy, map[string][]requirement{"": accepted})
	s := testenv.StartCRI(t, testenv.CRIOptions{Runtime: "minid", InNetwork: true, Config: fmt.Sprintf(
		"[image]\nsignature_policy = %q\nsignature_policy_dir = %q\nregistries_d = %q\n", policy, policies, registriesD)})
	cosign, other, pgp := newCosigner(t), newCosigner(t), newPGPSigner(t)
	signed, atomic := s.Registry.Ref("busybox"), s.Registry.Ref("config")
	scopes := map[string][]requirement{
		s.Registry.Address + "/busybox": cosigned(cosign),
		s.Registry.Address + "/config":  {{"type": "signedBy", "keyType": "GPGKeys", "keyPath": pgp.Public, "signedIdentity": requirement{"type": "matchRepository"}}},
	}
	writePolicy(t, policy, scopes)
	pull := func(ref, namespace string) error {
		r := &runtimeapi.PullImageRequest{Image: &runtimeapi.ImageSpec{Image: ref}}
		if namespace != "" {
			r.SandboxConfig = s.PodConfig("any", func(c *runtimeapi.PodSandboxConfig) { c.Metadata.Namespace = namespace })
		}
		_, err := s.Images.PullImage(t.Context(), r)
		return err
	}
	untrusted := func(what string, err error, words ...string) {
		t.Helper()
		declined(t, what, err, codes.Unknown, append(words, "SignatureValidationFailed: ", "is refused by")...)
	}

	untrusted("an image of which the policy knows nothing", pull(s.Registry.Ref("schema2"), ""), policy)
	untrusted("an image without a signature", pull(signed, ""), "none was found")
	other.Sign(signed, digest.Digest(busybox.Digest))
	untrusted("an image that another has signed", pull(signed, ""))
	refused(t, s.Daemon.Try("images", "pull", signed), "is refused by")
	cosign.Sign(signed, digest.Digest(busybox.Digest))
	id := s.Pull(signed)

	untrusted("an image without an atomic signature", pull(atomic, ""))
	pgp.Sign(lookaside, atomic, s.Registry.Ref("other"), digest.Digest(config.Digest))
	untrusted("a signature of another repository", pull(atomic, ""))
	pgp.Sign(lookaside, atomic, atomic, digest.Digest(config.Digest))
	s.Daemon.Minictr("images", "pull", "-q", atomic)

	writePolicy(t, filepath.Join(policies, "strict.json"), map[string][]requirement{})
	untrusted("an image that the policy of a namespace refuses", pull(signed, "strict"), "strict.json")
	if err := pull(signed, "lenient"); err != nil {
		t.Errorf("a namespace without a policy of its own: %v", err)
	}

	// The signatures were kept: the registry is not asked again.
	s.Registry.Stop()
	create := func(pod *testenv.CRIPod, asked string) error {
		c := testenv.ContainerConfig("c", id, "true")
		c.Image.UserSpecifiedImage = asked
		_, err := s.Runtime.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: pod.ID, Config: c, SandboxConfig: pod.Config})
		return err
	}
	pod := s.RunPod("trusting", testenv.HostNetwork)
	strict := s.RunPod("strict", testenv.HostNetwork, func(c *runtimeapi.PodSandboxConfig) { c.Metadata.Namespace = "strict" })
	untrusted("a container in a namespace that refuses its image", create(strict, signed))
	untrusted("an image under a name that it was not signed for", create(pod, s.Registry.Ref("elsewhere")))
	if err := create(pod, signed); err != nil {
		t.Errorf("a container of a signed image: %v", err)
	}
	scopes[s.Registry.Address+"/busybox"] = cosigned(other)
	writePolicy(t, policy, scopes)
	untrusted("a container of an image whose key is trusted no longer", create(pod, signed))
	declined(t, "a registry that is not there", pull(signed, ""), codes.Unknown, "RegistryUnavailable: ")

	if err := os.WriteFile(policy, []byte(`{"default":[{"type":"insecure"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	declined(t, "a policy that is none", create(pod, signed), codes.FailedPrecondition, policy, "insecure")
	if left, err := os.ReadDir(filepath.Join(s.Daemon.State, "trust")); err != nil || len(left) != 0 {
		t.Errorf("left of judging: %v, error %v", left, err)
	}
}

// TestImageTrustIndex pulls indexes of which the whole or one manifest is signed.
func TestImageTrustIndex(t *testing.T) {
	testenv.Binary(t, "minid-trust")
	one := testenv.Image(t, "busybox")
	r := testenv.Registry(t, testenv.RegistryOptions{})
	signer := newCosigner(t)
	policy := filepath.Join(testenv.Dir(t), "policy.json")
	writePolicy(t, policy, map[string][]requirement{r.Address + "/busybox": cosigned(signer)})
	d := testenv.Daemon(t, testenv.DaemonOptions{Config: fmt.Sprintf("[image]\nsignature_policy = %q\n", policy)})
	ref := r.Address + "/busybox:index"
	manifest := ocispec.Descriptor{
		MediaType: one.MediaType, Digest: digest.Digest(one.Digest), Size: int64(len(testenv.Blob(t, one.Digest))),
		Platform: &ocispec.Platform{OS: "linux", Architecture: "amd64"},
	}
	index := func(note string) ocispec.Descriptor {
		return putManifest(t, ref, ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
			Manifests: []ocispec.Descriptor{manifest}, Annotations: map[string]string{"note": note},
		})
	}
	whole := index("signed")
	refused(t, d.Try("images", "pull", ref), whole.Digest.String(), one.Digest, "is refused by")
	signer.Sign(ref, whole.Digest)
	d.Minictr("images", "pull", "-q", ref)
	index("not signed")
	refused(t, d.Try("images", "pull", ref), "is refused by")
	signer.Sign(ref, manifest.Digest)
	d.Minictr("images", "pull", "-q", ref)
}

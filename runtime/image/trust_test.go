package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/oci/encryption"
	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/registry/registrytest"
	"github.com/minirt/mini/runtime/trust"
)

// judge wants a signature with a word in it, and a manifest with its digest.
type judge struct {
	word  string // "": nothing is judged
	asked []string
	// locked: there are no keys.
	locked bool
}

func (j *judge) Judges(string) bool { return j.word != "" }

func (j *judge) Check(ctx context.Context, i trust.Image, from trust.Source) ([][]byte, error) {
	if j.word == "" {
		return nil, nil
	}
	data, err := from.Manifest(ctx)
	if err != nil {
		return nil, err
	}
	if digest.FromBytes(data) != i.Digest {
		return nil, fmt.Errorf("another manifest: %w", errdefs.ErrDataLoss)
	}
	found, kept, err := from.Signatures(ctx)
	if err != nil {
		return nil, err
	}
	j.asked = append(j.asked, fmt.Sprintf("%s kept=%t", i.Name, kept))
	if !slices.ContainsFunc(found, func(s []byte) bool { return bytes.Contains(s, []byte(j.word)) }) {
		return nil, fmt.Errorf("%s %s: %w", i.Name, i.Digest, trust.ErrSignature)
	}
	if kept {
		found = nil
	}
	return found, nil
}

// keyAnnotation has the key of a layer, open.
const keyAnnotation = encryption.AnnotationPrefix + "keys.test"

func (j *judge) Keys(_ context.Context, layers []ocispec.Descriptor, _ ...[]byte) ([]encryption.Key, error) {
	keys := make([]encryption.Key, len(layers))
	for i, l := range layers {
		if j.locked {
			return nil, fmt.Errorf("no key for %s: %w", l.Digest, errdefs.ErrPermissionDenied)
		}
		if err := json.Unmarshal([]byte(l.Annotations[keyAnnotation]), &keys[i]); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func (j *judge) Wrap(_ context.Context, _ []trust.Recipient, layers []encryption.Key) ([]map[string]string, error) {
	annotations := make([]map[string]string, len(layers))
	for i, k := range layers {
		text, err := json.Marshal(k)
		if err != nil {
			return nil, err
		}
		annotations[i] = map[string]string{keyAnnotation: string(text)}
	}
	return annotations, nil
}

// sign puts an attachment with a word beside an image.
func sign(r *registrytest.Registry, repo string, signed digest.Digest, word string) {
	config, payload := []byte("{}"), []byte(word)
	m := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[{"mediaType":"application/x","digest":%q,"size":%d,"annotations":{"note":%q}}]}`,
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, digest.FromBytes(config), digest.FromBytes(payload), len(payload), word)
	r.PutBlob(repo, config)
	r.PutBlob(repo, payload)
	r.PutManifest(repo, strings.Replace(signed.String(), ":", "-", 1)+".sig", ocispec.MediaTypeImageManifest, []byte(m))
}

func TestTrust(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	three().put(r, "a/b", "1")
	j := &judge{word: "good"}
	h := newHouse(t, func(d *Deps) { d.Judge = j })
	ref := r.Host() + "/a/b:1"
	o := TrustOptions{Image: ref}

	if _, err := h.Pull(t.Context(), ns, PullOptions{Name: ref}, nil); !errors.Is(err, trust.ErrSignature) || !errdefs.IsNotFound(h.gone(t, ref)) {
		t.Errorf("not signed: %v", err)
	}
	if n := r.Count("GET", "/blobs/"); n != 0 {
		t.Errorf("%d blobs of a refused image were fetched", n)
	}
	j.word = ""
	h.pull(t, ref, nil)
	j.word = "good"
	if err := h.CheckTrust(t.Context(), ns, o); !errors.Is(err, trust.ErrSignature) {
		t.Errorf("pulled before there was a policy: %v", err)
	}
	sign(r, "a/b", three().desc.Digest, "\"good\"")
	if err := h.CheckTrust(t.Context(), ns, o); err != nil {
		t.Errorf("signed meanwhile: %v", err)
	}
	img := h.pull(t, ref, nil)
	if img.Signatures == "" {
		t.Fatal("no signatures are kept")
	}
	if _, err := h.CollectGarbage(t.Context(), CollectOptions{}); err != nil {
		t.Fatal(err)
	}
	tagged, err := h.Tag(t.Context(), ns, ref, "other.example/c:d", false)
	if err != nil || tagged.Signatures != img.Signatures {
		t.Errorf("tagged: %+v, %v", tagged, err)
	}
	j.word = ""
	if again := h.pull(t, ref, nil); again.Signatures != img.Signatures {
		t.Errorf("pulled again without a policy, it has the signatures %q", again.Signatures)
	}
	j.word, j.asked = "good", nil
	r.Stop()
	id := h.ID(t.Context(), img.Target).String()
	for _, o := range []TrustOptions{o, {Image: id}, {Image: id, Name: "user.example/x"}} {
		if err := h.CheckTrust(t.Context(), ns, o); err != nil {
			t.Errorf("%+v, without the registry: %v", o, err)
		}
	}
	if want := []string{ref + " kept=true", ref + " kept=true", "user.example/x:latest kept=true"}; !slices.Equal(j.asked, want) {
		t.Errorf("asked for %q, want %q", j.asked, want)
	}
	if err := h.CheckTrust(t.Context(), ns, TrustOptions{Image: id, Name: "A B"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a name that is none: %v", err)
	}
}

// gone looks for an image that must not be there.
func (h *house) gone(t *testing.T, ref string) error {
	t.Helper()
	_, err := h.Get(t.Context(), ns, ref)
	return err
}

// TestTrustIndex judges an index, or what is wanted of it.
func TestTrustIndex(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	arm := ocispec.Platform{OS: "linux", Architecture: "arm64"}
	here, there := three(), build(arm, layerTar(entry{"arm", "x"}))
	x := putIndex(r, "a/b", "1", here, there)
	h := newHouse(t, func(d *Deps) { d.Judge = &judge{word: "good"} })
	ref := r.Host() + "/a/b:1"
	pull := func(all bool) error {
		_, err := h.Pull(t.Context(), ns, PullOptions{Name: ref, AllPlatforms: all}, nil)
		return err
	}
	sign(r, "a/b", there.desc.Digest, "\"good\"")
	if err := pull(false); !errors.Is(err, trust.ErrSignature) || !strings.Contains(err.Error(), here.desc.Digest.String()) {
		t.Errorf("another platform is signed: %v", err)
	}
	sign(r, "a/b", here.desc.Digest, "\"good\"")
	for _, all := range []bool{false, true} {
		if err := pull(all); err != nil {
			t.Errorf("all platforms %t: %v", all, err)
		}
	}
	if err := h.CheckTrust(t.Context(), ns, TrustOptions{Image: ref}); err != nil {
		t.Error(err)
	}
	sign(r, "a/b", here.desc.Digest, "\"bad\"")
	sign(r, "a/b", x.Digest, "\"good\"")
	if err := pull(true); err != nil {
		t.Errorf("the index is signed: %v", err)
	}
}

// TestEncrypt encrypts an image and decrypts it again, which gives the image that it was.
func TestEncrypt(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	three().put(r, "a/b", "1")
	j := &judge{}
	h := newHouse(t, func(d *Deps) { d.Judge = j })
	ref := r.Host() + "/a/b:1"
	h.pull(t, ref, nil)
	secret, err := h.Convert(t.Context(), ns, ConvertOptions{Source: ref, Target: "a.example/secret:1", Recipients: []trust.Recipient{{Kind: "jwe"}}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := h.manifest(t.Context(), secret.Target)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range m.Layers {
		if !oci.IsEncrypted(l.MediaType) || len(l.Annotations) != 1 || !h.Content.Has(l.Digest) {
			t.Errorf("layer %+v", l)
		}
	}
	if _, err := h.Unpack(t.Context(), ns, "a.example/secret:1", "", "", nil); err != nil {
		t.Errorf("with the keys: %v", err)
	}
	j.locked = true
	if _, err := h.Unpack(t.Context(), ns, "a.example/secret:1", "", "", nil); !errdefs.IsPermissionDenied(err) {
		t.Errorf("unpacked, and no keys: %v", err)
	}
	if _, err := h.Convert(t.Context(), ns, ConvertOptions{Source: "a.example/secret:1", Target: "a.example/plain:1", Decrypt: true}); !errdefs.IsPermissionDenied(err) {
		t.Errorf("decrypted without keys: %v", err)
	}
	j.locked = false
	plain, err := h.Convert(t.Context(), ns, ConvertOptions{Source: "a.example/secret:1", Target: "a.example/plain:1", Decrypt: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Convert(t.Context(), ns, ConvertOptions{Source: ref, Target: "a.example/plain:2", Decrypt: true}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("decrypted what is not encrypted: %v", err)
	}
	if plain.Target.Digest != three().desc.Digest {
		got, _ := h.manifest(t.Context(), plain.Target)
		t.Errorf("decrypted it is another image: %+v", got)
	}
}

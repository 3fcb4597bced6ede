package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/oci/encryption"
	oci "github.com/minirt/mini/oci/image"
	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/runtime/content"
	"github.com/minirt/mini/runtime/trust"
)

// Judge says whether an image is signed as it must be, and opens the keys of encrypted layers; *trust.Judge is one.
type Judge interface {
	// Check returns the signatures that it has seen, if it had to see any.
	Check(ctx context.Context, i trust.Image, from trust.Source) ([][]byte, error)
	// Judges tells whether images are judged at all in a namespace of Kubernetes.
	Judges(namespace string) bool
	Keys(ctx context.Context, layers []ocispec.Descriptor, others ...[]byte) ([]encryption.Key, error)
	Wrap(ctx context.Context, recipients []trust.Recipient, layers []encryption.Key) ([]map[string]string, error)
}

const (
	// maxAttachments bounds how many signatures of one manifest are fetched.
	maxAttachments = 128
	// maxAttachment bounds one of them, and maxKept all that are kept with an image, in bytes.
	maxAttachment = 4 << 20
	maxKept       = 64 << 20
)

// signatures are those that a policy saw when an image was pulled, by the digest of what they sign. They are kept as a
// blob, so that the image can be judged again without its registry.
type signatures map[digest.Digest][][]byte

// trust judges what a name points to: the target itself or, when that is an index without a signature of its own, each of
// the manifests that are wanted of it.
func (t *transfer) trust(ctx context.Context, target ocispec.Descriptor) error {
	if t.s.Judge == nil {
		return nil
	}
	seen := signatures{}
	err := t.s.judge(ctx, target, t.want, t.document, func(d ocispec.Descriptor) error {
		found, err := t.s.Judge.Check(ctx, trust.Image{Name: t.ref.String(), Digest: d.Digest, Namespace: t.o.PolicyNamespace}, material{
			func(ctx context.Context) ([]byte, error) { return t.document(ctx, d) },
			func(ctx context.Context) ([][]byte, bool, error) {
				found, err := t.s.attachments(ctx, t.registry, t.ref, d.Digest)
				return found, false, err
			},
		})
		if len(found) > 0 {
			seen[d.Digest] = found
		}
		return err
	})
	if err != nil || len(seen) == 0 {
		return err
	}
	return t.keep(ctx, seen)
}

// judge checks a target, or all that is wanted of it.
func (s *Service) judge(ctx context.Context, target ocispec.Descriptor, want oci.Want, read oci.Reader, check func(ocispec.Descriptor) error) error {
	err := check(target)
	if !errors.Is(err, trust.ErrSignature) || oci.KindOf(target.MediaType) != oci.KindIndex {
		return err
	}
	manifests, failed := oci.Manifests(ctx, read, target, want)
	if failed != nil {
		return failed
	}
	for _, d := range manifests {
		if each := check(d); each != nil {
			return errors.Join(err, each)
		}
	}
	return nil
}

// material is what a policy may want to see.
type material struct {
	manifest   func(context.Context) ([]byte, error)
	signatures func(context.Context) (found [][]byte, kept bool, err error)
}

func (m material) Manifest(ctx context.Context) ([]byte, error)           { return m.manifest(ctx) }
func (m material) Signatures(ctx context.Context) ([][]byte, bool, error) { return m.signatures(ctx) }

// keep writes the signatures into the content, for the record that the pull will make.
func (t *transfer) keep(ctx context.Context, seen signatures) error {
	data, err := json.Marshal(seen)
	if err != nil {
		return err
	}
	if len(data) > maxKept {
		return fmt.Errorf("the signatures of the image are %d bytes, more than %d: %w", len(data), maxKept, errdefs.ErrInvalidArgument)
	}
	t.signatures = digest.FromBytes(data)
	if err := t.held.content(ctx, t.signatures); err != nil {
		return err
	}
	return t.s.store(ctx, ocispec.Descriptor{Digest: t.signatures, Size: int64(len(data))}, bytes.NewReader(data))
}

// attachments are the signatures that cosign has put beside an image: the layers of the manifest with the tag
// ALGORITHM-HEX.sig in its repository.
func (s *Service) attachments(ctx context.Context, from Registry, image name.Ref, signed digest.Digest) ([][]byte, error) {
	ref, err := name.Parse(image.Repository() + ":" + strings.Replace(signed.String(), ":", "-", 1) + ".sig")
	if err != nil {
		return nil, err
	}
	target, err := from.Resolve(ctx, ref)
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	data, err := from.Manifest(ctx, ref, target)
	if err != nil {
		return nil, err
	}
	m, err := oci.ParseManifest(target.MediaType, data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref, err)
	}
	if len(m.Layers) > maxAttachments {
		return nil, fmt.Errorf("%s has %d signatures, more than %d: %w", ref, len(m.Layers), maxAttachments, errdefs.ErrInvalidArgument)
	}
	var found [][]byte
	for _, l := range m.Layers {
		one, err := attachment(ctx, from, ref, l)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ref, err)
		}
		found = append(found, one)
	}
	return found, nil
}

// attachment fetches one signature. It is written as containers' "dir:" images hold such ones: a zero byte, the format,
// a line's end, and JSON (containers/image, internal/signature/sigstore.go).
func attachment(ctx context.Context, from Registry, ref name.Ref, l ocispec.Descriptor) ([]byte, error) {
	if l.Size > maxAttachment {
		return nil, fmt.Errorf("signature %s is %d bytes long, more than %d: %w", l.Digest, l.Size, maxAttachment, errdefs.ErrInvalidArgument)
	}
	body, err := from.Fetch(ctx, ref, l, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	payload, err := io.ReadAll(io.LimitReader(body, maxAttachment))
	if err != nil {
		return nil, err
	}
	if l.Digest.Algorithm().FromBytes(payload) != l.Digest {
		return nil, fmt.Errorf("signature %s has other bytes than its digest says: %w", l.Digest, errdefs.ErrDataLoss)
	}
	data, err := json.Marshal(struct {
		MediaType   string            `json:"mimeType"`
		Payload     []byte            `json:"payload"`
		Annotations map[string]string `json:"annotations"`
	}{l.MediaType, payload, l.Annotations})
	return append([]byte("\x00sigstore-json\n"), data...), err
}

// TrustOptions say which image is judged again, and as what.
type TrustOptions struct {
	Image     string // by which it is known here: a name or an id
	Name      string // by which the user has asked for it; "": any that it has here
	Namespace string // of Kubernetes
}

// CheckTrust judges an image that is here, as the policy is now, by the signatures that were kept when it was pulled, or
// those of its registry when none were.
//
// Errors: trust.ErrSignature, ErrNotFound, ErrInvalidArgument for a name that is none.
func (s *Service) CheckTrust(ctx context.Context, ns string, o TrustOptions) error {
	if s.Judge == nil || !s.Judge.Judges(o.Namespace) {
		return nil
	}
	records, _, err := s.find(ctx, ns, o.Image)
	if err != nil {
		return err
	}
	var refused []error
	for _, img := range records {
		asked := img.Name
		if o.Name != "" {
			asked = o.Name
		}
		ref, err := name.Parse(asked)
		if err != nil {
			return fmt.Errorf("name by which the image is judged: %w", err)
		}
		err = s.checkHere(ctx, img, ref, o.Namespace)
		if err == nil || !errors.Is(err, trust.ErrSignature) {
			return err
		}
		refused = append(refused, err)
	}
	return errors.Join(refused...)
}

// checkHere judges one record under a name.
func (s *Service) checkHere(ctx context.Context, img Image, ref name.Ref, namespace string) error {
	kept := signatures{}
	if img.Signatures != "" {
		data, err := content.ReadAll(ctx, s.Content, img.Signatures, maxKept)
		if err == nil {
			err = json.Unmarshal(data, &kept)
		}
		if err != nil {
			return fmt.Errorf("signatures kept with %s: pull it again: %w", img.Name, err)
		}
	}
	return s.judge(ctx, img.Target, oci.Want{}, s.read, func(d ocispec.Descriptor) error {
		_, err := s.Judge.Check(ctx, trust.Image{Name: ref.String(), Digest: d.Digest, Namespace: namespace}, material{
			func(ctx context.Context) ([]byte, error) { return s.read(ctx, d) },
			func(ctx context.Context) ([][]byte, bool, error) {
				if img.Signatures != "" {
					return kept[d.Digest], true, nil
				}
				from := s.NewRegistry(RegistryOptions{})
				defer from.Close()
				found, err := s.attachments(ctx, from, ref, d.Digest)
				return found, false, err
			},
		})
		return err
	})
}

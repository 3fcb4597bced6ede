//go:build containers_image_openpgp

package program

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"

	"github.com/minirt/mini/runtime/trust"
)

// verify judges an image. The material is fetched only when the policy wants to see it.
func verify(ctx context.Context, r trust.VerifyRequest, material func() (trust.Material, error)) (trust.Reply, error) {
	policy, err := signature.NewPolicyFromFile(r.Policy)
	if err != nil {
		return trust.Reply{}, fmt.Errorf("signature policy: %w", err)
	}
	judge, err := signature.NewPolicyContext(policy)
	if err != nil {
		return trust.Reply{}, err
	}
	ref, err := parse(r)
	if err != nil {
		return trust.Reply{}, err
	}
	closed := &unopened{ref: ref}
	allowed, err := judge.IsRunningImageAllowed(ctx, closed)
	if !closed.wanted {
		return verdict(allowed, err)
	}
	m, err := material()
	if err != nil {
		return trust.Reply{}, err
	}
	if got := r.Digest.Algorithm().FromBytes(m.Manifest); got != r.Digest {
		return trust.Reply{}, fmt.Errorf("the manifest's digest is %s, not %s", got, r.Digest)
	}
	if !m.Complete {
		beside, err := lookaside(ctx, &types.SystemContext{RegistriesDirPath: r.RegistriesD}, ref, r.Digest)
		if err != nil {
			return trust.Reply{}, err
		}
		m.Signatures = append(m.Signatures, beside...)
	}
	open, done, err := lay(ctx, r.Directory, ref, m)
	if err != nil {
		return trust.Reply{}, err
	}
	defer done()
	allowed, err = judge.IsRunningImageAllowed(ctx, open)
	reply, err := verdict(allowed, err)
	reply.Signatures = m.Signatures
	if len(m.Signatures) == 0 && reply.Refused != "" {
		reply.Refused += " (none was found in the registry, nor beside it)"
	}
	return reply, err
}

// parse makes the reference that the policy's scopes and the signatures' identities are compared with. The library knows
// a tag or a digest; of both the digest is what was asked for.
func parse(r trust.VerifyRequest) (types.ImageReference, error) {
	named, err := reference.ParseNormalizedNamed(r.Image)
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", r.Image, err)
	}
	if d, ok := named.(reference.Canonical); ok {
		if named, err = reference.WithDigest(reference.TrimNamed(named), d.Digest()); err != nil {
			return nil, err
		}
	}
	return docker.NewReference(reference.TagNameOnly(named))
}

// verdict tells a refusal from what went wrong.
func verdict(allowed bool, err error) (trust.Reply, error) {
	var refusal signature.PolicyRequirementError
	switch {
	case allowed && err == nil:
		return trust.Reply{Allowed: true}, nil
	case errors.As(err, &refusal):
		return trust.Reply{Refused: refusal.Error()}, nil
	case err != nil:
		// A signature that cannot be read or made out, or a key that is not there: in any case nothing speaks for the image.
		return trust.Reply{Refused: err.Error()}, nil
	}
	return trust.Reply{Refused: "it is not allowed"}, nil
}

// unopened is an image of which nothing is known but its name. It notes whether more is wanted.
type unopened struct {
	ref    types.ImageReference
	wanted bool
}

var errUnopened = errors.New("the image's content is not here yet")

func (u *unopened) Reference() types.ImageReference { return u.ref }

func (u *unopened) Manifest(context.Context) ([]byte, string, error) {
	u.wanted = true
	return nil, "", errUnopened
}

func (u *unopened) Signatures(context.Context) ([][]byte, error) {
	u.wanted = true
	return nil, errUnopened
}

// lay writes the material into a directory in the layout of containers' "dir:" images, which is the one door by which the
// library takes signatures of all kinds, and opens it under the image's own name.
func lay(ctx context.Context, dir string, ref types.ImageReference, m trust.Material) (types.UnparsedImage, func(), error) {
	files := map[string][]byte{"version": []byte("Directory Transport Version: 1.1\n"), "manifest.json": m.Manifest}
	for i, s := range m.Signatures {
		files[fmt.Sprintf("signature-%d", i+1)] = s
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return nil, nil, err
		}
	}
	laid, err := directory.NewReference(dir)
	if err != nil {
		return nil, nil, err
	}
	source, err := laid.NewImageSource(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	return image.UnparsedInstanceWithReference(image.UnparsedInstance(source, nil), ref), func() { _ = source.Close() }, nil
}

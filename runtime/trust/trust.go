// Package trust asks whether images are signed as the policies of the machine demand, and for the keys of encrypted
// layers. The judging and the unwrapping are done by a program of its own, minid-trust (runtime/trust/program), which is
// started for a question and ends with the answer: the libraries that read the field's policies, signatures and wrapped
// keys are larger than the daemon. The program gets what is in registries from the daemon, so that mirrors, credentials
// and certificates are the same for signatures as for images.
package trust

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/oci/encryption"
)

// ErrSignature is found by errors.Is in an error that says that a policy refuses an image. Such a one is
// ErrPermissionDenied as well.
var ErrSignature = errors.New("not signed as the policy demands")

// refusal is why a policy refuses an image.
type refusal string

func (r refusal) Error() string        { return string(r) }
func (r refusal) Unwrap() error        { return errdefs.ErrPermissionDenied }
func (r refusal) Is(target error) bool { return target == ErrSignature }

// Settings are what an administrator sets.
type Settings struct {
	Policy      string // a file of containers-policy.json(5); "": images are not judged, but where PolicyDir has a file
	PolicyDir   string // NAMESPACE.json in it is the policy for a namespace of Kubernetes instead; "": none
	RegistriesD string // a directory of containers-registries.d(5); "": the library's default
	KeysDir     string // of private keys that decrypt layers; "": none
	KeyProvider string // a configuration of ocicrypt's key providers; "": none
}

// Options are what the questions are asked with.
type Options struct {
	Settings
	Program string // minid-trust
	State   string // a directory for what the program works on; emptied by Open
	Log     *slog.Logger
}

// Judge asks the program. Its settings may be changed while it is used.
type Judge struct {
	program  string
	state    string
	log      *slog.Logger
	settings atomic.Pointer[Settings]
}

// Open makes a judge. The program is not run yet.
func Open(o Options) (*Judge, error) {
	j := &Judge{program: o.Program, state: o.State, log: o.Log}
	if j.log == nil {
		j.log = slog.New(slog.DiscardHandler)
	}
	j.Set(o.Settings)
	if err := os.RemoveAll(o.State); err != nil {
		return nil, fmt.Errorf("leftovers of judging images: %w", err)
	}
	return j, nil
}

// Set brings other settings into force.
func (j *Judge) Set(s Settings) { j.settings.Store(&s) }

// Image is what is judged.
type Image struct {
	Name      string // full, with a tag or a digest
	Digest    digest.Digest
	Namespace string // of Kubernetes, whose policy counts; "": the general one
}

// Source has what a policy may want to see. It is asked only when one does.
type Source interface {
	Manifest(ctx context.Context) ([]byte, error)
	// Signatures are those found; kept tells that there are no others to look for.
	Signatures(ctx context.Context) (found [][]byte, kept bool, err error)
}

// Check judges an image. It returns the signatures that the program has seen, so that they can be kept with the image; none
// when the policy did not want to see any.
//
// Errors: ErrSignature (and with it ErrPermissionDenied) when the policy refuses the image, ErrFailedPrecondition when
// the policy or the program cannot be used, and those of the source.
func (j *Judge) Check(ctx context.Context, i Image, from Source) ([][]byte, error) {
	s := j.settings.Load()
	policy, err := s.policyFor(i.Namespace)
	if err != nil || policy == "" {
		return nil, err
	}
	data, err := os.ReadFile(policy)
	if err != nil {
		return nil, fmt.Errorf("signature policy: %w: %w", err, errdefs.ErrFailedPrecondition)
	}
	if acceptsAll(data) {
		return nil, nil
	}
	dir, err := j.directory()
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	signatures, kept, failed := [][]byte(nil), false, error(nil)
	request := Request{Verify: &VerifyRequest{Image: i.Name, Digest: i.Digest, Policy: policy, RegistriesD: s.RegistriesD, Directory: dir}}
	reply, err := j.ask(ctx, s, request, func() Material {
		m := Material{}
		if m.Manifest, failed = from.Manifest(ctx); failed == nil {
			m.Signatures, kept, failed = from.Signatures(ctx)
		}
		if failed != nil {
			return Material{Error: failed.Error()}
		}
		m.Complete = kept
		return m
	})
	switch {
	case failed != nil:
		return nil, fmt.Errorf("signatures of %s: %w", i.Name, failed)
	case err != nil:
		return nil, fmt.Errorf("signatures of %s (policy %s): %w", i.Name, policy, err)
	case !reply.Allowed:
		return nil, refusal(fmt.Sprintf("image %s (%s) is refused by %s: %s", i.Name, i.Digest, policy, strings.TrimSuffix(reply.Refused, ".")))
	}
	if !kept {
		signatures = reply.Signatures
	}
	return signatures, nil
}

// Judges tells whether there is a policy for a namespace at all.
func (j *Judge) Judges(namespace string) bool {
	policy, err := j.settings.Load().policyFor(namespace)
	return err != nil || policy != ""
}

// policyFor is the file that counts; "": none.
func (s *Settings) policyFor(namespace string) (string, error) {
	if namespace == "" || s.PolicyDir == "" {
		return s.Policy, nil
	}
	if strings.ContainsRune(namespace, '/') || strings.HasPrefix(namespace, ".") {
		return "", fmt.Errorf("namespace %q is none of Kubernetes: %w", namespace, errdefs.ErrInvalidArgument)
	}
	own := filepath.Join(s.PolicyDir, namespace+".json")
	switch _, err := os.Stat(own); {
	case err == nil:
		return own, nil
	case errors.Is(err, fs.ErrNotExist):
		return s.Policy, nil
	default:
		return "", fmt.Errorf("signature policy of namespace %s: %w: %w", namespace, err, errdefs.ErrFailedPrecondition)
	}
}

// acceptsAll tells whether a policy has no other requirement than insecureAcceptAnything, as the one that most machines
// come with: then nothing need be asked. What it does not understand is for the program.
func acceptsAll(data []byte) bool {
	type requirements []struct {
		Type string `json:"type"`
	}
	var p struct {
		Default    requirements                       `json:"default"`
		Transports map[string]map[string]requirements `json:"transports"`
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if d.Decode(&p) != nil || d.More() {
		return false
	}
	all := []requirements{p.Default}
	for _, scopes := range p.Transports {
		for _, r := range scopes {
			all = append(all, r)
		}
	}
	for _, r := range all {
		for _, one := range r {
			if one.Type != "insecureAcceptAnything" {
				return false
			}
		}
		if len(r) == 0 {
			return false
		}
	}
	return true
}

func (j *Judge) directory() (string, error) {
	if err := os.MkdirAll(j.state, 0o700); err != nil {
		return "", err
	}
	return os.MkdirTemp(j.state, "image-")
}

// Keys asks for the keys of encrypted layers, in their order. others are private keys besides those of the machine.
//
// Errors: ErrPermissionDenied when there is no key for one of them, ErrFailedPrecondition when no keys are configured or
// the program cannot be used.
func (j *Judge) Keys(ctx context.Context, layers []ocispec.Descriptor, others ...[]byte) ([]encryption.Key, error) {
	s := j.settings.Load()
	reply, err := j.ask(ctx, s, Request{Unwrap: &UnwrapRequest{KeysDir: s.KeysDir, Keys: others, Layers: layers}}, nil)
	if err != nil {
		return nil, fmt.Errorf("keys of encrypted layers: %w", err)
	}
	if len(reply.Keys) != len(layers) {
		return nil, fmt.Errorf("keys of encrypted layers: %s answers for %d layers, %d were asked for: %w", j.program, len(reply.Keys), len(layers), errdefs.ErrFailedPrecondition)
	}
	keys := make([]encryption.Key, len(layers))
	for i, k := range reply.Keys {
		if keys[i] = k.Key; k.Refused != "" {
			return nil, fmt.Errorf("layer %s is encrypted (%s), and no key in image.decryption_keys_path (%s) opens it: %s: %w",
				layers[i].Digest, layers[i].MediaType, orNone(s.KeysDir), k.Refused, errdefs.ErrPermissionDenied)
		}
	}
	return keys, nil
}

// Recipient is who shall be able to open a layer.
type Recipient struct {
	Kind string `json:"kind"` // jwe, pkcs7 or provider
	Data []byte `json:"data"` // a public key or a certificate, PEM or DER; the name of a key provider
}

// Wrap asks for the annotations that let recipients open layers, in their order.
func (j *Judge) Wrap(ctx context.Context, recipients []Recipient, layers []encryption.Key) ([]map[string]string, error) {
	reply, err := j.ask(ctx, j.settings.Load(), Request{Wrap: &WrapRequest{Recipients: recipients, Layers: layers}}, nil)
	if err != nil {
		return nil, fmt.Errorf("wrap the keys of layers: %w", err)
	}
	if len(reply.Annotations) != len(layers) {
		return nil, fmt.Errorf("wrap the keys of layers: %s answers for %d of %d: %w", j.program, len(reply.Annotations), len(layers), errdefs.ErrFailedPrecondition)
	}
	return reply.Annotations, nil
}

func orNone(path string) string {
	if path == "" {
		return "not set"
	}
	return path
}

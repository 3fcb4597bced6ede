package scenario_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/oci/name"
	"github.com/minirt/mini/oci/registry"
)

// claim is what a signature of an image says, in the format that cosign and atomic signatures share.
func claim(kind, ref, manifest string) []byte {
	text, err := json.Marshal(map[string]any{
		"critical": map[string]any{
			"identity": map[string]any{"docker-reference": ref},
			"image":    map[string]any{"docker-manifest-digest": manifest},
			"type":     kind,
		},
		"optional": map[string]any{},
	})
	if err != nil {
		panic(err) // maps of strings
	}
	return text
}

// cosigner signs images as cosign does.
type cosigner struct {
	Public string // a PEM file
	key    *ecdsa.PrivateKey
	t      testing.TB
}

// newCosigner makes a key.
func newCosigner(t testing.TB) *cosigner {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	s := &cosigner{Public: filepath.Join(testenv.Dir(t), "cosign.pub"), key: key, t: t}
	putFile(t, s.Public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
	return s
}

// Sign puts a signature of a manifest into the image's repository, under the tag that is derived of its digest.
func (s *cosigner) Sign(ref string, manifest digest.Digest) {
	s.t.Helper()
	payload := claim("cosign container image signature", ref, manifest.String())
	sum := sha256.Sum256(payload)
	signature, err := ecdsa.SignASN1(rand.Reader, s.key, sum[:])
	if err != nil {
		s.t.Fatal(err)
	}
	attachSignature(s.t, ref, manifest, payload, map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(signature)})
}

// attachSignature puts what was signed, and what proves that, beside an image.
func attachSignature(t testing.TB, ref string, manifest digest.Digest, payload []byte, proof map[string]string) {
	t.Helper()
	parsed, err := name.Parse(ref)
	if err != nil {
		t.Fatal(err)
	}
	config := []byte("{}")
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: putBlob(t, parsed.Repository(), ocispec.MediaTypeImageConfig, config),
		Layers: []ocispec.Descriptor{putBlob(t, parsed.Repository(), "application/vnd.dev.cosign.simplesigning.v1+json", payload)},
	}
	m.Layers[0].Annotations = proof
	putManifest(t, parsed.Repository()+":"+strings.Replace(manifest.String(), ":", "-", 1)+".sig", m)
}

// putBlob puts a blob into a repository of a registry that is reached without TLS.
func putBlob(t testing.TB, repository, mediaType string, data []byte) ocispec.Descriptor {
	t.Helper()
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	ref, err := name.Parse(repository)
	if err == nil {
		open := func(at int64) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data[at:])), nil }
		_, err = plainClient().PushBlob(t.Context(), ref, d, open, registry.PushOptions{})
	}
	if err != nil {
		t.Fatalf("put a blob into %s: %v", repository, err)
	}
	return d
}

// putManifest puts a manifest or an index into such a registry under a name.
func putManifest(t testing.TB, ref string, document any) ocispec.Descriptor {
	t.Helper()
	data, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	var typed struct {
		MediaType string `json:"mediaType"`
	}
	if err := json.Unmarshal(data, &typed); err != nil {
		t.Fatal(err)
	}
	d := ocispec.Descriptor{MediaType: typed.MediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	parsed, err := name.Parse(ref)
	if err == nil {
		err = plainClient().PushManifest(t.Context(), parsed, d, data)
	}
	if err != nil {
		t.Fatalf("put %s: %v", ref, err)
	}
	return d
}

func plainClient() *registry.Client {
	return registry.New(registry.Options{Override: &registry.HostOverride{PlainHTTP: true}, DockerConfig: "/nonexistent"})
}

// pgpSigner makes atomic signatures, which are kept beside a registry.
type pgpSigner struct {
	Public string // a key ring
	entity *openpgp.Entity
	t      testing.TB
}

// newPGPSigner makes a key.
func newPGPSigner(t testing.TB) *pgpSigner {
	t.Helper()
	entity, err := openpgp.NewEntity("tests", "", "tests@example.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	var ring bytes.Buffer
	if err := entity.Serialize(&ring); err != nil {
		t.Fatal(err)
	}
	s := &pgpSigner{Public: filepath.Join(testenv.Dir(t), "pgp.pub"), entity: entity, t: t}
	putFile(t, s.Public, ring.Bytes())
	return s
}

// Sign writes a signature of a manifest into a lookaside directory (containers/image, docs/signature-protocols.md), where
// it is found for ref; it claims to be of claimed.
func (s *pgpSigner) Sign(lookaside, ref, claimed string, manifest digest.Digest) {
	s.t.Helper()
	var out bytes.Buffer
	w, err := openpgp.Sign(&out, s.entity, nil, nil)
	if err == nil {
		_, err = w.Write(claim("atomic container signature", claimed, manifest.String()))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	parsed, err := name.Parse(ref)
	if err != nil {
		s.t.Fatal(err)
	}
	dir := filepath.Join(lookaside, fmt.Sprintf("%s@%s=%s", parsed.Path(), manifest.Algorithm(), manifest.Encoded()))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
	putFile(s.t, filepath.Join(dir, "signature-1"), out.Bytes())
}

func putFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

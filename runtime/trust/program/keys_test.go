//go:build containers_image_openpgp

package program

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containers/ocicrypt"
	"github.com/containers/ocicrypt/config"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/oci/encryption"
	"github.com/minirt/mini/runtime/trust"
)

// pair makes a key's two files.
func pair(t *testing.T) (private, public string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	private, public = filepath.Join(dir, "keys", "a.pem"), filepath.Join(dir, "a.pub")
	if err := os.Mkdir(filepath.Dir(private), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{
		private: {Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}, public: {Type: "PUBLIC KEY", Bytes: der},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return private, public
}

// TestOfLibrary decrypts what the library has encrypted, and lets the library decrypt what was encrypted here.
func TestOfLibrary(t *testing.T) {
	private, public := pair(t)
	plain := []byte(strings.Repeat("layer ", 5000))
	publicKey, err := os.ReadFile(public)
	if err != nil {
		t.Fatal(err)
	}
	cc, err := config.EncryptWithJwe([][]byte{publicKey})
	if err != nil {
		t.Fatal(err)
	}
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip + encryption.Suffix, Digest: digest.FromBytes(plain), Size: int64(len(plain))}
	r, finish, err := ocicrypt.EncryptLayer(cc.EncryptConfig, bytes.NewReader(plain), d)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if d.Annotations, err = finish(); err != nil {
		t.Fatal(err)
	}
	reply, err := unwrap(trust.UnwrapRequest{KeysDir: filepath.Dir(private), Layers: []ocispec.Descriptor{d}})
	if err != nil || reply.Keys[0].Refused != "" {
		t.Fatalf("unwrap: %+v, %v", reply, err)
	}
	opened, err := encryption.Decrypt(bytes.NewReader(data), reply.Keys[0].Key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(opened); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("decrypted %d bytes, %v", len(got), err)
	}

	e, err := encryption.Encrypt(bytes.NewReader(plain))
	if err != nil {
		t.Fatal(err)
	}
	if data, err = io.ReadAll(e); err != nil {
		t.Fatal(err)
	}
	key, err := e.Key(digest.FromBytes(plain))
	if err != nil {
		t.Fatal(err)
	}
	reply, err = wrap(trust.WrapRequest{Recipients: []trust.Recipient{{Kind: "jwe", Data: publicKey}}, Layers: []encryption.Key{key}})
	if err != nil {
		t.Fatal(err)
	}
	privateKey, err := os.ReadFile(private)
	if err != nil {
		t.Fatal(err)
	}
	dc, err := config.DecryptWithPrivKeys([][]byte{privateKey}, [][]byte{nil})
	if err != nil {
		t.Fatal(err)
	}
	theirs, _, err := ocicrypt.DecryptLayer(dc.DecryptConfig, bytes.NewReader(data), ocispec.Descriptor{Annotations: reply.Annotations[0]}, false)
	if err != nil {
		t.Fatalf("the library: %v", err)
	}
	if got, err := io.ReadAll(theirs); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("the library decrypts %d bytes, %v", len(got), err)
	}
}

func TestUnwrapRefused(t *testing.T) {
	_, public := pair(t)
	other, _ := pair(t)
	e, _ := encryption.Encrypt(strings.NewReader("x"))
	_, _ = io.Copy(io.Discard, e)
	key, err := e.Key("")
	if err != nil {
		t.Fatal(err)
	}
	publicKey, err := os.ReadFile(public)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := wrap(trust.WrapRequest{Recipients: []trust.Recipient{{Kind: "jwe", Data: publicKey}}, Layers: []encryption.Key{key}})
	if err != nil {
		t.Fatal(err)
	}
	l := ocispec.Descriptor{Annotations: reply.Annotations[0]}
	for name, dir := range map[string]string{"another key": filepath.Dir(other), "no directory": "/nonexistent", "none configured": ""} {
		reply, err := unwrap(trust.UnwrapRequest{KeysDir: dir, Layers: []ocispec.Descriptor{l, {}}})
		if err != nil || reply.Keys[0].Refused == "" || reply.Keys[1].Refused == "" {
			t.Errorf("%s: %+v, %v", name, reply, err)
		}
	}
	locked := filepath.Join(filepath.Dir(other), "noise")
	if err := os.WriteFile(locked, []byte("not a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := unwrap(trust.UnwrapRequest{KeysDir: filepath.Dir(other)}); err != nil {
		t.Errorf("a file that is no key: %v", err)
	}
	for _, bad := range []trust.Recipient{{Kind: "jwe", Data: []byte("x")}, {Kind: "pkcs7", Data: publicKey}, {Kind: "provider", Data: []byte("x")}, {Kind: "rot13"}} {
		if _, err := wrap(trust.WrapRequest{Recipients: []trust.Recipient{bad}, Layers: []encryption.Key{key}}); err == nil {
			t.Errorf("recipient %+v was taken", bad)
		}
	}
}

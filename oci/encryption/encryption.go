// Package encryption reads and writes the bytes of layers that are encrypted as ocicrypt does (containers/ocicrypt,
// docs/; media types ending in +encrypted): AES-256 in counter mode, and an HMAC-SHA256 of the encrypted bytes. The key of
// a layer comes in, or goes out, unwrapped; how keys are wrapped for recipients is not known here.
package encryption

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

const (
	// Suffix ends the media type of an encrypted layer.
	Suffix = "+encrypted"
	// AnnotationPrefix begins the annotations of an encrypted layer that are about its encryption.
	AnnotationPrefix = "org.opencontainers.image.enc."

	cipherName = "AES_256_CTR_HMAC_SHA256"
	keySize    = 32
	nonceName  = "nonce"
)

// Key is what decrypts a layer, as the two JSON documents that ocicrypt makes of it: what everybody may know, and what is
// wrapped for the recipients.
type Key struct{ Public, Private []byte }

type publicOptions struct {
	Cipher  string            `json:"cipher"`
	HMAC    []byte            `json:"hmac"`
	Options map[string][]byte `json:"cipheroptions"`
}

type privateOptions struct {
	Key     []byte            `json:"symkey"`
	Digest  digest.Digest     `json:"digest"` // of the layer before it was encrypted
	Options map[string][]byte `json:"cipheroptions"`
}

// MediaType is that of a layer when it is encrypted.
func MediaType(plain string) string { return plain + Suffix }

// PlainMediaType is that of an encrypted layer when it is decrypted.
func PlainMediaType(encrypted string) string { return strings.TrimSuffix(encrypted, Suffix) }

// Plain is the digest that the layer has when it is decrypted; "" when the key does not say.
func (k Key) Plain() digest.Digest {
	var private privateOptions
	if json.Unmarshal(k.Private, &private) != nil {
		return ""
	}
	return private.Digest
}

// Decrypt reads the plain bytes of an encrypted layer. That they are the right ones is known at the end: Read returns
// ErrDataLoss instead of io.EOF when they are not, and what was read before must not be used then. A key that cannot be
// used is ErrInvalidArgument.
func Decrypt(r io.Reader, k Key) (io.Reader, error) {
	var public publicOptions
	var private privateOptions
	if err := errors.Join(json.Unmarshal(k.Public, &public), json.Unmarshal(k.Private, &private)); err != nil {
		return nil, fmt.Errorf("key of the layer: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	nonce, ok := public.Options[nonceName]
	if !ok {
		nonce = private.Options[nonceName]
	}
	switch {
	case public.Cipher != cipherName:
		return nil, fmt.Errorf("key of the layer: cipher %q is not known, only %s: %w", public.Cipher, cipherName, errdefs.ErrInvalidArgument)
	case len(private.Key) != keySize || len(nonce) != aes.BlockSize || len(public.HMAC) != sha256.Size:
		return nil, fmt.Errorf("key of the layer: the sizes of its parts (key %d, nonce %d, HMAC %d bytes) are not those of %s: %w",
			len(private.Key), len(nonce), len(public.HMAC), cipherName, errdefs.ErrInvalidArgument)
	}
	stream, sum, err := newCipher(private.Key, nonce)
	return &decrypting{r: r, stream: stream, sum: sum, want: public.HMAC}, err
}

func newCipher(key, nonce []byte) (cipher.Stream, hash.Hash, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, err
	}
	return cipher.NewCTR(block, nonce), hmac.New(sha256.New, key), nil
}

type decrypting struct {
	r      io.Reader
	stream cipher.Stream
	sum    hash.Hash
	want   []byte
}

func (d *decrypting) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	d.sum.Write(p[:n])
	d.stream.XORKeyStream(p[:n], p[:n])
	if errors.Is(err, io.EOF) && !hmac.Equal(d.sum.Sum(nil), d.want) {
		err = fmt.Errorf("the layer was not encrypted with this key, or has been changed since: %w", errdefs.ErrDataLoss)
	}
	return n, err
}

// Encrypting reads the encrypted bytes of a layer under a key that is made for it.
type Encrypting struct {
	r          io.Reader
	stream     cipher.Stream
	sum        hash.Hash
	key, nonce []byte
	ended      bool
}

// Encrypt begins to encrypt a layer.
func Encrypt(r io.Reader) (*Encrypting, error) {
	e := &Encrypting{r: r, key: make([]byte, keySize), nonce: make([]byte, aes.BlockSize)}
	_, _ = rand.Read(e.key) // never fails, see crypto/rand
	_, _ = rand.Read(e.nonce)
	var err error
	e.stream, e.sum, err = newCipher(e.key, e.nonce)
	return e, err
}

// Read reads encrypted bytes.
func (e *Encrypting) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.stream.XORKeyStream(p[:n], p[:n])
	e.sum.Write(p[:n])
	e.ended = e.ended || errors.Is(err, io.EOF)
	return n, err
}

// Key is that of the layer, when all of it was read; plain is the digest of what was encrypted.
func (e *Encrypting) Key(plain digest.Digest) (Key, error) {
	if !e.ended {
		return Key{}, fmt.Errorf("the layer has not been read to its end: %w", errdefs.ErrFailedPrecondition)
	}
	public, err := json.Marshal(publicOptions{cipherName, e.sum.Sum(nil), map[string][]byte{}})
	if err != nil {
		return Key{}, err
	}
	private, err := json.Marshal(privateOptions{e.key, plain, map[string][]byte{nonceName: e.nonce}})
	return Key{public, private}, err
}

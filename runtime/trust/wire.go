package trust

import (
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/minirt/mini/oci/encryption"
)

// The program and the daemon talk in JSON values over the program's standard input and output: one Request, then Replies
// of the program; each Reply that wants material is answered by a Material. The last Reply wants none.

// Request is what the program is started for: one of its fields is set.
type Request struct {
	Verify *VerifyRequest `json:"verify,omitempty"`
	Unwrap *UnwrapRequest `json:"unwrap,omitempty"`
	Wrap   *WrapRequest   `json:"wrap,omitempty"`
}

// VerifyRequest asks whether a policy allows an image.
type VerifyRequest struct {
	Image       string        `json:"image"` // its full name, with a tag or a digest
	Digest      digest.Digest `json:"digest"`
	Policy      string        `json:"policy"`      // the file
	RegistriesD string        `json:"registriesD"` // the directory that says where signatures are kept beside a registry
	Directory   string        `json:"directory"`   // an empty one to work in
}

// UnwrapRequest asks for the keys of encrypted layers.
type UnwrapRequest struct {
	KeysDir string               `json:"keysDir"`        // of private keys; "": none
	Keys    [][]byte             `json:"keys,omitempty"` // more private keys
	Layers  []ocispec.Descriptor `json:"layers"`
}

// WrapRequest asks for annotations that let recipients decrypt layers whose keys are given.
type WrapRequest struct {
	Recipients []Recipient      `json:"recipients"`
	Layers     []encryption.Key `json:"layers"`
}

// Material is what a policy judges.
type Material struct {
	Manifest   []byte   `json:"manifest,omitempty"`
	Signatures [][]byte `json:"signatures,omitempty"` // as blobs of containers' dir transport
	Complete   bool     `json:"complete,omitempty"`   // there are no other signatures to look for
	Error      string   `json:"error,omitempty"`      // why there is no material
}

// Reply is what the program says.
type Reply struct {
	WantsMaterial bool `json:"wantsMaterial,omitempty"`

	// Verify: allowed, or refused with the reason.
	Allowed    bool     `json:"allowed,omitempty"`
	Refused    string   `json:"refused,omitempty"`
	Signatures [][]byte `json:"signatures,omitempty"` // all that were looked at

	// Unwrap and Wrap: one for each layer.
	Keys        []Key               `json:"keys,omitempty"`
	Annotations []map[string]string `json:"annotations,omitempty"`

	// Error is why there is no answer.
	Error string `json:"error,omitempty"`
}

// Key decrypts one layer.
type Key struct {
	encryption.Key
	Refused string `json:"refused,omitempty"` // why there is no key
}

package image

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Config is what an image says of its containers, with the fields that Docker's configs have beside the image
// specification's. https://github.com/moby/docker-image-spec/blob/v1.3.1/spec.md
type Config struct {
	ocispec.ImageConfig
	Healthcheck *HealthCheck `json:"Healthcheck,omitempty"`
	OnBuild     []string     `json:"OnBuild,omitempty"`
	Shell       []string     `json:"Shell,omitempty"`
}

// Document is an image's configuration as it is written, for OCI and for Docker.
type Document struct {
	ocispec.Image
	Config Config `json:"config"`
}

// ParseDocument reads a configuration that ParseConfig accepts, with Docker's fields. What neither knows is lost.
func ParseDocument(data []byte) (Document, error) {
	if _, err := ParseConfig(data); err != nil {
		return Document{}, err
	}
	var d Document
	if err := json.Unmarshal(data, &d); err != nil {
		return d, fmt.Errorf("image config: %v: %w", err, errdefs.ErrInvalidArgument)
	}
	return d, nil
}

// emptyDiffID is that of a layer in which nothing is: a tar of two zero blocks.
const emptyDiffID = digest.Digest("sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef")

// Add puts a layer on top of the image, and says in the history who made it. It tells whether the layer has anything in it:
// one that has not is only in the history.
func (d *Document) Add(diffID digest.Digest, h ocispec.History) (added bool) {
	added = diffID != emptyDiffID
	h.EmptyLayer = !added
	if h.Created == nil {
		now := time.Now().UTC()
		h.Created = &now
	}
	d.Created, d.Author = h.Created, h.Author
	d.History = append(d.History[:len(d.History):len(d.History)], h)
	if added {
		d.RootFS.Type = "layers"
		d.RootFS.DiffIDs = append(d.RootFS.DiffIDs[:len(d.RootFS.DiffIDs):len(d.RootFS.DiffIDs)], diffID)
	}
	return added
}

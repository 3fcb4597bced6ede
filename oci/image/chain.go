package image

import (
	"github.com/opencontainers/go-digest"
)

// ChainIDs returns the chain ID of every layer from its diff IDs, bottom first (image-spec, config.md "Layer ChainID").
func ChainIDs(diffIDs []digest.Digest) []digest.Digest {
	chain := make([]digest.Digest, len(diffIDs))
	for i, d := range diffIDs {
		if i == 0 {
			chain[i] = d
			continue
		}
		chain[i] = digest.FromString(chain[i-1].String() + " " + d.String())
	}
	return chain
}

// ChainID returns the chain ID of the topmost layer, "" for an image without layers.
func ChainID(diffIDs []digest.Digest) digest.Digest {
	if len(diffIDs) == 0 {
		return ""
	}
	chain := ChainIDs(diffIDs)
	return chain[len(chain)-1]
}

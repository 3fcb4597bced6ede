// Package toolbox carries the toolbox image in the binary: a shell and the usual commands, for a machine that reaches no
// registry. The image is made by the toolbox module ("make toolbox") and is not kept in the repository; a build without
// it works and carries none.
package toolbox

import (
	"embed"
	"io"
)

// Name is what the image is called once it is imported.
const Name = "docker.io/mini/toolbox:latest"

//go:embed data
var data embed.FS

// Archive opens the image as an uncompressed OCI archive. The second result is false in a binary that was built before
// the image was ("make toolbox", then "make build").
func Archive() (io.ReadCloser, bool) {
	f, err := data.Open("data/toolbox.tar")
	if err != nil {
		return nil, false
	}
	return f, true
}

//go:build !cgo || !seccomp

package confine

import (
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runc/libcontainer/configs"
)

// Enabled says whether this program has libseccomp.
const Enabled = false

// Arm has nothing to do: without libseccomp there are no filters.
func Arm() error { return nil }

func compile(*configs.Seccomp) ([]byte, error) { return nil, errdefs.ErrNotImplemented }

func finalOf(*configs.Seccomp) final { return final{} }

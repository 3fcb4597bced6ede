package spec

import (
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Default is the document of a container that runs sh in "rootfs" with nothing asked for, for a platform like
// "linux/arm64"; empty is this machine's. It does not depend on the host. Errors: ErrInvalidArgument for a platform that
// isn't Linux.
func Default(platform string) (*specs.Spec, error) {
	if os, _, _ := strings.Cut(platform, "/"); os != "" && os != "linux" {
		return nil, invalid("platform %s: only linux documents are made here", platform)
	}
	s, _, err := Build(Input{
		ID:      "container",
		Image:   ocispec.ImageConfig{Cmd: []string{"sh"}},
		Request: Request{Terminal: true, Hostname: "container", Seccomp: "unconfined"},
		Host:    Host{CgroupMode: cgroupV2},
	})
	return s, err
}

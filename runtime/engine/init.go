package engine

import (
	"slices"

	"github.com/minirt/mini/oci/spec"
)

// initPath is where a container finds the small init that is its first process.
const initPath = "/sbin/docker-init"

// withInit mounts the program that is also a small init; the document names it first (initFirst).
func withInit(r spec.Request, c Container, program string) spec.Request {
	if !c.Init {
		return r
	}
	if c.InitBinary != "" {
		program = c.InitBinary
	}
	m := spec.Mount{Type: "bind", Source: program, Target: initPath, Options: []string{"bind", "ro", "nosuid", "nodev"}}
	r.Mounts = append([]spec.Mount{m}, r.Mounts...)
	return r
}

// initFirst makes the init run the command of a container that asks for it.
func initFirst(args []string, c Container) []string {
	if !c.Init {
		return args
	}
	return slices.Concat([]string{initPath, "--"}, args)
}

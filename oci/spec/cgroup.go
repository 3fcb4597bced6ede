package spec

import (
	"github.com/minirt/mini/internal/cgroup"
)

// The modes a Host reports, spelled as internal/cgroup does.
const (
	cgroupV1     = string(cgroup.V1)
	cgroupHybrid = string(cgroup.Hybrid)
	cgroupV2     = string(cgroup.V2)
)

// cgroupRule names the container's cgroup in the form that the driver takes.
func cgroupRule(b *builder) error {
	parent := b.req.CgroupParent
	if parent == "" {
		parent = b.in.Defaults.CgroupParent
	}
	p, err := cgroup.Path(cgroup.Driver(b.host.CgroupDriver), parent, b.in.Name, b.in.Namespace, b.in.ID)
	if err != nil {
		return err
	}
	b.spec.Linux.CgroupsPath = p
	return nil
}

package spec

import (
	"github.com/minirt/mini/internal/cgroup"
)

// cgroupV2 is the mode a Host reports where only the unified hierarchy is mounted.
const cgroupV2 = string(cgroup.V2)

// cgroupRule names the container's cgroup in the form that the driver takes.
func cgroupRule(b *builder) error {
	driver, parent := b.in.CgroupDriver, b.in.CgroupParent
	if driver == "" {
		driver = b.host.CgroupDriver
	}
	if parent == "" {
		parent = b.in.Name
	}
	if b.req.CgroupParent == "" {
		b.spec.Linux.CgroupsPath = CgroupsPath(driver, parent, b.in.Namespace, b.in.ID)
		return nil
	}
	p, err := cgroup.Below(cgroup.Driver(driver), b.req.CgroupParent, b.in.Name, b.in.Namespace, b.in.ID)
	if err != nil {
		return err
	}
	b.spec.Linux.CgroupsPath = p
	return nil
}

// CgroupsPath is linux.cgroupsPath of a container that asks for no parent; parent is the daemon's name, or the group or
// slice it is configured with.
func CgroupsPath(driver, parent, namespace, id string) string {
	return cgroup.Path(cgroup.Driver(driver), parent, namespace, id)
}

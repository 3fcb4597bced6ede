package policy

import (
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/oci/spec"
)

// Resources changes limits that a client asks for, of a container that is made or updated; nil: it asks for none.
func (s *Settings) Resources(handler string, r *specs.LinuxResources, h *spec.Host) (*specs.LinuxResources, error) {
	if r == nil {
		return nil, nil
	}
	if s.DisableHugetlb || s.TolerateMissingHugetlb && h.Controllers != nil && !slices.Contains(h.Controllers, "hugetlb") {
		r.HugepageLimits = nil
	}
	if m := r.Memory; m != nil && m.Limit != nil {
		if least := s.Handlers[handler].MinMemory; *m.Limit > 0 && *m.Limit < least {
			return nil, invalid("memory limit %d: the least that the configuration allows under this runtime handler is %d bytes", *m.Limit, least)
		}
	}
	return r, nil
}

func (c *making) resources() error {
	r, err := c.s.Resources(c.pod.Runtime, c.r.Resources, c.host)
	if err != nil {
		return err
	}
	pids := c.s.PidsLimit > 0 && (c.host.Controllers == nil || slices.Contains(c.host.Controllers, "pids"))
	if pids && (r == nil || r.Pids == nil) {
		r = orNew(r)
		limit := c.s.PidsLimit
		r.Pids = &specs.LinuxPids{Limit: &limit}
	}
	if text, ok := c.annotation(unifiedCgroup); ok {
		files, err := pairs(unifiedCgroup, text)
		if err != nil {
			return err
		}
		r = orNew(r)
		merged := map[string]string{}
		for k, v := range r.Unified {
			merged[k] = v
		}
		for k, v := range files {
			merged[k] = v
		}
		r.Unified = merged
	}
	c.r.Resources = r
	return nil
}

func orNew(r *specs.LinuxResources) *specs.LinuxResources {
	if r == nil {
		return &specs.LinuxResources{}
	}
	return r
}

// cpu is the processors' part of the limits, made when there is none.
func (c *making) cpu() *specs.LinuxCPU {
	c.r.Resources = orNew(c.r.Resources)
	if c.r.Resources.CPU == nil {
		c.r.Resources.CPU = &specs.LinuxCPU{}
	}
	return c.r.Resources.CPU
}

// cpus is the list of the processors that the container has to itself, as far as anybody said.
func (c *making) cpus() string {
	if c.r.Resources == nil || c.r.Resources.CPU == nil {
		return ""
	}
	return c.r.Resources.CPU.Cpus
}

// devices adds those of the configuration and of the annotation, and gives all to the container's user.
func (c *making) devices() error {
	asked := c.r.Devices
	if text, ok := c.annotation(deviceList); ok {
		for _, word := range list(text) {
			d, err := Device(word)
			if err != nil {
				return err
			}
			if !slices.Contains(c.s.AllowedDevices, d.Source) {
				return invalid("annotation %s: device %s is not one of cri.allowed_devices: %s", deviceList.name, d.Source, strings.Join(c.s.AllowedDevices, ", "))
			}
			asked = append(asked, d)
		}
	}
	if !c.privileged() {
		asked = slices.Concat(c.s.AdditionalDevices, asked)
	}
	if s := c.config.GetLinux().GetSecurityContext(); c.s.DeviceOwnership {
		asked = slices.Clone(asked)
		for i := range asked {
			asked[i].UID, asked[i].GID = id(s.GetRunAsUser()), id(s.GetRunAsGroup())
		}
	}
	c.r.Devices = asked
	return nil
}

func id(v *v1.Int64Value) *uint32 {
	if v == nil {
		return nil
	}
	n := uint32(v.GetValue())
	return &n
}

// Device reads SOURCE[:TARGET][:PERMISSIONS].
func Device(text string) (spec.Device, error) {
	parts := strings.Split(text, ":")
	d := spec.Device{Source: parts[0]}
	rest := parts[1:]
	if len(rest) > 0 && strings.Trim(rest[len(rest)-1], "rwm") == "" && rest[len(rest)-1] != "" {
		d.Permissions, rest = rest[len(rest)-1], rest[:len(rest)-1]
	}
	if len(rest) > 0 {
		d.Target, rest = rest[0], rest[1:]
	}
	for _, p := range []string{d.Source, d.Target} {
		if len(rest) > 0 || p != "" && !strings.HasPrefix(p, "/dev/") || d.Source == "" {
			return d, invalid("device %.128q: give SOURCE[:TARGET][:PERMISSIONS], both below /dev", text)
		}
	}
	return d, nil
}

package spec

import (
	"fmt"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// BlockLimit limits what a container does with one block device of the host. What is 0 is not limited.
type BlockLimit struct {
	Path      string `json:"path"`                // /dev/sda
	Weight    uint16 `json:"weight,omitempty"`    // 10 to 1000
	ReadBps   uint64 `json:"readBps,omitempty"`   // bytes in a second
	WriteBps  uint64 `json:"writeBps,omitempty"`  //
	ReadIOPS  uint64 `json:"readIops,omitempty"`  // operations in a second
	WriteIOPS uint64 `json:"writeIops,omitempty"` //
}

// blockLimitsRule adds the limits of single block devices, whose numbers only the host knows, to those of the request.
// https://github.com/opencontainers/runtime-spec/blob/v1.3.0/config-linux.md#block-io
func blockLimitsRule(b *builder) error {
	if len(b.req.BlockLimits) == 0 {
		return nil
	}
	io := &specs.LinuxBlockIO{}
	if have := b.spec.Linux.Resources.BlockIO; have != nil {
		copied := *have
		io = &copied
	}
	for _, l := range b.req.BlockLimits {
		nodes, err := b.hostDevices(l.Path)
		if err != nil {
			return err
		}
		if len(nodes) != 1 {
			return fmt.Errorf("limit of block device %s: it is no device node: %w", l.Path, errdefs.ErrInvalidArgument)
		}
		major, minor := nodes[0].Major, nodes[0].Minor
		if l.Weight != 0 {
			w := specs.LinuxWeightDevice{Weight: &l.Weight}
			w.Major, w.Minor = major, minor
			io.WeightDevice = append(io.WeightDevice, w)
		}
		for _, x := range []struct {
			rate uint64
			to   *[]specs.LinuxThrottleDevice
		}{
			{l.ReadBps, &io.ThrottleReadBpsDevice}, {l.WriteBps, &io.ThrottleWriteBpsDevice},
			{l.ReadIOPS, &io.ThrottleReadIOPSDevice}, {l.WriteIOPS, &io.ThrottleWriteIOPSDevice},
		} {
			if x.rate != 0 {
				d := specs.LinuxThrottleDevice{Rate: x.rate}
				d.Major, d.Minor = major, minor
				*x.to = append(*x.to, d)
			}
		}
	}
	checked, warnings, err := CheckResources(&specs.LinuxResources{BlockIO: io}, b.host)
	if err != nil {
		return err
	}
	b.warnings = append(b.warnings, warnings...)
	b.spec.Linux.Resources.BlockIO = checked.BlockIO
	return nil
}

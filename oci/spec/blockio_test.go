package spec

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestBlockLimits(t *testing.T) {
	weight := uint16(100)
	in := func(limits ...BlockLimit) Input {
		return Input{
			ID: "c", Request: Request{Args: []string{"a"}, BlockLimits: limits, Resources: &specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: &weight}}},
			Devices: func(path string) ([]specs.LinuxDevice, error) {
				switch path {
				case "/dev/a":
					return []specs.LinuxDevice{{Path: path, Type: "b", Major: 8, Minor: 16}}, nil
				case "/dev/dir":
					return make([]specs.LinuxDevice, 2), nil
				}
				return nil, errdefs.ErrNotFound
			},
		}
	}
	s, _, err := Build(in(BlockLimit{Path: "/dev/a", Weight: 50, ReadBps: 1, WriteIOPS: 2}))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"weight":100,"weightDevice":[{"major":8,"minor":16,"weight":50}],"throttleReadBpsDevice":[{"major":8,"minor":16,"rate":1}],"throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":2}]}`
	if data, err := json.Marshal(s.Linux.Resources.BlockIO); err != nil || string(data) != want {
		t.Errorf("%s, %v\nwant %s", data, err, want)
	}
	for path, class := range map[string]func(error) bool{"/dev/none": errdefs.IsNotFound, "/dev/dir": errdefs.IsInvalidArgument} {
		if _, _, err := Build(in(BlockLimit{Path: path, ReadBps: 1})); !class(err) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, _, err := Build(in(BlockLimit{Path: "/dev/a", Weight: 5})); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "10 to 1000") {
		t.Errorf("weight 5: %v", err)
	}
}

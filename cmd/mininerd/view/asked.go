package view

import (
	"encoding/json"

	"github.com/minirt/mini/runtime/api"
)

// Asked is what the command line of run or create said, as far as the daemon has no field for it: it is kept with the
// container so that inspect can say it again. Nothing that a container does depends on it.
type Asked struct {
	AttachStdin       bool            `json:"attachStdin,omitempty"`
	AttachStdout      bool            `json:"attachStdout,omitempty"`
	AttachStderr      bool            `json:"attachStderr,omitempty"`
	IDFile            string          `json:"idFile,omitempty"`
	NanoCPUs          int64           `json:"nanoCPUs,omitempty"` // of --cpus, which is a quota to the daemon
	KernelMemory      int64           `json:"kernelMemory,omitempty"`
	Binds             []string        `json:"binds,omitempty"`
	Mounts            []AskedMount    `json:"mounts,omitempty"`
	VolumesFrom       []string        `json:"volumesFrom,omitempty"`
	VolumeDriver      string          `json:"volumeDriver,omitempty"`
	SecurityOpt       []string        `json:"securityOpt,omitempty"`
	IPC               string          `json:"ipc,omitempty"`
	Isolation         string          `json:"isolation,omitempty"`
	Links             []string        `json:"links,omitempty"`
	DeviceCgroupRules []string        `json:"deviceCgroupRules,omitempty"`
	DeviceRequests    []DeviceRequest `json:"deviceRequests,omitempty"`
	StopTimeout       *int64          `json:"stopTimeout,omitempty"` // seconds
}

// DeviceRequest is what --gpus asks for, as docker's API has it.
type DeviceRequest struct {
	Driver       string
	Count        int
	DeviceIDs    []string
	Capabilities [][]string
	Options      map[string]string
}

// AskedMount is what --mount said, as docker's API has it.
type AskedMount struct {
	Type          string              `json:",omitempty"`
	Source        string              `json:",omitempty"`
	Target        string              `json:",omitempty"`
	ReadOnly      bool                `json:",omitempty"`
	Consistency   string              `json:",omitempty"`
	BindOptions   *AskedBindOptions   `json:",omitempty"`
	VolumeOptions *AskedVolumeOptions `json:",omitempty"`
	TmpfsOptions  *AskedTmpfsOptions  `json:",omitempty"`
}

// AskedBindOptions are those of a bind.
type AskedBindOptions struct {
	Propagation  string `json:",omitempty"`
	NonRecursive bool   `json:",omitempty"`
}

// AskedVolumeOptions are those of a volume.
type AskedVolumeOptions struct {
	NoCopy       bool              `json:",omitempty"`
	Labels       map[string]string `json:",omitempty"`
	Subpath      string            `json:",omitempty"`
	DriverConfig *AskedDriver      `json:",omitempty"`
}

// AskedDriver is a volume's driver.
type AskedDriver struct {
	Name    string            `json:",omitempty"`
	Options map[string]string `json:",omitempty"`
}

// AskedTmpfsOptions are those of a tmpfs.
type AskedTmpfsOptions struct {
	SizeBytes int64  `json:",omitempty"`
	Mode      uint32 `json:",omitempty"`
}

// askedOf reads what was kept; a container that another client has made says nothing.
func askedOf(c *api.Container) (a Asked, known bool) {
	if len(c.Kept) == 0 || json.Unmarshal(c.Kept, &a) != nil {
		return Asked{}, false
	}
	return a, true
}

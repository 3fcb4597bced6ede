package spec

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Host is what Build must know of the machine: plain data, gathered by ProbeHost when the daemon starts. The zero value
// claims nothing and forbids nothing: facts that restrict are phrased so that their absence restricts nothing.
type Host struct {
	Kernel            string   `json:"kernel"` // release, as uname -r
	Hostname          string   `json:"hostname,omitempty"`
	CgroupMode        string   `json:"cgroupMode"`            // v1, hybrid or v2
	CgroupDriver      string   `json:"cgroupDriver"`          // cgroupfs or systemd
	Controllers       []string `json:"controllers"`           // that have limits; nil: not known
	CPUs              string   `json:"cpus,omitempty"`        // online, as a list: 0-3,8
	MemoryNodes       string   `json:"memoryNodes,omitempty"` // online NUMA nodes
	PageSizes         []string `json:"pageSizes,omitempty"`   // of huge pages, as cgroups name them: 2MB, 1GB
	NoSwapLimit       bool     `json:"noSwapLimit,omitempty"` // swap isn't accounted to cgroups
	NoSeccomp         bool     `json:"noSeccomp,omitempty"`
	NoSeccompArches   []string `json:"noSeccompArches,omitempty"` // SCMP_ARCH_… of this machine's family that the kernel does not run
	AppArmor          bool     `json:"appArmor,omitempty"`
	SELinux           bool     `json:"selinux,omitempty"`
	IntelRdt          bool     `json:"intelRdt,omitempty"`          // resctrl is mounted
	NoMqueue          bool     `json:"noMqueue,omitempty"`          // the kernel has no message queues
	NoHostMqueue      bool     `json:"noHostMqueue,omitempty"`      // /dev/mqueue isn't mounted
	MissingNamespaces []string `json:"missingNamespaces,omitempty"` // that the kernel was built without
	AbsentPaths       []string `json:"absentPaths,omitempty"`       // of the masked ones, that will never exist

	// What this process, and so the supervisor, may do itself.
	Capabilities []string                     `json:"capabilities"` // in the bounding set; nil: not known
	SysResource  bool                         `json:"sysResource"`  // CAP_SYS_RESOURCE is effective: limits may be raised
	Rlimits      map[string]specs.POSIXRlimit `json:"rlimits,omitempty"`
	MaxOpenFiles uint64                       `json:"maxOpenFiles,omitempty"` // fs.nr_open: no limit on open files goes above
	OOMScoreAdj  int                          `json:"oomScoreAdj"`
}

// KernelBefore compares the release; an unknown one counts as new.
func (h *Host) KernelBefore(major, minor int) bool {
	var x, y int
	if n, _ := fmt.Sscanf(h.Kernel, "%d.%d", &x, &y); n != 2 {
		return false
	}
	return x < major || (x == major && y < minor)
}

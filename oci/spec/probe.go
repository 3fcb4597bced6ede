package spec

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/cgroup"
)

// ProbeHost gathers the host's facts: some forty reads of /proc and /sys, about a millisecond. Call it once, when the
// daemon starts. A fact that cannot be read is left at its zero value, which forbids nothing.
func ProbeHost() Host {
	mode := cgroup.Mode()
	h := Host{
		Kernel:       firstLine("/proc/sys/kernel/osrelease"),
		CgroupMode:   string(mode),
		CgroupDriver: string(cgroup.DetectDriver()),
		Controllers:  cgroup.Controllers(mode),
		CPUs:         firstLine("/sys/devices/system/cpu/online"),
		MemoryNodes:  firstLine("/sys/devices/system/node/online"),
		PageSizes:    pageSizes("/sys/kernel/mm/hugepages"),
		NoSwapLimit:  !swapLimited(mode),
		AppArmor:     strings.HasPrefix(firstLine("/sys/module/apparmor/parameters/enabled"), "Y"),
		SELinux:      exists("/sys/fs/selinux/enforce"),
		IntelRdt:     exists("/sys/fs/resctrl/schemata"),
		NoMqueue:     !exists("/proc/sys/fs/mqueue"),
		NoHostMqueue: !isMountedFS("/dev/mqueue", 0x19800202),
		Rlimits:      ownRlimits(),
	}
	h.Hostname, _ = os.Hostname()
	h.MaxOpenFiles, _ = strconv.ParseUint(firstLine("/proc/sys/fs/nr_open"), 10, 64)
	h.OOMScoreAdj, _ = strconv.Atoi(firstLine("/proc/self/oom_score_adj"))
	h.MissingNamespaces = missingNamespaces("/proc/self/ns")
	h.AbsentPaths = absentPaths(!exists("/proc/modules"))
	h.readStatus("/proc/self/status")
	h.NoSeccompArches = missingArches(filtered("/proc/self/status"))
	return h
}

// readStatus takes the capabilities and seccomp from proc_pid_status(5).
func (h *Host) readStatus(file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		return
	}
	h.NoSeccomp = !bytes.Contains(data, []byte("\nSeccomp:"))
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		mask, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil {
			continue
		}
		switch key {
		case "CapBnd":
			h.Capabilities = capabilitiesOf(mask)
		case "CapEff":
			h.SysResource = mask&(1<<unix.CAP_SYS_RESOURCE) != 0
		}
	}
}

// filtered tells whether this process has a seccomp filter: yes, unless the kernel says no.
func filtered(file string) bool {
	data, err := os.ReadFile(file)
	return err != nil || !bytes.Contains(data, []byte("\nSeccomp:\t0\n"))
}

// capabilitiesOf names the bits of a set.
func capabilitiesOf(mask uint64) []string {
	set := make([]string, 0, 64)
	for i, c := range knownCapabilities() {
		if mask&(1<<i) != 0 {
			set = append(set, c)
		}
	}
	return set
}

func ownRlimits() map[string]specs.POSIXRlimit {
	limits := make(map[string]specs.POSIXRlimit)
	for i, name := range rlimitNames() {
		var l unix.Rlimit
		if unix.Getrlimit(i, &l) == nil {
			limits[name] = specs.POSIXRlimit{Type: name, Soft: l.Cur, Hard: l.Max}
		}
	}
	return limits
}

// missingNamespaces compares /proc/self/ns with what there can be.
func missingNamespaces(dir string) []string {
	files := map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "net", specs.MountNamespace: "mnt"}
	var missing []string
	for _, t := range namespaceOrder() {
		name := files[t]
		if name == "" {
			name = string(t)
		}
		if !exists(filepath.Join(dir, name)) {
			missing = append(missing, string(t))
		}
	}
	return missing
}

// absentPaths lists masked and read-only paths that this kernel does not have and, as far as modules may bring them,
// never will: all says that there are no modules.
func absentPaths(all bool) []string {
	var absent []string
	for _, h := range slices.Concat(maskedByDefault(), readonlyByDefault()) {
		if (h.fixed || all) && !exists(h.path) {
			absent = append(absent, h.path)
		}
	}
	return absent
}

// pageSizes turns hugepages-2048kB into 2MB, as the hugetlb controller's files are named.
func pageSizes(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var sizes []string
	for _, e := range entries {
		kb, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(e.Name(), "hugepages-"), "kB"), 10, 64)
		if err != nil {
			continue
		}
		switch {
		case kb >= 1<<20:
			sizes = append(sizes, strconv.FormatUint(kb>>20, 10)+"GB")
		case kb >= 1<<10:
			sizes = append(sizes, strconv.FormatUint(kb>>10, 10)+"MB")
		default:
			sizes = append(sizes, strconv.FormatUint(kb, 10)+"KB")
		}
	}
	return sizes
}

// swapLimited tells whether groups have a swap limit. v2's root group has no such file, so there it is asked of the
// process's own group or, in the root, of the kernel's accounting.
func swapLimited(mode cgroup.Layout) bool {
	if mode != cgroup.V2 {
		return exists(cgroup.Root + "/memory/memory.memsw.limit_in_bytes")
	}
	if own, err := cgroup.Paths(os.Getpid()); err == nil && filepath.Clean(own[""]) != cgroup.Root {
		return exists(filepath.Join(own[""], "memory.swap.max"))
	}
	return exists("/proc/swaps")
}

func isMountedFS(path string, magic int64) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && int64(st.Type) == magic
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func firstLine(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSpace(line)
}

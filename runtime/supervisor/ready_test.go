package supervisor

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/testenv"
)

func configured(t *testing.T, change func(*specs.Spec)) (*specs.Spec, *configs.Config) {
	t.Helper()
	spec := specconv.Example()
	spec.Root.Path = t.TempDir()
	spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.CgroupNamespace })
	if change != nil {
		change(spec)
	}
	config, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{CgroupName: "ready-test", Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	return spec, config
}

func destinations(config *configs.Config) []string {
	var list []string
	for _, m := range config.Mounts {
		list = append(list, m.Destination)
	}
	return list
}

func TestReadyDev(t *testing.T) {
	testenv.Root(t)
	spec, config := configured(t, nil)
	ready := prepareMounts(spec, config)
	if ready == nil {
		t.Skip("mounts on detached mounts need Linux 6.15")
	}
	defer ready.close()
	if got := destinations(config); slices.Contains(got, "/dev/pts") || slices.Contains(got, "/dev/shm") || !slices.Contains(got, "/dev/mqueue") {
		t.Errorf("mounts left to libcontainer: %q", got)
	}
	if len(config.Devices) != 0 {
		t.Errorf("%d devices left to libcontainer", len(config.Devices))
	}
	at := slices.IndexFunc(config.Mounts, func(m *configs.Mount) bool { return m.Destination == "/dev" })
	dir := config.Mounts[at].Source
	for name, want := range map[string]uint64{"null": unix.Mkdev(1, 3), "urandom": unix.Mkdev(1, 9)} {
		var st unix.Stat_t
		if err := unix.Stat(dir+"/"+name, &st); err != nil || uint64(st.Rdev) != want || st.Mode != unix.S_IFCHR|0o666 {
			t.Errorf("%s: %v, device %#x, mode %o", name, err, st.Rdev, st.Mode)
		}
	}
	for name, want := range map[string]int64{"pts": unix.DEVPTS_SUPER_MAGIC, "shm": unix.TMPFS_MAGIC} {
		var st unix.Statfs_t
		if err := unix.Statfs(dir+"/"+name, &st); err != nil || int64(st.Type) != want {
			t.Errorf("%s: %v, filesystem %#x", name, err, st.Type)
		}
	}
}

// TestNotReady: what is not ordinary stays as the configuration has it.
func TestNotReady(t *testing.T) {
	testenv.Root(t)
	for name, change := range map[string]func(*specs.Spec){
		"an option of libcontainer's": func(s *specs.Spec) { mountAt(s, "/dev").Options = append(mountAt(s, "/dev").Options, "rshared") },
		"a tmpfs with the mode of what it covers": func(s *specs.Spec) {
			mountAt(s, "/dev").Options = []string{"nosuid"}
		},
		"a bind mount": func(s *specs.Spec) {
			*mountAt(s, "/dev") = specs.Mount{Destination: "/dev", Type: "bind", Source: "/dev", Options: []string{"rbind"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			spec, config := configured(t, change)
			before := fmt.Sprint(destinations(config), len(config.Devices))
			ready := prepareMounts(spec, config)
			defer ready.close()
			if after := fmt.Sprint(destinations(config), len(config.Devices)); after != before {
				t.Errorf("mounts and devices are %s, were %s", after, before)
			}
		})
	}
}

func mountAt(s *specs.Spec, dir string) *specs.Mount {
	return &s.Mounts[slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == dir })]
}

// TestReadyCgroupsLeft: without the groups' directories, libcontainer's own mount is in its place again.
func TestReadyCgroupsLeft(t *testing.T) {
	testenv.Root(t)
	spec, config := configured(t, nil)
	at := slices.IndexFunc(config.Mounts, func(m *configs.Mount) bool { return m.Device == "cgroup" })
	want := *config.Mounts[at]
	ready := prepareMounts(spec, config)
	if ready == nil || ready.cgroups.tree == nil {
		t.Skip("cgroup v2, or a kernel before Linux 6.15")
	}
	defer ready.close()
	ready.fillCgroups(map[string]string{"cpu": "/sys/fs/cgroup/cpu"})
	at = slices.IndexFunc(config.Mounts, func(m *configs.Mount) bool { return m.Destination == want.Destination })
	if got := *config.Mounts[at]; got.Device != want.Device || got.Source != want.Source || got.Flags != want.Flags {
		t.Errorf("mount is %+v, want %+v", got, want)
	}
}

func TestReadyCgroups(t *testing.T) {
	testenv.Root(t)
	spec, config := configured(t, nil)
	ready := prepareMounts(spec, config)
	if ready == nil || ready.cgroups.tree == nil {
		t.Skip("cgroup v2, or a kernel before Linux 6.15")
	}
	defer ready.close()
	own := map[string]string{}
	for controller := range parseCgroups(os.Getpid()) {
		if controller != "" {
			own[controller] = "/sys/fs/cgroup/" + controller
		}
	}
	own["name=systemd"] = "/sys/fs/cgroup/systemd"
	ready.fillCgroups(own)
	source := ready.cgroups.entry.Source
	if source == ready.cgroups.plain.Source {
		t.Fatal("left to libcontainer")
	}
	var st unix.Statfs_t
	if err := unix.Statfs(source+"/pids", &st); err != nil || st.Type != unix.CGROUP_SUPER_MAGIC || st.Flags&unix.ST_RDONLY == 0 {
		t.Errorf("%s/pids: %v, filesystem %#x, flags %#x", source, err, st.Type, st.Flags)
	}
}

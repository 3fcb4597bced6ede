package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer/configs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/minirt/mini/internal/atomicfile"
	"github.com/minirt/mini/internal/mount"
)

// readyMounts are filesystems of a container that this process puts together before the container's init needs them:
// /dev with its devices, /dev/pts and /dev/shm, and on cgroup v1 the tmpfs with a bind mount for each hierarchy. For
// libcontainer's init, which opens and verifies each path anew, they are a third of its 3,000 system calls; here nobody
// else can reach what is being made, and it takes some 80, beside the init's own start.
//
// They are detached mounts: nowhere in the file system, and gone with their descriptors. The init mounts a copy of each
// by its name /proc/PID/fd/N. Both that and mounting on detached mounts need Linux 6.15; where anything of it does not
// work, or the container is not an ordinary one, libcontainer does all by itself, with the same result.
type readyMounts struct {
	files   []*os.File // open until the init has mounted them
	cgroups cgroupMount
}

// cgroupMount is the mount of the control groups, whose directories are made only after the record is written.
type cgroupMount struct {
	tree    *os.File // nil: none
	options []string
	entry   *configs.Mount
	plain   configs.Mount // what entry was
}

// Options that mean the same to a detached mount as to libcontainer. What others mean is left to it.
var (
	readyFlags  = []string{"nosuid", "noexec", "nodev", "relatime", "noatime", "strictatime", "newinstance"}
	readyValues = []string{"mode", "size", "uid", "gid", "ptmxmode"}
)

// prepareMounts makes ready what can be, and changes the configuration accordingly. When something does not work it
// returns nil, and the configuration is as before.
func prepareMounts(spec *specs.Spec, config *configs.Config) *readyMounts {
	if config.Namespaces.Contains(configs.NEWUSER) || config.RootlessEUID || config.MountLabel != "" || len(config.Mounts) != len(spec.Mounts) {
		return nil
	}
	r := &readyMounts{}
	changed := *config
	changed.Mounts = slices.Clone(config.Mounts)
	err := r.prepareDev(spec, &changed)
	if err == nil {
		err = r.prepareCgroups(spec, &changed)
	}
	if err != nil {
		r.close()
		return nil
	}
	changed.Mounts = slices.DeleteFunc(changed.Mounts, func(m *configs.Mount) bool { return m == nil })
	*config = changed
	return r
}

func (r *readyMounts) close() {
	if r == nil {
		return
	}
	for _, f := range r.files {
		f.Close()
	}
	r.files = nil
}

// prepareDev makes /dev. Entries of mounts that became part of it are nil then.
func (r *readyMounts) prepareDev(spec *specs.Spec, config *configs.Config) error {
	at := slices.IndexFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/dev" })
	if at < 0 || spec.Mounts[at].Type != "tmpfs" || !ordinary(spec.Mounts[at]) {
		return nil
	}
	dev, err := r.tree(spec.Mounts[at])
	if err != nil {
		return err
	}
	for i, m := range spec.Mounts[at+1:] {
		i += at + 1
		within := strings.HasPrefix(m.Destination, "/dev/")
		known := m.Destination == "/dev/pts" && m.Type == "devpts" || m.Destination == "/dev/shm" && m.Type == "tmpfs"
		if !within || !known || !ordinary(m) || config.Mounts[i] == nil {
			continue
		}
		if below(spec.Mounts[at+1:i], m.Destination) {
			continue // the order matters
		}
		if err := r.attach(dev, m); err != nil {
			return err
		}
		config.Mounts[i] = nil
	}
	kept := config.Devices
	config.Devices = nil
	for _, d := range kept {
		made := false
		if name, ok := strings.CutPrefix(d.Path, "/dev/"); ok && !strings.Contains(name, "/") && name != "ptmx" {
			if made, err = makeDevice(dev, name, uint32(d.FileMode), rune(d.Type), unix.Mkdev(uint32(d.Major), uint32(d.Minor)), d.Uid, d.Gid); err != nil {
				return err
			}
		}
		if !made {
			config.Devices = append(config.Devices, d)
		}
	}
	return r.replace(config, at, dev)
}

// recordPlain writes libcontainer's own mounts into its state file, in place of those that were ready: criu wants to know
// which of a container's mounts are the host's.
func (n *native) recordPlain() error {
	spec, err := loadSpec(n.start.Dir)
	if err != nil {
		return err
	}
	config, err := n.config(spec)
	if err != nil {
		return err
	}
	path := filepath.Join(n.stateDir(), "state.json")
	var state, saved map[string]json.RawMessage
	if err := loadJSON(path, &state); err != nil {
		return err
	}
	if err := json.Unmarshal(state["config"], &saved); err != nil {
		return fmt.Errorf("%s: its config: %w", path, err)
	}
	if saved["mounts"], err = json.Marshal(config.Mounts); err != nil {
		return err
	}
	if state["config"], err = json.Marshal(saved); err != nil {
		return err
	}
	data, err := json.Marshal(state)
	if err != nil {
		return err
	}
	n.forget()
	return atomicfile.WriteNoSync(path, data, 0o600)
}

// ordinary says that all options of a mount are known here, and that a tmpfs does not depend on what it covers.
func ordinary(m specs.Mount) bool {
	mode := m.Type != "tmpfs"
	for _, o := range m.Options {
		key, _, valued := strings.Cut(o, "=")
		mode = mode || key == "mode"
		if valued && !slices.Contains(readyValues, key) || !valued && !slices.Contains(readyFlags, key) {
			return false
		}
	}
	return mode && len(m.UIDMappings) == 0 && len(m.GIDMappings) == 0
}

// below says that one of the mounts is at the directory or below it.
func below(mounts []specs.Mount, dir string) bool {
	return slices.ContainsFunc(mounts, func(m specs.Mount) bool {
		return m.Destination == dir || strings.HasPrefix(m.Destination, dir+"/") || filepath.Clean(m.Destination) != m.Destination
	})
}

// makeDevice makes a device node, as libcontainer would; false when its type is unknown here.
func makeDevice(dev *os.File, name string, mode uint32, kind rune, number uint64, uid, gid uint32) (bool, error) {
	format, known := map[rune]uint32{'c': unix.S_IFCHR, 'b': unix.S_IFBLK, 'p': unix.S_IFIFO}[kind]
	if !known {
		return false, nil
	}
	dir := int(dev.Fd())
	if err := unix.Mknodat(dir, name, mode|format, int(number)); err != nil {
		return false, fmt.Errorf("mknod %s: %w", name, err)
	}
	// Whatever the umask; nobody but this process sees the directory.
	if err := unix.Fchmodat(dir, name, mode, 0); err != nil {
		return false, fmt.Errorf("chmod %s: %w", name, err)
	}
	if uid == 0 && gid == 0 {
		return true, nil
	}
	if err := unix.Fchownat(dir, name, int(uid), int(gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, fmt.Errorf("chown %s: %w", name, err)
	}
	return true, nil
}

func (r *readyMounts) tree(m specs.Mount) (*os.File, error) {
	f, err := mount.Tree(mount.Mount{Type: m.Type, Source: m.Source, Options: m.Options})
	if err == nil {
		r.files = append(r.files, f)
	}
	return f, err
}

// attach mounts a new filesystem in /dev.
func (r *readyMounts) attach(dev *os.File, m specs.Mount) error {
	f, err := mount.Tree(mount.Mount{Type: m.Type, Source: m.Source, Options: m.Options})
	if err != nil {
		return err
	}
	defer f.Close()
	return attachTree(dev, filepath.Base(m.Destination), f)
}

func attachTree(parent *os.File, name string, child *os.File) error {
	if err := unix.Mkdirat(int(parent.Fd()), name, 0o755); err != nil {
		return fmt.Errorf("mkdir %s: %w", name, err)
	}
	if err := unix.MoveMount(int(child.Fd()), "", int(parent.Fd()), name, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach %s: %w", name, err)
	}
	return nil
}

// replace makes libcontainer mount the tree instead of what it would make. That the type is tmpfs and the flags are
// those of a bind mount is meant: the kernel obeys the flags, and of a /dev whose type is "bind" libcontainer would
// think that it needs neither its symbolic links nor the standard streams reopened on its own /dev/null.
func (r *readyMounts) replace(config *configs.Config, i int, tree *os.File) error {
	source := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), tree.Fd())
	if _, err := os.Stat(source); err != nil {
		return err
	}
	config.Mounts[i] = &configs.Mount{
		Source: source, Destination: config.Mounts[i].Destination, Device: "tmpfs", Flags: unix.MS_BIND | unix.MS_REC,
	}
	return nil
}

// prepareCgroups makes the tmpfs that fillCgroups fills.
func (r *readyMounts) prepareCgroups(spec *specs.Spec, config *configs.Config) error {
	at := slices.IndexFunc(spec.Mounts, func(m specs.Mount) bool { return m.Type == "cgroup" })
	if at < 0 || cgroups.IsCgroup2UnifiedMode() || config.Namespaces.Contains(configs.NEWCGROUP) || len(config.Mounts[at].PropagationFlags) > 0 {
		return nil
	}
	for _, o := range spec.Mounts[at].Options {
		if o != "ro" && !slices.Contains(readyFlags, o) {
			return nil
		}
	}
	tree, err := r.tree(specs.Mount{Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "nodev", "mode=755"}})
	if err != nil {
		return err
	}
	plain := *config.Mounts[at]
	if err := r.replace(config, at, tree); err != nil {
		return err
	}
	r.cgroups = cgroupMount{tree: tree, options: append([]string{"rbind"}, spec.Mounts[at].Options...), entry: config.Mounts[at], plain: plain}
	return nil
}

// fillCgroups binds the container's own group of each hierarchy, by its directories, which exist. When that does not
// work, libcontainer does it.
func (r *readyMounts) fillCgroups(groups map[string]string) {
	if r == nil || r.cgroups.tree == nil {
		return
	}
	if err := bindHierarchies(r.cgroups.tree, r.cgroups.options, groups); err != nil {
		r.leaveCgroups()
	}
}

// leaveCgroups leaves the mount of the control groups to libcontainer.
func (r *readyMounts) leaveCgroups() {
	if r != nil && r.cgroups.tree != nil {
		*r.cgroups.entry = r.cgroups.plain
	}
}

func bindHierarchies(tree *os.File, options []string, groups map[string]string) error {
	hierarchies, err := cgroups.GetCgroupMounts(false)
	if err != nil {
		return err
	}
	for _, h := range hierarchies {
		group := ownGroup(h, groups)
		if group == "" {
			return fmt.Errorf("%s: the container has no group of its own there", h.Mountpoint)
		}
		bind, err := mount.Tree(mount.Mount{Type: "bind", Source: group, Options: options})
		if err != nil {
			return err
		}
		name := filepath.Base(h.Mountpoint)
		err = attachTree(tree, name, bind)
		bind.Close()
		if err != nil {
			return err
		}
		if !strings.Contains(name, ",") {
			continue
		}
		for _, controller := range strings.Split(name, ",") {
			if err := unix.Symlinkat(name, int(tree.Fd()), controller); err != nil && !errors.Is(err, unix.EEXIST) {
				return err
			}
		}
	}
	// Clones of the host's mounts would pass on to it what is mounted there in the container.
	private := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	return unix.MountSetattr(int(tree.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &private)
}

// ownGroup is the container's directory in a hierarchy. One without controllers is known by its name (cgroups(7)).
func ownGroup(hierarchy cgroups.Mount, groups map[string]string) string {
	for _, s := range hierarchy.Subsystems {
		for _, key := range []string{s, "name=" + s} {
			if groups[key] != "" {
				return groups[key]
			}
		}
	}
	return ""
}

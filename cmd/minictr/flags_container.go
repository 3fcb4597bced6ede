package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/cmd/internal/limits"
	"github.com/minirt/mini/oci/spec"
)

// processFlags say what runs.
func processFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "env", Aliases: []string{"e"}, Usage: "set an environment variable `KEY=VALUE`; KEY alone takes it from here"},
		&cli.StringSliceFlag{Name: "env-file", Usage: "read environment variables from `FILE`"},
		&cli.StringFlag{Name: "cwd", Aliases: []string{"w"}, Usage: "working `DIRECTORY`"},
		&cli.StringFlag{Name: "user", Aliases: []string{"u"}, Usage: "`USER[:GROUP]`, names or numbers"},
		&cli.StringSliceFlag{Name: "group-add", Usage: "supplementary `GROUP`, name or number"},
		&cli.StringFlag{Name: "umask", Usage: "file mode creation `MASK`, octal"},
		&cli.StringFlag{Name: "entrypoint", Usage: "replace the image's entrypoint by `COMMAND`; empty clears it"},
		&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "give the process a terminal"},
		&cli.StringSliceFlag{Name: "rlimit", Usage: "`NAME=SOFT[:HARD]`, for example nofile=1024:4096"},
		&cli.Uint64Flag{Name: "rlimit-nofile", Usage: "largest number of open files"},
		&cli.IntFlag{Name: "oom-score-adj", Usage: "how gladly the kernel kills it for want of memory, -1000 to 1000"},
	}
}

// isolationFlags say what the container shares with the host.
func isolationFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "hostname", Usage: "host `NAME` in the container"},
		&cli.BoolFlag{Name: "net-host", Usage: "share the host's network"},
		&cli.StringSliceFlag{Name: "with-ns", Usage: "join a namespace: `TYPE:PATH`, TYPE:host or TYPE:container:ID; types: pid ipc uts network mount user cgroup time"},
		&cli.StringSliceFlag{Name: "uidmap", Usage: "user namespace mapping `CONTAINER:HOST:LENGTH`"},
		&cli.StringSliceFlag{Name: "gidmap", Usage: "group mapping `CONTAINER:HOST:LENGTH`"},
		&cli.StringSliceFlag{Name: "sysctl", Usage: "kernel parameter `NAME=VALUE` of the container's namespaces"},
		&cli.BoolFlag{Name: "privileged", Usage: "all capabilities, devices and no confinement"},
		&cli.BoolFlag{Name: "privileged-without-host-devices", Usage: "privileged, with the default devices"},
		&cli.BoolFlag{Name: "allow-new-privs", Usage: "let set-user-id programs raise privileges"},
		&cli.StringSliceFlag{Name: "cap-add", Usage: "add a `CAPABILITY`, or ALL"},
		&cli.StringSliceFlag{Name: "cap-drop", Usage: "drop a `CAPABILITY`, or ALL"},
		&cli.StringSliceFlag{Name: "cap-ambient", Usage: "make a `CAPABILITY` ambient"},
		&cli.BoolFlag{Name: "seccomp", Usage: "confine by the default seccomp profile (which is the default)"},
		&cli.StringFlag{Name: "seccomp-profile", Usage: "`FILE` of a seccomp profile, or unconfined"},
		&cli.StringFlag{Name: "apparmor-profile", Usage: "AppArmor `PROFILE`"},
		&cli.StringFlag{Name: "selinux-label", Usage: "SELinux `LABEL` of the process"},
	}
}

// filesystemFlags say what the container sees.
func filesystemFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "mount", Usage: "`type=TYPE,src=SOURCE,dst=TARGET,options=A:B`", KeepSpace: true},
		&cli.StringSliceFlag{Name: "tmpfs", Usage: "`TARGET[:OPTIONS]`"},
		&cli.BoolFlag{Name: "read-only", Usage: "read-only root filesystem"},
		&cli.BoolFlag{Name: "rootfs", Usage: "the first argument is a directory instead of an image"},
		&cli.StringFlag{Name: "rootfs-propagation", Usage: "`MODE` of the root filesystem: private, slave, shared or unbindable"},
		&cli.BoolFlag{Name: "no-pivot", Usage: "change the root by MS_MOVE instead of pivot_root"},
		&cli.StringSliceFlag{Name: "device", Usage: "`HOST[:CONTAINER[:PERMISSIONS]]`, or the name of a CDI device (vendor/class=name)"},
		&cli.StringSliceFlag{Name: "gpus", Usage: "`NUMBER` of an NVIDIA GPU, or all: the CDI device nvidia.com/gpu=NUMBER"},
		&cli.StringFlag{Name: "shm-size", Usage: "`SIZE` of /dev/shm"},
	}
}

// resourceFlags limit the container.
func resourceFlags() []cli.Flag {
	return append(limits.List(), []cli.Flag{
		&cli.StringFlag{Name: "memory-limit", Usage: "`SIZE` of memory, for example 64MiB or a number of bytes"},
		&cli.StringFlag{Name: "memory-swap", Usage: "`SIZE` of memory and swap together; -1: no limit"},
		&cli.StringSliceFlag{Name: "hugepage-limit", Usage: "`PAGESIZE=SIZE`, for example 2MB=64MiB"},
		&cli.StringSliceFlag{Name: "unified", Usage: "cgroup v2 `FILE=VALUE`"},
		&cli.StringFlag{Name: "cgroup", Usage: "parent `CGROUP` of the container's"},
		&cli.StringFlag{Name: "rdt-class", Usage: "Intel RDT `CLASS`"},
	}...)
}

// request turns the flags into what the container shall be. args are the command's, after image and id.
func request(c *cli.Context, args []string) (*spec.Request, error) {
	r := &spec.Request{Args: args}
	for _, part := range []func(*cli.Context, *spec.Request) error{
		requestProcess, requestIsolation, requestSecurity, requestFilesystem, requestResources,
	} {
		if err := part(c, r); err != nil {
			return nil, err
		}
	}
	for _, a := range c.StringSlice("annotation") {
		k, v, _ := strings.Cut(a, "=")
		if r.Annotations == nil {
			r.Annotations = map[string]string{}
		}
		r.Annotations[k] = v
	}
	return r, nil
}

func requestProcess(c *cli.Context, r *spec.Request) error {
	env, err := icli.Environment(c.StringSlice("env-file"), c.StringSlice("env"))
	if err != nil {
		return err
	}
	r.Env, r.Cwd, r.User, r.Groups = env, c.String("cwd"), c.String("user"), c.StringSlice("group-add")
	r.Terminal = c.Bool("tty")
	if c.IsSet("entrypoint") {
		entry := strings.Fields(c.String("entrypoint"))
		r.Entrypoint = &entry
	}
	if r.Umask, err = icli.ParseUmask(c.String("umask")); err != nil {
		return err
	}
	if c.IsSet("oom-score-adj") {
		adj := c.Int("oom-score-adj")
		r.OOMScoreAdj = &adj
	}
	for _, l := range c.StringSlice("rlimit") {
		limit, err := parseRlimit(l)
		if err != nil {
			return err
		}
		r.Rlimits = append(r.Rlimits, limit)
	}
	if n := c.Uint64("rlimit-nofile"); n > 0 {
		r.Rlimits = append(r.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Soft: n, Hard: n})
	}
	return nil
}

func parseRlimit(s string) (specs.POSIXRlimit, error) {
	u, err := units.ParseUlimit(s)
	if err != nil {
		return specs.POSIXRlimit{}, fmt.Errorf("--rlimit %s: %w", s, err)
	}
	return specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard)}, nil
}

func requestIsolation(c *cli.Context, r *spec.Request) error {
	r.Hostname = c.String("hostname")
	modes := map[string]string{}
	if c.Bool("net-host") {
		modes["network"] = "host"
	}
	for _, n := range c.StringSlice("with-ns") {
		kind, where, ok := strings.Cut(n, ":")
		if !ok || where == "" {
			return fmt.Errorf("--with-ns %s: write TYPE:PATH, TYPE:host or TYPE:container:ID", n)
		}
		if strings.HasPrefix(where, "/") {
			where = "path:" + where
		}
		modes[kind] = where
	}
	if len(modes) > 0 {
		r.Namespaces = modes
	}
	var err error
	if r.UIDMap, err = parseIDMaps("--uidmap", c.StringSlice("uidmap")); err != nil {
		return err
	}
	if r.GIDMap, err = parseIDMaps("--gidmap", c.StringSlice("gidmap")); err != nil {
		return err
	}
	if len(r.UIDMap) > 0 && len(r.GIDMap) == 0 {
		r.GIDMap = r.UIDMap
	}
	r.Sysctls, err = icli.Pairs("--sysctl", c.StringSlice("sysctl"))
	return err
}

func parseIDMaps(flag string, list []string) ([]specs.LinuxIDMapping, error) {
	var out []specs.LinuxIDMapping
	for _, s := range list {
		f := strings.Split(s, ":")
		var n [3]uint64
		if len(f) != 3 {
			return nil, fmt.Errorf("%s %s: write CONTAINER:HOST:LENGTH", flag, s)
		}
		for i := range f {
			v, err := strconv.ParseUint(f[i], 10, 32)
			if err != nil {
				return nil, fmt.Errorf("%s %s: %s is not a number below 2^32", flag, s, f[i])
			}
			n[i] = v
		}
		out = append(out, specs.LinuxIDMapping{ContainerID: uint32(n[0]), HostID: uint32(n[1]), Size: uint32(n[2])})
	}
	return out, nil
}

func requestSecurity(c *cli.Context, r *spec.Request) error {
	r.Privileged = c.Bool("privileged") || c.Bool("privileged-without-host-devices")
	r.PrivilegedWithoutHostDevices = c.Bool("privileged-without-host-devices")
	r.CapAdd, r.CapDrop, r.CapAmbient = c.StringSlice("cap-add"), c.StringSlice("cap-drop"), c.StringSlice("cap-ambient")
	r.AllowNewPrivileges = c.Bool("allow-new-privs")
	r.AppArmor, r.SELinuxLabel = c.String("apparmor-profile"), c.String("selinux-label")
	r.RDTClass, r.CgroupParent = c.String("rdt-class"), c.String("cgroup")
	switch p := c.String("seccomp-profile"); p {
	case "", "unconfined", "default":
		r.Seccomp = p
	default:
		data, err := os.ReadFile(p)
		if err != nil {
			return fmt.Errorf("--seccomp-profile: %w", err)
		}
		if !json.Valid(data) {
			return fmt.Errorf("--seccomp-profile %s: not JSON", p)
		}
		r.SeccompProfile = data
	}
	return nil
}

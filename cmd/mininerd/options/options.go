// Package options has docker's flags of run and create, grouped by subject, and turns what was typed into the request of
// the native API. All of it is pure but for the files that flags name. What the verbs do with a request lives above.
package options

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"
)

// Flags are what the translation reads of a command line; a *cli.Context has them.
type Flags interface {
	String(string) string
	StringSlice(string) []string
	Bool(string) bool
	Int(string) int
	Int64(string) int64
	Uint64(string) uint64
	Float64(string) float64
	Duration(string) time.Duration
	IsSet(string) bool
}

// ContainerFlags are those of the commands that make a container.
func ContainerFlags() []cli.Flag {
	return icli.Join(processFlags(), nameFlags(), namespaceFlags(), networkFlags(), mountFlags(), ResourceFlags(), limitFlags(),
		securityFlags(), healthFlags(), logFlags(), storageFlags(), platformFlags())
}

// ContainerRequest turns the flags of ContainerFlags, the image and the arguments behind it into a request. env has variables
// that flags may set otherwise.
func ContainerRequest(f Flags, image string, args, env []string) (*api.CreateContainerRequest, error) {
	if err := checkPlatform(f); err != nil {
		return nil, err
	}
	r := &spec.Request{Args: args}
	out := &api.CreateContainerRequest{Image: image, Stdin: f.Bool("interactive") || f.Bool("tty")}
	if f.Bool("rootfs") {
		root, err := filepath.Abs(image)
		if err != nil {
			return nil, err
		}
		out.Image, r.Rootfs = "", root
	}
	for _, part := range []func(Flags, *spec.Request, *api.CreateContainerRequest) error{
		process, naming, namespaces, networking, mounts, requestLimits, security, health, logging, storage,
	} {
		if err := part(f, r, out); err != nil {
			return nil, err
		}
	}
	for _, v := range env {
		key, _, _ := strings.Cut(v, "=")
		if !slices.ContainsFunc(r.Env, func(have string) bool { return strings.HasPrefix(have, key+"=") }) {
			r.Env = append(r.Env, v)
		}
	}
	if err := systemdMode(f, r); err != nil {
		return nil, err
	}
	data, err := json.Marshal(r)
	out.Request = data
	return out, err
}

// invalid is an error of the command line.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", fmt.Errorf(format, args...), errdefs.ErrInvalidArgument)
}

// processFlags say what runs, and how it ends.
func processFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "interactive", Aliases: []string{"i"}, Usage: "keep the standard input open, attached or not"},
		&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "give the process a terminal"},
		&cli.StringSliceFlag{Name: "env", Aliases: []string{"e"}, Usage: "set an environment variable `KEY=VALUE`; KEY alone takes it from here"},
		&cli.StringSliceFlag{Name: "env-file", Usage: "read environment variables from `FILE`", TakesFile: true},
		&cli.StringFlag{Name: "workdir", Aliases: []string{"w"}, Usage: "working `DIRECTORY`"},
		&cli.StringFlag{Name: "user", Aliases: []string{"u"}, Usage: "`USER[:GROUP]`, names or numbers"},
		&cli.StringSliceFlag{Name: "group-add", Usage: "supplementary `GROUP`, name or number"},
		&cli.StringFlag{Name: "umask", Usage: "file mode creation `MASK`, octal"},
		&cli.StringFlag{Name: "entrypoint", Usage: "replace the image's entrypoint by `COMMAND`; empty clears it"},
		&cli.BoolFlag{Name: "init", Usage: "run a small init that forwards signals and reaps processes"},
		&cli.StringFlag{Name: "init-binary", Usage: "`PROGRAM` of the daemon's machine to be that init, called as PROGRAM -- COMMAND"},
		&cli.StringFlag{Name: "systemd", Value: "false", Usage: "`WHEN` to prepare the container for systemd: always, true (when it is what runs) or false"},
		&cli.BoolFlag{Name: "rootfs", Usage: "the first argument is a directory of the daemon's machine, to be the root filesystem instead of an image's"},
		&cli.StringFlag{Name: "stop-signal", Usage: "`SIGNAL` that stops the container"},
		&cli.IntFlag{Name: "stop-timeout", Usage: "`SECONDS` to wait before it is killed; -1: no end"},
		&cli.StringFlag{Name: "restart", Value: "no", Usage: "`POLICY`: no, always, unless-stopped, on-failure[:RETRIES]"},
		&cli.StringFlag{Name: "runtime", Usage: "`NAME` of a runtime of the daemon's configuration"},
		&cli.StringFlag{Name: "platform", Usage: "`OS/ARCH[/VARIANT]` of the image to use"},
	}
}

func process(f Flags, r *spec.Request, out *api.CreateContainerRequest) error {
	env, err := icli.Environment(f.StringSlice("env-file"), f.StringSlice("env"))
	if err != nil {
		return err
	}
	r.Env, r.Cwd, r.User, r.Groups = env, f.String("workdir"), f.String("user"), f.StringSlice("group-add")
	r.Terminal, r.StopSignal = f.Bool("tty"), f.String("stop-signal")
	if f.IsSet("entrypoint") {
		entry := []string{}
		if e := f.String("entrypoint"); e != "" {
			entry = append(entry, e)
		}
		r.Entrypoint = &entry
	}
	if r.Umask, err = icli.ParseUmask(f.String("umask")); err != nil {
		return err
	}
	if r.StopSignal != "" {
		if _, err := spec.ParseSignal(r.StopSignal); err != nil {
			return err
		}
	}
	out.Init, out.InitBinary = f.Bool("init"), f.String("init-binary")
	if out.InitBinary != "" && !out.Init {
		return invalid("--init-binary %s: give --init too", out.InitBinary)
	}
	if out.Runtime = f.String("runtime"); out.Runtime == "runc" {
		out.Runtime = "" // docker's name for the one that is built in
	}
	out.Platform = f.String("platform")
	switch n := f.Int("stop-timeout"); {
	case n != 0:
		out.StopTimeout = int64(n) * int64(time.Second)
	case f.IsSet("stop-timeout"):
		out.StopTimeout = 1 // of the API 0 is the default; a nanosecond is docker's 0
	}
	out.Restart, err = RestartPolicy(f.String("restart"))
	return err
}

// RestartPolicy reads docker's NAME[:RETRIES].
func RestartPolicy(text string) (*api.RestartPolicy, error) {
	name, retries, counted := strings.Cut(text, ":")
	p := &api.RestartPolicy{Name: name}
	switch name {
	case "", "no":
		p.Name = "no"
	case "always", "unless-stopped", "on-failure":
	default:
		return nil, invalid("invalid restart policy %q: use no, always, unless-stopped or on-failure[:RETRIES]", text)
	}
	if !counted {
		return p, nil
	}
	if p.Name != "on-failure" {
		return nil, invalid("invalid restart policy %q: maximum retry count can only be used with 'on-failure'", text)
	}
	n, err := number(retries, 31)
	if err != nil {
		return nil, invalid("invalid restart policy %q: maximum retry count must be an integer", text)
	}
	p.MaxRetries = int32(n)
	return p, nil
}

// nameFlags say what the container is called.
func nameFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "name", Usage: "`NAME` of the container; one is made when missing"},
		&cli.StringFlag{Name: "hostname", Aliases: []string{"h"}, Usage: "host `NAME` in the container"},
		&cli.StringFlag{Name: "domainname", Usage: "NIS domain `NAME` in the container"},
		&cli.StringSliceFlag{Name: "label", Aliases: []string{"l"}, Usage: "set a label `KEY[=VALUE]`"},
		&cli.StringSliceFlag{Name: "label-file", Usage: "read labels from `FILE`, one a line", TakesFile: true},
		&cli.StringSliceFlag{Name: "annotation", Usage: "annotation of the runtime spec, `KEY=VALUE`"},
	}
}

func naming(f Flags, r *spec.Request, out *api.CreateContainerRequest) error {
	out.Name = f.String("name")
	out.GenerateName = out.Name == ""
	r.Hostname, r.Domainname = f.String("hostname"), f.String("domainname")
	var err error
	if out.Labels, err = labels(f.StringSlice("label-file"), f.StringSlice("label")); err != nil {
		return err
	}
	r.Annotations, err = icli.Pairs("--annotation", f.StringSlice("annotation"))
	return err
}

// labels joins the labels of files and of flags, which win. A label without a value has an empty one.
func labels(files, flags []string) (map[string]string, error) {
	out := map[string]string{}
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("--label-file: %w", err)
		}
		defer file.Close()
		lines := bufio.NewScanner(file)
		for lines.Scan() {
			if line := strings.TrimSpace(lines.Text()); line != "" && !strings.HasPrefix(line, "#") {
				key, value, _ := strings.Cut(line, "=")
				out[key] = value
			}
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("--label-file %s: %w", name, err)
		}
	}
	for _, l := range flags {
		key, value, _ := strings.Cut(l, "=")
		if key == "" {
			return nil, invalid("--label %q: write KEY=VALUE", l)
		}
		out[key] = value
	}
	return out, nil
}

// Labels reads labels as --label takes them.
func Labels(flags []string) (map[string]string, error) { return labels(nil, flags) }

// healthFlags say how the daemon sees whether it is well.
func healthFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "health-cmd", Usage: "`COMMAND` that tells by its exit code whether the container is well"},
		&cli.DurationFlag{Name: "health-interval", Usage: "`TIME` between two checks; 0: 30 seconds"},
		&cli.DurationFlag{Name: "health-timeout", Usage: "`TIME` that a check may take; 0: 30 seconds"},
		&cli.DurationFlag{Name: "health-start-period", Usage: "`TIME` in which failures do not count yet"},
		&cli.DurationFlag{Name: "health-start-interval", Usage: "`TIME` between two checks of the start period; 0: 5 seconds"},
		&cli.IntFlag{Name: "health-retries", Usage: "`NUMBER` of failures in a row that make it unhealthy; 0: 3"},
		&cli.BoolFlag{Name: "no-healthcheck", Usage: "no check, though the image has one"},
	}
}

func health(f Flags, _ *spec.Request, out *api.CreateContainerRequest) error {
	h := &api.HealthCheck{
		Interval: int64(f.Duration("health-interval")), Timeout: int64(f.Duration("health-timeout")),
		StartPeriod: int64(f.Duration("health-start-period")), StartInterval: int64(f.Duration("health-start-interval")),
		Retries: int32(f.Int("health-retries")),
	}
	set := h.Interval != 0 || h.Timeout != 0 || h.StartPeriod != 0 || h.StartInterval != 0 || h.Retries != 0
	if command := f.String("health-cmd"); command != "" {
		h.Test, set = []string{"CMD-SHELL", command}, true
	}
	if h.Interval < 0 || h.Timeout < 0 || h.StartPeriod < 0 || h.StartInterval < 0 || h.Retries < 0 {
		return invalid("--health-…: cannot be negative")
	}
	switch {
	case f.Bool("no-healthcheck") && set:
		return invalid("--no-healthcheck conflicts with --health-* options")
	case f.Bool("no-healthcheck"):
		out.Health = &api.HealthCheck{Test: []string{"NONE"}}
	case set:
		out.Health = h
	}
	return nil
}

func logFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "log-driver", Usage: "`DRIVER` of the log: json-file, local, journald, syslog, fluentd, none, binary://PROGRAM"},
		&cli.StringSliceFlag{Name: "log-opt", Usage: "`KEY=VALUE` for the driver"},
	}
}

// logging leaves it to the daemon to know the drivers and their options.
func logging(f Flags, _ *spec.Request, out *api.CreateContainerRequest) error {
	options, err := icli.Pairs("--log-opt", f.StringSlice("log-opt"))
	if err != nil {
		return err
	}
	if driver := f.String("log-driver"); driver != "" || len(options) > 0 {
		out.Log = &api.LogConfig{Driver: driver, Options: options}
	}
	return nil
}

package cri

import (
	"fmt"
	"strings"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/engine"
	"github.com/minirt/mini/runtime/supervisor/wire"
)

// cdiAnnotations begins the annotations by which CDI devices were asked for before they had a field.
const cdiAnnotations = "cdi.k8s.io/"

// containerOptions translates a container's configuration for a pod. What the pod decides (namespaces, its cgroup,
// host name and resolver) the engine adds; Front is the caller's business, who knows the image's id.
func containerOptions(pod engine.Pod, config *v1.ContainerConfig, h *spec.Host) (engine.CreateOptions, error) {
	var none engine.CreateOptions
	if config == nil {
		return none, invalid("the container configuration is missing")
	}
	m := config.GetMetadata()
	if m == nil {
		return none, invalid("container configuration: the metadata is missing: set a name")
	}
	if err := checkName("container name", m.GetName()); err != nil {
		return none, err
	}
	if err := checkImage(config.GetImage().GetImage()); err != nil {
		return none, fmt.Errorf("container %s: %w", m.GetName(), err)
	}
	if err := checkLabels(config.GetLabels(), config.GetAnnotations()); err != nil {
		return none, err
	}
	sandbox := podConfig(pod)
	request, err := containerRequest(sandbox, config, h)
	if err != nil {
		return none, err
	}
	log, err := containerLog(sandbox.GetLogDirectory(), config.GetLogPath())
	if err != nil {
		return none, err
	}
	return engine.CreateOptions{
		Image: config.GetImage().GetImage(), Pod: pod.ID, Key: containerKey(pod.ID, m), Runtime: pod.Runtime,
		Labels: config.GetLabels(), Request: request, Log: log, Stdin: config.GetStdin(), StdinOnce: config.GetStdinOnce(),
	}, nil
}

func containerLog(directory, relative string) (wire.Log, error) {
	path, err := logPath(directory, relative)
	if err != nil {
		return wire.Log{}, err
	}
	if path == "" {
		return wire.Log{Driver: "none"}, nil
	}
	return wire.Log{Driver: "cri", Path: path}, nil
}

// containerRequest is the container's part of the document.
func containerRequest(sandbox *v1.PodSandboxConfig, config *v1.ContainerConfig, h *spec.Host) (*spec.Request, error) {
	r := &spec.Request{
		Args: config.GetArgs(), Cwd: config.GetWorkingDir(), Terminal: config.GetTty(), Annotations: config.GetAnnotations(),
	}
	if len(config.GetCommand()) > 0 {
		command := config.GetCommand()
		r.Entrypoint = &command
	}
	if err := checkWords("command", config.GetCommand(), config.GetArgs()); err != nil {
		return nil, err
	}
	var err error
	if r.Env, err = environment(config.GetEnvs()); err != nil {
		return nil, err
	}
	if r.StopSignal, err = signalName(config.GetStopSignal()); err != nil {
		return nil, err
	}
	if r.Mounts, err = containerMounts(config.GetMounts()); err != nil {
		return nil, err
	}
	if err := containerDevices(r, config); err != nil {
		return nil, err
	}
	resources := config.GetLinux().GetResources()
	if r.Resources, err = linuxResources(resources, h); err != nil {
		return nil, err
	}
	if resources != nil {
		adj := int(resources.GetOomScoreAdj())
		if resources.GetOomScoreAdj() < -1000 || resources.GetOomScoreAdj() > 1000 {
			return nil, invalid("oom_score_adj %d: it goes from -1000 to 1000", resources.GetOomScoreAdj())
		}
		r.OOMScoreAdj = &adj
	}
	return r, containerSecurity(r, sandbox, config.GetLinux().GetSecurityContext(), h)
}

func environment(envs []*v1.KeyValue) ([]string, error) {
	env := make([]string, 0, len(envs))
	for _, e := range envs {
		if e.GetKey() == "" || strings.ContainsAny(e.GetKey(), "=\x00") {
			return nil, invalid("environment variable %.64q: a name is not empty and has no = and no NUL byte", e.GetKey())
		}
		env = append(env, e.GetKey()+"="+string(e.GetValue()))
	}
	return env, checkWords("environment", env)
}

// containerDevices adds devices of the host and those of CDI, by field and by annotation.
func containerDevices(r *spec.Request, config *v1.ContainerConfig) error {
	if err := checkCount("devices", len(config.GetDevices())+len(config.GetCDIDevices())); err != nil {
		return err
	}
	for _, d := range config.GetDevices() {
		source, err := hostPath("device", d.GetHostPath())
		if err != nil {
			return err
		}
		if strings.Trim(d.GetPermissions(), "rwm") != "" {
			return invalid("device %s: permissions %.16q: use letters of rwm", source, d.GetPermissions())
		}
		r.Devices = append(r.Devices, spec.Device{Source: source, Target: d.GetContainerPath(), Permissions: d.GetPermissions()})
	}
	seen := map[string]bool{}
	add := func(name string) error {
		if name = strings.TrimSpace(name); name == "" {
			return invalid("a CDI device has no name: give one like vendor.com/class=device")
		}
		if !seen[name] {
			seen[name] = true
			r.CDIDevices = append(r.CDIDevices, name)
		}
		return nil
	}
	for _, d := range config.GetCDIDevices() {
		if err := add(d.GetName()); err != nil {
			return err
		}
	}
	for _, key := range sortedKeys(config.GetAnnotations()) {
		if !strings.HasPrefix(key, cdiAnnotations) {
			continue
		}
		for name := range strings.SplitSeq(config.GetAnnotations()[key], ",") {
			if err := add(name); err != nil {
				return err
			}
		}
	}
	return nil
}

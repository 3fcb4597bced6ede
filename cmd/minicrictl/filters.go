package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// The labels by which the kubelet tells the runtime whose container it is.
const (
	labelPodName      = "io.kubernetes.pod.name"
	labelPodNamespace = "io.kubernetes.pod.namespace"
	// annotationPorts has a container's ports as JSON, from the kubelet.
	annotationPorts = "io.kubernetes.container.ports"
)

// selection is which containers or pods are wanted.
type selection struct {
	id, pod, image, state string
	name, namespace       *regexp.Regexp // nil: any
	labels                map[string]string
	all, latest           bool
	last                  int
}

// nameFlags choose by name and label, and are those of all commands that list containers or pods.
func nameFlags(what string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "name", Usage: "only " + what + " whose name matches the regular `EXPRESSION`"},
		&cli.StringFlag{Name: "namespace", Usage: "only those of pods whose namespace matches the regular `EXPRESSION`"},
		&cli.StringSliceFlag{Name: "label", Usage: "only those with the label `KEY=VALUE`"},
		&cli.BoolFlag{Name: "latest", Aliases: []string{"l"}, Usage: "only the one created last, in any state"},
		&cli.IntFlag{Name: "last", Aliases: []string{"n"}, Usage: "only the `N` created last, in any state; 0: all"},
	}
}

// containerFlags choose containers.
func containerFlags() []cli.Flag {
	return append(nameFlags("containers"),
		&cli.StringFlag{Name: "pod", Aliases: []string{"p"}, Usage: "only containers of the pod with this `ID`"},
		&cli.StringFlag{Name: "image", Usage: "only containers of this `IMAGE`"},
		&cli.StringFlag{Name: "state", Aliases: []string{"s"}, Usage: "only those in this `STATE`: created, running, exited or unknown"},
	)
}

// readSelection reads the flags that a command has; the others are as if not given.
func readSelection(c *cli.Context) (selection, error) {
	s := selection{
		id: c.String("id"), pod: c.String("pod"), image: c.String("image"), state: strings.ToLower(c.String("state")),
		all: c.Bool("all"), latest: c.Bool("latest"), last: c.Int("last"),
	}
	var err error
	if s.labels, err = parseLabels(c.StringSlice("label")); err != nil {
		return s, err
	}
	for flag, to := range map[string]**regexp.Regexp{"name": &s.name, "namespace": &s.namespace} {
		if text := c.String(flag); text != "" {
			if *to, err = regexp.Compile(text); err != nil {
				return s, fmt.Errorf("--%s %q: %w: %w", flag, text, err, errdefs.ErrInvalidArgument)
			}
		}
	}
	return s, nil
}

// parseLabels reads KEY=VALUE; a value may have further equals signs.
func parseLabels(args []string) (map[string]string, error) {
	var labels map[string]string
	for _, a := range args {
		k, v, ok := strings.Cut(a, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("label %q: write it as KEY=VALUE: %w", a, errdefs.ErrInvalidArgument)
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[k] = v
	}
	return labels, nil
}

// containerFilter is what the runtime can choose by itself. Without a state, running containers are meant, unless those
// created last are asked for.
func (s selection) containerFilter() (*cri.ContainerFilter, error) {
	f := &cri.ContainerFilter{Id: s.id, PodSandboxId: s.pod, LabelSelector: s.labels}
	state := cri.ContainerState_CONTAINER_RUNNING
	if s.state != "" {
		n, ok := cri.ContainerState_value["CONTAINER_"+strings.ToUpper(s.state)]
		if !ok {
			return nil, fmt.Errorf("--state %q: use created, running, exited or unknown: %w", s.state, errdefs.ErrInvalidArgument)
		}
		state = cri.ContainerState(n)
	}
	if any := s.latest || s.last > 0 || s.all && s.state == ""; !any {
		f.State = &cri.ContainerStateValue{State: state}
	}
	return f, nil
}

func (s selection) podFilter() (*cri.PodSandboxFilter, error) {
	f := &cri.PodSandboxFilter{Id: s.id, LabelSelector: s.labels}
	switch s.state {
	case "":
	case "ready":
		f.State = &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY}
	case "notready":
		f.State = &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_NOTREADY}
	default:
		return nil, fmt.Errorf("--state %q: use ready or notready: %w", s.state, errdefs.ErrInvalidArgument)
	}
	return f, nil
}

func matches(e *regexp.Regexp, text string) bool { return e == nil || e.MatchString(text) }

// chooseContainers keeps what the runtime could not choose, the youngest first.
func (s selection) chooseContainers(all []*cri.Container) []*cri.Container {
	kept := []*cri.Container{}
	for _, c := range all {
		if matches(s.name, c.GetMetadata().GetName()) && matches(s.namespace, labelOr(c.Labels, labelPodNamespace)) {
			kept = append(kept, c)
		}
	}
	slices.SortStableFunc(kept, func(a, b *cri.Container) int { return int(sign(b.CreatedAt - a.CreatedAt)) })
	return kept[:s.count(len(kept))]
}

func (s selection) choosePods(all []*cri.PodSandbox) []*cri.PodSandbox {
	kept := []*cri.PodSandbox{}
	for _, p := range all {
		if matches(s.name, p.GetMetadata().GetName()) && matches(s.namespace, p.GetMetadata().GetNamespace()) {
			kept = append(kept, p)
		}
	}
	slices.SortStableFunc(kept, func(a, b *cri.PodSandbox) int { return int(sign(b.CreatedAt - a.CreatedAt)) })
	return kept[:s.count(len(kept))]
}

func sign(n int64) int64 { return max(-1, min(1, n)) }

// count is how many of n are wanted.
func (s selection) count(n int) int {
	switch {
	case s.last > 0:
		return min(s.last, n)
	case s.latest:
		return min(1, n)
	}
	return n
}

// labelOr is a label of the kubelet's, unknown for containers that others made.
func labelOr(labels map[string]string, key string) string {
	if v, ok := labels[key]; ok {
		return v
	}
	return "unknown"
}

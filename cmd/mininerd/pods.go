package main

import (
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/urfave/cli/v2"

	"github.com/minirt/mini/runtime/api"
)

// podsNamespace is where the containers of pods are. Only there it is worth asking what a container is in its pod.
const podsNamespace = "k8s.io"

// member says what a container is in its pod; nil for one without.
func (d *daemon) member(c *cli.Context, name string) (*api.PodMember, error) {
	if d.ns != podsNamespace {
		return nil, nil
	}
	got, err := d.Containers.Get(c.Context, d.request(name))
	if errdefs.IsNotFound(err) {
		return nil, nil // who acts on it says so
	}
	return got.GetMember(), err
}

// warnOfPod says what follows from acting on a container of a pod.
func (d *daemon) warnOfPod(c *cli.Context, name, what string) error {
	m, err := d.member(c, name)
	if m != nil {
		warn(c, []string{fmt.Sprintf("container %s belongs to pod %s/%s: %s", name, m.PodNamespace, m.Pod, what)})
	}
	return err
}

// spareMember refuses to remove a container of a pod, unless that is forced.
func (d *daemon) spareMember(c *cli.Context, name string) error {
	if c.Bool("force") {
		return d.warnOfPod(c, name, "its kubelet may make another in its place")
	}
	m, err := d.member(c, name)
	if m == nil || err != nil {
		return err
	}
	return fmt.Errorf("container %s belongs to pod %s/%s, which its kubelet looks after: delete the pod there, or use --force: %w", name, m.PodNamespace, m.Pod, errdefs.ErrFailedPrecondition)
}

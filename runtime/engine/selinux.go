package engine

import (
	"fmt"
	"os"
	"slices"

	"github.com/minirt/mini/internal/mount"
	"github.com/minirt/mini/internal/selinux"
	"github.com/minirt/mini/oci/spec"
)

// SELinux chooses labels and gives them to files; *selinux.Host does.
type SELinux interface {
	Choose(options []string) (process, files string, err error)
	Reserve(label string)
	Release(label string)
	Label(path, to string) error
	Relabel(path, to string, shared bool) error
	Once(path, to string) error
	Fit(path, to string) error
}

// labelOff leaves processes with the label of the daemon.
const labelOff = "disable"

// chooseLabels gives a container its labels, for good: they are in its record. One that can see the host's processes, or
// do what it likes, has none, unless it asks for one; those of a pod share the level. A whole document says its own.
func (e *Engine) chooseLabels(c *Container) error {
	if e.SELinux == nil || c.Request == nil {
		return nil
	}
	r := *c.Request
	if r.SELinuxLabel != "" {
		e.SELinux.Reserve(r.SELinuxLabel)
		return nil
	}
	options := slices.Clone(r.SELinuxOptions)
	if len(options) == 0 && (r.Privileged || r.Namespaces["pid"] == "host" || r.Namespaces["ipc"] == "host") {
		options = []string{labelOff}
	}
	if c.Pod != "" {
		p, err := e.podOfContainer(*c)
		if err != nil {
			return err
		}
		options = inPodLabel(options, p.record())
	}
	var err error
	if r.SELinuxLabel, r.SELinuxMountLabel, err = e.SELinux.Choose(options); err != nil {
		return fmt.Errorf("container %s: %w", c.ID, err)
	}
	c.Request = &r
	return nil
}

// inPodLabel adds to the parts of a label what the pod says.
func inPodLabel(options []string, pod Pod) []string {
	if len(options) == 0 && slices.Contains(pod.SELinuxOptions, labelOff) {
		return []string{labelOff}
	}
	level := selinux.Level(pod.SELinux)
	said := func(o string) bool { return o == labelOff || len(o) > 6 && o[:6] == "level:" }
	if level == "" || slices.ContainsFunc(options, said) {
		return options
	}
	return append(options, "level:"+level)
}

// choosePodLabels is chooseLabels for a pod.
func (e *Engine) choosePodLabels(rec *Pod) (err error) {
	if e.SELinux == nil {
		return nil
	}
	if rec.SELinux, rec.SELinuxFiles, err = e.SELinux.Choose(rec.SELinuxOptions); err != nil {
		return fmt.Errorf("run pod %s/%s: %w", rec.PodNamespace, rec.Name, err)
	}
	return nil
}

// releaseLabels gives back the categories of a container that has its own.
func (e *Engine) releaseLabels(c Container) {
	if c.Pod == "" {
		e.releaseLabel(filesLabel(c))
	}
}

// reserveLabel keeps the categories of a label that is in a record; releaseLabel gives them back.
func (e *Engine) reserveLabel(label string) {
	if e.SELinux != nil {
		e.SELinux.Reserve(label)
	}
}

func (e *Engine) releaseLabel(label string) {
	if e.SELinux != nil {
		e.SELinux.Release(label)
	}
}

// labelled makes a directory in which files are made that the container uses: they get its type.
func (e *Engine) labelled(dir, label string, mode os.FileMode) error {
	if e.SELinux == nil || label == "" {
		return nil
	}
	if err := os.MkdirAll(dir, mode); err != nil {
		return err
	}
	return e.SELinux.Label(dir, label)
}

// filesLabel is the label of what a container uses; empty without one.
func filesLabel(c Container) string {
	if c.Request == nil {
		return ""
	}
	return c.Request.SELinuxMountLabel
}

// inContext makes mounts show all files with a label. Directories that are bound have labels of their own, which change.
func (e *Engine) inContext(mounts []mount.Mount, label string) ([]mount.Mount, error) {
	if e.SELinux == nil || label == "" {
		return mounts, nil
	}
	out := slices.Clone(mounts)
	for i, m := range out {
		bound := m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
		if !bound {
			out[i].Options = append(slices.Clone(m.Options), "context="+label)
			continue
		}
		if err := e.SELinux.Relabel(m.Source, label, false); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// relabel gives what a container mounts its label, where that is asked; the daemon's own volumes can be used by all.
func (e *Engine) relabel(c Container) error {
	label := filesLabel(c)
	if e.SELinux == nil || label == "" {
		return nil
	}
	for _, m := range c.Request.Mounts {
		source := m.Source
		if m.Type == MountVolume {
			source = e.VolumePath(c.Namespace, source)
		}
		var err error
		switch {
		case m.Relabel == spec.RelabelOnce:
			err = e.SELinux.Once(source, label)
		case m.Relabel != "":
			err = e.SELinux.Relabel(source, label, m.Relabel == spec.RelabelShared)
		case m.Type == MountVolume:
			err = e.SELinux.Fit(source, label)
		}
		if err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
	}
	return nil
}

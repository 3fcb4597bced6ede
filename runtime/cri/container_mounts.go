package cri

import (
	"path"
	"slices"
	"strings"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/oci/spec"
)

// containerMounts translates the volumes of a container.
func containerMounts(mounts []*v1.Mount) ([]spec.Mount, error) {
	if err := checkCount("mounts", len(mounts)); err != nil {
		return nil, err
	}
	var out []spec.Mount
	for _, m := range mounts {
		made, err := containerMount(m)
		if err != nil {
			return nil, err
		}
		out = append(out, made)
	}
	return out, nil
}

func containerMount(m *v1.Mount) (spec.Mount, error) {
	target := m.GetContainerPath()
	if target == "" || strings.ContainsRune(target, 0) || len(target) > 4096 {
		return spec.Mount{}, invalid("mount of %.128q: container path %.128q: give an absolute path", m.GetHostPath(), target)
	}
	// Clients write relative targets too, and mean them from the container's root.
	made := spec.Mount{Target: path.Join("/", target)}
	if err := mountSource(&made, m); err != nil {
		return spec.Mount{}, err
	}
	access, err := mountAccess(made.Target, m)
	if err != nil {
		return spec.Mount{}, err
	}
	made.Options = append(made.Options, access...)
	if m.GetSelinuxRelabel() && m.GetImage() == nil {
		made.Relabel = spec.RelabelPrivate
	}
	extra, err := mountOptions(made.Target, m.GetMountOptions())
	if err != nil {
		return spec.Mount{}, err
	}
	made.Options = append(made.Options, extra...)
	if len(m.GetUidMappings()) != len(m.GetGidMappings()) && (len(m.GetUidMappings()) == 0 || len(m.GetGidMappings()) == 0) {
		return spec.Mount{}, invalid("mount %s: an idmapped mount needs uid and gid mappings", made.Target)
	}
	made.UIDMap, made.GIDMap = idMappings(m.GetUidMappings()), idMappings(m.GetGidMappings())
	return made, nil
}

// mountSource sets what is mounted: a path of the host, or an image.
func mountSource(made *spec.Mount, m *v1.Mount) error {
	image := m.GetImage().GetImage()
	switch {
	case image != "" && m.GetHostPath() != "":
		return invalid("mount %s: it has a host path and an image: give one of them", made.Target)
	case image != "":
		sub := m.GetImageSubPath()
		if strings.ContainsRune(sub, 0) || len(sub) > 4096 || path.IsAbs(sub) || slices.Contains(strings.Split(sub, "/"), "..") {
			return invalid("mount %s: image sub path %.128q: give a path below the image's root", made.Target, sub)
		}
		made.Type, made.Source, made.SubPath, made.Options = "image", image, sub, []string{"rbind", "ro"}
		return nil
	case m.GetImage() != nil:
		return invalid("mount %s: its image has no name", made.Target)
	case m.GetImageSubPath() != "":
		return invalid("mount %s: an image sub path needs an image", made.Target)
	}
	source, err := hostPath("mount "+made.Target+": host path", m.GetHostPath())
	if err != nil {
		return err
	}
	// The kubelet counts on a missing directory being made, as Docker did.
	made.Type, made.Source, made.CreateSource, made.Options = "bind", source, true, []string{"rbind"}
	return nil
}

// mountAccess gives the propagation and whether the mount can be written to.
func mountAccess(target string, m *v1.Mount) ([]string, error) {
	var options []string
	switch m.GetPropagation() {
	case v1.MountPropagation_PROPAGATION_PRIVATE:
		options = append(options, "rprivate")
	case v1.MountPropagation_PROPAGATION_HOST_TO_CONTAINER:
		options = append(options, "rslave")
	case v1.MountPropagation_PROPAGATION_BIDIRECTIONAL:
		options = append(options, "rshared")
	default:
		return nil, invalid("mount %s: propagation %s: use PRIVATE, HOST_TO_CONTAINER or BIDIRECTIONAL", target, m.GetPropagation())
	}
	switch {
	case m.GetRecursiveReadOnly() && !m.GetReadonly():
		return nil, invalid("mount %s: recursive read-only needs readonly too", target)
	case m.GetRecursiveReadOnly() && m.GetPropagation() != v1.MountPropagation_PROPAGATION_PRIVATE:
		return nil, invalid("mount %s: recursive read-only needs the propagation PRIVATE, not %s", target, m.GetPropagation())
	case m.GetRecursiveReadOnly():
		options = append(options, "rro")
	case m.GetImage() != nil: // read-only already
	case m.GetReadonly():
		options = append(options, "ro")
	default:
		options = append(options, "rw")
	}
	return options, nil
}

// mountOptions lets through what the CRI names: options that only take away.
func mountOptions(target string, options []string) ([]string, error) {
	var out []string
	for _, o := range options {
		switch o {
		case "noexec", "nodev", "nosuid":
			if !slices.Contains(out, o) {
				out = append(out, o)
			}
		default:
			return nil, invalid("mount %s: option %.64q: there are noexec, nodev and nosuid", target, o)
		}
	}
	return out, nil
}

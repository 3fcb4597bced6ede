package engine

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/id"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/image"
)

// What becomes of the volumes that an image declares.
const (
	ImageVolumesIgnore = ""      // nothing
	ImageVolumesCopy   = "copy"  // an anonymous volume each, with the image's files
	ImageVolumesBind   = "bind"  // an anonymous volume each, empty
	ImageVolumesMkdir  = "mkdir" // a directory of the root filesystem each
)

// planVolumes completes the mounts that a client asks for by those of other containers and of the image, and gives the
// volumes that have none a name. From here on the request says all that the container has.
func (e *Engine) planVolumes(ns string, o *CreateOptions, r image.Resolved) error {
	if o.Request == nil {
		return nil
	}
	for _, m := range o.Request.Mounts {
		if m.Type != MountVolume {
			continue
		}
		if err := checkVolume(NewVolume{Name: m.Source, Volume: volumeOf(m)}); err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
	}
	from, err := e.mountsFrom(ns, o.VolumesFrom)
	if err != nil {
		return err
	}
	var declared []string
	switch o.ImageVolumes {
	case ImageVolumesIgnore, ImageVolumesMkdir:
	case ImageVolumesCopy, ImageVolumesBind:
		declared = slices.Sorted(maps.Keys(r.Config.Config.Volumes))
	default:
		return fmt.Errorf("image volumes %q: use copy, bind or mkdir: %w", o.ImageVolumes, errdefs.ErrInvalidArgument)
	}
	request := *o.Request
	request.Mounts = planMounts(mountSources{
		asked: request.Mounts, tmpfs: request.Tmpfs, from: from, declared: declared, empty: o.ImageVolumes == ImageVolumesBind,
	}, id.New)
	o.Request = &request
	return nil
}

// mountSources are those that a container's mounts come from.
type mountSources struct {
	asked    []spec.Mount
	tmpfs    map[string]string
	from     []spec.Mount // of other containers
	declared []string     // by the image: targets of volumes
	empty    bool         // the declared ones do not get the image's files
}

// planMounts decides who has a target that several want, as Docker does: what is asked for goes before what comes from
// other containers, that before anonymous volumes, and the image's come last.
func planMounts(s mountSources, newName func() string) []spec.Mount {
	taken := map[string]bool{}
	for target := range s.tmpfs {
		taken[path.Clean(target)] = true
	}
	for _, m := range s.asked {
		if m.Type != MountVolume || m.Source != "" {
			taken[path.Clean(m.Target)] = true
		}
	}
	var out []spec.Mount
	for _, m := range s.from {
		if target := path.Clean(m.Target); !taken[target] {
			taken[target] = true
			out = append(out, m)
		}
	}
	named := func(m spec.Mount) {
		taken[path.Clean(m.Target)] = true
		v := volumeOf(m)
		v.Anonymous = true
		m.Source, m.Volume = newName(), &v
		out = append(out, m)
	}
	for _, m := range s.asked {
		switch {
		case m.Type != MountVolume || m.Source != "":
			out = append(out, m)
		case !taken[path.Clean(m.Target)]:
			named(m)
		}
	}
	for _, target := range s.declared {
		if target = path.Join("/", target); target != "/" && !taken[target] {
			named(spec.Mount{Type: MountVolume, Target: target, Options: []string{"rbind", "rw"}, Volume: &spec.Volume{NoCopy: s.empty}})
		}
	}
	return out
}

// mountsFrom are the mounts of other containers, which are named as Docker's --volumes-from: CONTAINER[:ro|rw].
func (e *Engine) mountsFrom(ns string, others []string) ([]spec.Mount, error) {
	var all []spec.Mount
	for _, text := range others {
		name, mode, _ := strings.Cut(text, ":")
		readOnly := false
		for o := range strings.SplitSeq(mode, ",") {
			switch o {
			case "ro":
				readOnly = true
			case "", "rw", "z", "Z": // labels are SELinux's
			default:
				return nil, fmt.Errorf("volumes from %s: invalid mode: %s: use ro or rw: %w", name, o, errdefs.ErrInvalidArgument)
			}
		}
		l, err := e.find(ns, name)
		if err != nil {
			return nil, fmt.Errorf("volumes from %s: %w", name, err)
		}
		c := l.record()
		if c.Request == nil {
			continue
		}
		for _, m := range c.Request.Mounts {
			all = append(all, mountAgain(m, readOnly))
		}
	}
	return all, nil
}

// mountAgain is a mount of one container for another, which finds the volume as it is.
func mountAgain(m spec.Mount, readOnly bool) spec.Mount {
	v := volumeOf(m)
	m.Inherited = true
	if m.Type == MountVolume {
		m.Volume = &spec.Volume{NoCopy: true, Anonymous: v.Anonymous}
	}
	if readOnly && !slices.ContainsFunc(m.Options, func(o string) bool { return o == "ro" || o == "rro" }) {
		m.Options = append(slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "rw" }), "ro")
	}
	return m
}

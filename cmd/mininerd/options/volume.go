package options

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/minirt/mini/oci/spec"
)

// Volume reads -v [SOURCE:]TARGET[:OPTIONS]. A source that is a path, absolute or beginning with a dot, is of the host and
// made when it is missing; any other is the name of a volume. Without a source it is a new volume.
func Volume(text string) (spec.Mount, error) {
	parts := strings.Split(text, ":")
	source, target, mode := "", parts[0], ""
	switch len(parts) {
	case 1:
	case 2:
		source, target = parts[0], parts[1]
	case 3:
		source, target, mode = parts[0], parts[1], parts[2]
	}
	wrong := len(parts) > 3 || len(parts) > 1 && source == "" || target == ""
	if len(parts) == 2 && !wrong {
		_, wrong = volumeMode(target, false) // /TARGET:ro
	}
	if wrong {
		return spec.Mount{}, invalid("invalid volume specification: '%s': write [SOURCE:]TARGET[:OPTIONS]", text)
	}
	if !path.IsAbs(target) || path.Clean(target) == "/" {
		return spec.Mount{}, invalid("invalid volume specification: '%s': the target must be an absolute path other than /", text)
	}
	if isRelative(source) {
		dir, err := os.Getwd()
		if err != nil {
			return spec.Mount{}, err
		}
		source = filepath.Join(dir, source)
	}
	bind := path.IsAbs(source)
	m, ok := volumeMode(mode, bind)
	if !ok {
		return spec.Mount{}, invalid("invalid mode: %s: in --volume %s", mode, text)
	}
	m.Target = target
	if bind {
		m.Type, m.Source, m.CreateSource, m.Volume = "bind", filepath.Clean(source), true, nil
	} else {
		m.Type, m.Source = "volume", source
	}
	return m, nil
}

// isRelative says whether a source is a path that begins where the user is.
func isRelative(source string) bool {
	return source == "." || source == ".." || strings.HasPrefix(source, "./") || strings.HasPrefix(source, "../")
}

// volumeMode reads the options of -v. Of each kind there may be one. Those of Docker Desktop are known and mean nothing
// here.
func volumeMode(text string, bind bool) (m spec.Mount, ok bool) {
	m.Volume = &spec.Volume{}
	recursive := "rbind"
	seen := map[string]bool{}
	for o := range strings.SplitSeq(text, ",") {
		kind := ""
		switch o {
		case "":
			continue
		case "ro", "rw", "rro":
			kind = "access"
			if o != "rw" {
				m.Options = append(m.Options, o)
			}
		case "shared", "slave", "private", "rshared", "rslave", "rprivate":
			kind = "propagation"
			m.Options = append(m.Options, o)
		case "bind", "rbind":
			kind, recursive = "recursion", o
		case "z", "Z":
			kind, m.Relabel = "label", map[string]string{"z": spec.RelabelShared, "Z": spec.RelabelPrivate}[o]
		case "nocopy":
			kind, m.Volume.NoCopy = "copy", true
		case "cached", "delegated", "consistent", "default":
			kind = "consistency"
		}
		foreign := bind && kind == "copy" || !bind && (kind == "propagation" || kind == "recursion")
		if kind == "" || seen[kind] || foreign {
			return m, false
		}
		seen[kind] = true
	}
	m.Options = slices.Insert(m.Options, 0, recursive)
	return m, true
}

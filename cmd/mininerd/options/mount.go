package options

import (
	"encoding/csv"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/minirt/mini/oci/spec"
)

// mountText is --mount as far as it is read.
type mountText struct {
	spec.Mount
	volume    spec.Volume
	recursive string          // rbind or bind
	sealed    string          // the value of bind-recursive that wants more to be said
	kinds     map[string]bool // of mounts that the keys are for
}

// Mount reads --mount. Unlike with -v, a bind's source must be there.
func Mount(text string) (spec.Mount, error) {
	fields, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return spec.Mount{}, invalid("--mount %s: %w", text, err)
	}
	m := mountText{Mount: spec.Mount{Type: "volume"}, recursive: "rbind", kinds: map[string]bool{}}
	for _, field := range fields {
		key, value, valued := strings.Cut(field, "=")
		if err := m.field(strings.ToLower(key), value, valued); err != nil {
			return spec.Mount{}, invalid("--mount %s: %w", text, err)
		}
	}
	if err := m.complete(); err != nil {
		return spec.Mount{}, invalid("--mount %s: %w", text, err)
	}
	return m.Mount, nil
}

// field reads one KEY[=VALUE].
func (m *mountText) field(key, value string, valued bool) error {
	if kind, _, ok := strings.Cut(key, "-"); ok {
		m.kinds[kind] = true
	}
	switch key { // those that may stand alone
	case "readonly", "ro":
		on, err := truth(key, value, valued)
		if on {
			m.Options = append(m.Options, "ro")
		}
		return err
	case "volume-nocopy":
		on, err := truth(key, value, valued)
		m.volume.NoCopy = on
		return err
	case "bind-nonrecursive":
		on, err := truth(key, value, valued)
		if on {
			m.recursive = "bind"
		}
		return err
	case "bind-create-src":
		on, err := truth(key, value, valued)
		m.CreateSource = on
		return err
	}
	if !valued {
		return invalid("invalid field '%s' must be a key=value pair", key)
	}
	switch key {
	case "type":
		m.Type = strings.ToLower(value)
	case "source", "src":
		m.Source = value
	case "target", "dst", "destination":
		m.Target = value
	case "consistency":
	case "image-subpath", "volume-subpath":
		m.SubPath = value
	case "bind-propagation", "bind-recursive":
		return m.bindField(key, value)
	case "volume-driver":
		m.volume.Driver = value
	case "volume-label", "volume-opt":
		name, word, _ := strings.Cut(value, "=")
		if name == "" {
			return invalid("invalid value for %s: %s: write KEY=VALUE", key, value)
		}
		into := &m.volume.Labels
		if key == "volume-opt" {
			into = &m.volume.Options
		}
		if *into == nil {
			*into = map[string]string{}
		}
		(*into)[name] = word
	case "tmpfs-size":
		n, err := units.RAMInBytes(value)
		if err != nil {
			return invalid("invalid value for tmpfs-size: %s", value)
		}
		m.Options = append(m.Options, "size="+strconv.FormatInt(n, 10))
	case "tmpfs-mode":
		if _, err := strconv.ParseUint(value, 8, 32); err != nil {
			return invalid("invalid value for tmpfs-mode: %s: write it in octal", value)
		}
		m.Options = append(m.Options, "mode="+value)
	default:
		return invalid("unexpected key '%s' in '%s'", key, key+"="+value)
	}
	return nil
}

func truth(key, value string, valued bool) (bool, error) {
	if !valued {
		return true, nil
	}
	on, err := strconv.ParseBool(value)
	if err != nil {
		return false, invalid("invalid value for %s: %s", key, value)
	}
	return on, nil
}

func (m *mountText) bindField(key, value string) error {
	if key == "bind-propagation" {
		value = strings.ToLower(value)
		if !slices.Contains([]string{"private", "rprivate", "shared", "rshared", "slave", "rslave"}, value) {
			return invalid("invalid propagation mode: %s: use [r]private, [r]shared or [r]slave", value)
		}
		m.Options = append(m.Options, value)
		return nil
	}
	switch value {
	case "enabled", "true", "1":
	case "disabled", "false", "0":
		m.recursive = "bind"
	case "writable":
		m.sealed = value
	case "readonly":
		m.sealed = value
		m.Options = append(m.Options, "rro")
	default:
		return invalid("invalid value for bind-recursive: %q: use enabled, disabled, writable or readonly", value)
	}
	return nil
}

// complete checks what has been read, and fills in what follows from it.
func (m *mountText) complete() error {
	if !slices.Contains([]string{"bind", "volume", "tmpfs", "image"}, m.Type) {
		return invalid("mount type unknown: %q: use bind, volume, tmpfs or image", m.Type)
	}
	for _, kind := range slices.Sorted(maps.Keys(m.kinds)) {
		if kind != m.Type {
			return invalid("cannot mix '%s-*' options with mount type '%s'", kind, m.Type)
		}
	}
	if !path.IsAbs(m.Target) || path.Clean(m.Target) == "/" {
		return invalid("target is required, as an absolute path other than /")
	}
	switch m.Type {
	case "tmpfs":
		if m.Source != "" {
			return invalid("must not set source for type=tmpfs")
		}
	case "image":
		if m.Source == "" {
			return invalid("source is required")
		}
	case "volume":
		m.Options = slices.Insert(m.Options, 0, "rbind")
		m.Volume = &m.volume
	case "bind":
		return m.completeBind()
	}
	return nil
}

func (m *mountText) completeBind() (err error) {
	if m.Source == "" {
		return invalid("source is required")
	}
	if isRelative(m.Source) {
		if m.Source, err = filepath.Abs(m.Source); err != nil {
			return err
		}
	}
	if !path.IsAbs(m.Source) {
		return invalid("invalid mount path: '%s' mount path must be absolute, or begin with ./", m.Source)
	}
	if m.sealed != "" && !slices.Contains(m.Options, "ro") {
		return invalid("option 'bind-recursive=%s' requires 'readonly' to be specified in conjunction", m.sealed)
	}
	if m.sealed == "readonly" && !slices.Contains(m.Options, "rprivate") {
		return invalid("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction")
	}
	m.Options = slices.Insert(m.Options, 0, m.recursive)
	return nil
}

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	yaml "go.yaml.in/yaml/v3"

	"github.com/minirt/mini/internal/atomicfile"
)

// The keys of crictl.yaml.
const (
	keyRuntimeEndpoint = "runtime-endpoint"
	keyImageEndpoint   = "image-endpoint"
	keyTimeout         = "timeout"
	keyDebug           = "debug"
	keyPullOnCreate    = "pull-image-on-create"
	keyNoPullOnRun     = "disable-pull-on-run"
)

func configKeys() []string {
	return []string{keyRuntimeEndpoint, keyImageEndpoint, keyTimeout, keyDebug, keyPullOnCreate, keyNoPullOnRun}
}

// fileValues are what crictl.yaml says.
type fileValues struct {
	RuntimeEndpoint, ImageEndpoint             string
	Timeout                                    time.Duration
	Debug, PullImageOnCreate, DisablePullOnRun bool
}

// set takes one key's value as it is written in the file.
func (v *fileValues) set(key, value string) (err error) {
	switch key {
	case keyRuntimeEndpoint:
		v.RuntimeEndpoint = value
	case keyImageEndpoint:
		v.ImageEndpoint = value
	case keyTimeout:
		v.Timeout, err = parseSeconds(value)
	case keyDebug:
		v.Debug, err = parseBool(key, value)
	case keyPullOnCreate:
		v.PullImageOnCreate, err = parseBool(key, value)
	case keyNoPullOnRun:
		v.DisablePullOnRun, err = parseBool(key, value)
	default:
		return fmt.Errorf("there is no option %q: use one of %v: %w", key, configKeys(), errdefs.ErrInvalidArgument)
	}
	return err
}

// get is a value as config --get and --list print it.
func (v fileValues) get(key string) (string, error) {
	switch key {
	case keyRuntimeEndpoint:
		return v.RuntimeEndpoint, nil
	case keyImageEndpoint:
		return v.ImageEndpoint, nil
	case keyTimeout:
		return strconv.FormatInt(int64(v.Timeout/time.Second), 10), nil
	case keyDebug:
		return strconv.FormatBool(v.Debug), nil
	case keyPullOnCreate:
		return strconv.FormatBool(v.PullImageOnCreate), nil
	case keyNoPullOnRun:
		return strconv.FormatBool(v.DisablePullOnRun), nil
	}
	return "", fmt.Errorf("there is no option %q: use one of %v: %w", key, configKeys(), errdefs.ErrInvalidArgument)
}

// parseSeconds reads a number of seconds, or a duration with its unit.
func parseSeconds(value string) (time.Duration, error) {
	if n, err := strconv.Atoi(value); err == nil {
		return time.Duration(n) * time.Second, nil
	}
	d, err := time.ParseDuration(value)
	if err != nil || d%time.Second != 0 {
		return 0, fmt.Errorf("timeout %q: write whole seconds, as 2: %w", value, errdefs.ErrInvalidArgument)
	}
	return d, nil
}

func parseBool(key, value string) (bool, error) {
	b, err := strconv.ParseBool(value)
	if err != nil {
		return false, fmt.Errorf("%s %q: write true or false: %w", key, value, errdefs.ErrInvalidArgument)
	}
	return b, nil
}

// document is crictl.yaml with its comments, which survive a change.
type document struct{ root yaml.Node }

// readDocument reads a file; one that does not exist is an empty one.
func readDocument(name string) (*document, error) {
	data, err := os.ReadFile(name)
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	d, err := parseDocument(data)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", name, err)
	}
	return d, nil
}

func parseDocument(data []byte) (*document, error) {
	d := &document{}
	if err := yaml.Unmarshal(data, &d.root); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if m := d.mapping(); m != nil && m.Kind != yaml.MappingNode && len(m.Value) > 0 {
		return nil, fmt.Errorf("not a list of KEY: VALUE: %w", errdefs.ErrInvalidArgument)
	}
	return d, nil
}

func (d *document) mapping() *yaml.Node {
	if len(d.root.Content) == 0 {
		return nil
	}
	return d.root.Content[0]
}

// values reads the options; of one that is there twice, the last counts.
func (d *document) values() (fileValues, error) {
	var v fileValues
	m := d.mapping()
	if m == nil {
		return v, nil
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if err := v.set(m.Content[i].Value, m.Content[i+1].Value); err != nil {
			return v, fmt.Errorf("line %d: %w", m.Content[i].Line, err)
		}
	}
	return v, nil
}

// set changes an option wherever it stands, or adds it.
func (d *document) set(key, value string) {
	if d.mapping() == nil || d.mapping().Kind != yaml.MappingNode {
		d.root.Kind = yaml.DocumentNode
		d.root.Content = []*yaml.Node{{Kind: yaml.MappingNode, Tag: "!!map"}}
	}
	m, found := d.mapping(), false
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			m.Content[i+1].Value, found = value, true
		}
	}
	if !found {
		m.Content = append(m.Content, scalar("!!str", key), scalar(tagOf(key), value))
	}
}

func scalar(tag, value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
}

func tagOf(key string) string {
	switch key {
	case keyTimeout:
		return "!!int"
	case keyDebug, keyPullOnCreate, keyNoPullOnRun:
		return "!!bool"
	}
	return "!!str"
}

// write stores the file, with every option in it.
func (d *document) write(name string) error {
	v, err := d.values()
	if err != nil {
		return fmt.Errorf("configuration %s: %w", name, err)
	}
	for _, key := range configKeys() {
		text, err := v.get(key)
		if err != nil {
			return err
		}
		d.set(key, text)
	}
	data, err := yaml.Marshal(&d.root)
	if err != nil {
		return fmt.Errorf("configuration %s: %w", name, err)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return atomicfile.Write(name, data, 0o644)
}

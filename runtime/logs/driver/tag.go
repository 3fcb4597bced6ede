package driver

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/internal/id"
)

// defaultTag is what a container's lines are marked with.
const defaultTag = "{{.ID}}"

// tagged is what a tag's template sees: Docker's names.
type tagged struct {
	ContainerID, ContainerName string
	ContainerEntrypoint        string
	ContainerArgs              []string
	ContainerImageID           string
	ContainerImageName         string
	ContainerEnv               []string
	ContainerLabels            map[string]string
	DaemonName                 string
	extra                      map[string]string
}

func (t tagged) ID() string          { return id.Short(t.ContainerID) }
func (t tagged) FullID() string      { return t.ContainerID }
func (t tagged) Name() string        { return t.ContainerName }
func (t tagged) ImageID() string     { return id.Short(strings.TrimPrefix(t.ContainerImageID, "sha256:")) }
func (t tagged) ImageFullID() string { return t.ContainerImageID }
func (t tagged) ImageName() string   { return t.ContainerImageName }

// Command is the first process's command line.
func (t tagged) Command() string {
	return strings.TrimSpace(t.ContainerEntrypoint + " " + strings.Join(t.ContainerArgs, " "))
}

// Hostname is this machine's.
func (t tagged) Hostname() (string, error) { return os.Hostname() }

// ExtraAttributes are the labels and variables asked for.
func (t tagged) ExtraAttributes(any) map[string]string { return t.extra }

// tagOf executes a tag's template.
func tagOf(text, standard string, info Info) (string, error) {
	if text == "" {
		text = standard
	}
	t, err := template.New("log-tag").Funcs(functions()).Parse(text)
	if err != nil {
		return "", fmt.Errorf("tag: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	see := tagged{
		ContainerID: info.ID, ContainerName: info.Name, ContainerImageID: info.ImageID, ContainerImageName: info.ImageName,
		ContainerEnv: info.Env, ContainerLabels: info.Labels, DaemonName: info.DaemonName,
	}
	if len(info.Args) > 0 {
		see.ContainerEntrypoint, see.ContainerArgs = info.Args[0], info.Args[1:]
	}
	var b strings.Builder
	if err := t.Execute(&b, see); err != nil {
		return "", fmt.Errorf("tag: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return b.String(), nil
}

// functions are Docker's basic ones of templates.
func functions() template.FuncMap {
	return template.FuncMap{
		"json": func(v any) (string, error) {
			data, err := json.Marshal(v)
			return string(data), err
		},
		"split": strings.Split, "join": strings.Join, "lower": strings.ToLower, "upper": strings.ToUpper,
		"title": func(s string) string { return strings.ToUpper(s[:min(1, len(s))]) + s[min(1, len(s)):] },
		"pad": func(s string, before, after int) string {
			return strings.Repeat(" ", max(0, before)) + s + strings.Repeat(" ", max(0, after))
		},
		"truncate": func(s string, n int) string { return s[:max(0, min(n, len(s)))] },
	}
}

// attrsOf are the labels and variables that go along with each line; nil: none.
func attrsOf(options map[string]string, info Info) (map[string]string, error) {
	attrs := map[string]string{}
	pick := func(list, pattern string, each func(func(key, value string))) error {
		names := strings.Split(list, ",")
		var re *regexp.Regexp
		if pattern != "" {
			var err error
			if re, err = regexp.Compile(pattern); err != nil {
				return err
			}
		}
		each(func(key, value string) {
			if key != "" && (list != "" && slices.Contains(names, key) || re != nil && re.MatchString(key)) {
				attrs[key] = value
			}
		})
		return nil
	}
	err := pick(options["labels"], options["labels-regex"], func(take func(key, value string)) {
		for key, value := range info.Labels {
			take(key, value)
		}
	})
	if err == nil {
		err = pick(options["env"], options["env-regex"], func(take func(key, value string)) {
			for _, e := range info.Env {
				key, value, _ := strings.Cut(e, "=")
				take(key, value)
			}
		})
	}
	if err != nil {
		return nil, fmt.Errorf("log options: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	if len(attrs) == 0 {
		return nil, nil
	}
	return attrs, nil
}

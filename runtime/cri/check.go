package cri

import (
	"path"
	"strings"

	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Bounds of what a record keeps for a client. A kubelet stays far below: an object's annotations have 256 KiB at most.
const (
	maxName     = 1024    // bytes of a name, uid or namespace
	maxLabel    = 4096    // bytes of a label's key and value, as in containerd (labels.Validate)
	maxMetadata = 3 << 20 // bytes of all labels and annotations: an object fits a message of a streamed list
	maxItems    = 4096    // mounts, devices, ports, …
	maxWords    = 4 << 20 // bytes of a command line or an environment
)

// checkName refuses what no pod or container can be called.
func checkName(what, name string) error {
	switch {
	case name == "":
		return invalid("%s is empty: set it in the metadata", what)
	case len(name) > maxName:
		return invalid("%s has %d bytes: the limit is %d", what, len(name), maxName)
	case strings.ContainsAny(name, "\x00\n/"):
		return invalid("%s %q has a slash, a line break or a NUL byte", what, name)
	}
	return nil
}

func checkPodMetadata(m *v1.PodSandboxMetadata) error {
	if m == nil {
		return invalid("pod configuration: the metadata is missing: set name, namespace and uid")
	}
	for _, f := range []struct {
		what, value string
	}{{"pod name", m.GetName()}, {"pod namespace", m.GetNamespace()}, {"pod uid", m.GetUid()}} {
		if err := checkName(f.what, f.value); err != nil {
			return err
		}
	}
	return nil
}

// checkLabels bounds labels and annotations.
func checkLabels(labels, annotations map[string]string) error {
	total := 0
	for k, v := range labels {
		if k == "" {
			return invalid("label with the value %.128q has no key", v)
		}
		if len(k)+len(v) > maxLabel {
			return invalid("label %.128q has %d bytes: the limit is %d; what is longer is an annotation", k, len(k)+len(v), maxLabel)
		}
		total += len(k) + len(v)
	}
	for k, v := range annotations {
		total += len(k) + len(v)
	}
	if total > maxMetadata {
		return invalid("labels and annotations have %d bytes: the limit is %d", total, maxMetadata)
	}
	return nil
}

// checkCount bounds a list.
func checkCount(what string, n int) error {
	if n > maxItems {
		return invalid("%d %s: the limit is %d", n, what, maxItems)
	}
	return nil
}

// checkWords bounds what execve(2) is to get, and refuses what it cannot.
func checkWords(what string, lists ...[]string) error {
	total := 0
	for _, list := range lists {
		for _, w := range list {
			if strings.ContainsRune(w, 0) {
				return invalid("%s: %.64q has a NUL byte, which no program can receive", what, w)
			}
			total += len(w) + 1
		}
	}
	if total > maxWords {
		return invalid("%s: %d bytes, and the limit is %d", what, total, maxWords)
	}
	return nil
}

// hostPath cleans an absolute path of the host.
func hostPath(what, p string) (string, error) {
	if !path.IsAbs(p) || strings.ContainsRune(p, 0) || len(p) > 4096 {
		return "", invalid("%s %.128q: give an absolute path of the host", what, p)
	}
	return path.Clean(p), nil
}

// logPath joins a pod's log directory with a container's path below it, which must not leave it.
func logPath(directory, relative string) (string, error) {
	if directory == "" || relative == "" {
		return "", nil
	}
	dir, err := hostPath("log directory", directory)
	if err != nil {
		return "", err
	}
	full := path.Join(dir, relative)
	if strings.ContainsRune(relative, 0) || len(full) > 4096 || !strings.HasPrefix(full, strings.TrimSuffix(dir, "/")+"/") {
		return "", invalid("log path %.128q: give a path below the pod's log directory %s", relative, dir)
	}
	return full, nil
}

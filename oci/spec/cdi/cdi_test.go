package cdi

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/minirt/mini/oci/spec"
)

func write(t *testing.T, name, content string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

const zero = `cdiVersion: "0.6.0"
kind: vendor.com/device
devices:
- name: first
  containerEdits:
    deviceNodes:
    - path: /dev/vendor0
      hostPath: /dev/zero
    env:
    - VENDOR=first
containerEdits:
  hooks:
  - hookName: createContainer
    path: /bin/true
`

func TestDevicesOfAFile(t *testing.T) {
	devices := New(write(t, "vendor.yaml", zero))
	if list, err := devices.List(); err != nil || !slices.Equal(list, []string{"vendor.com/device=first"}) {
		t.Errorf("list: %v, %v", list, err)
	}
	s, _, err := spec.Build(spec.Input{ID: "x", CDI: devices, Request: spec.Request{Args: []string{"sh"}, CDIDevices: []string{"vendor.com/device=first"}}})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Linux.Devices) != 1 || s.Linux.Devices[0].Path != "/dev/vendor0" || s.Linux.Devices[0].Major != 1 || s.Linux.Devices[0].Minor != 5 {
		t.Errorf("devices: %+v", s.Linux.Devices)
	}
	if !slices.Contains(s.Process.Env, "VENDOR=first") || s.Hooks == nil || len(s.Hooks.CreateContainer) != 1 {
		t.Errorf("env %v, hooks %+v", s.Process.Env, s.Hooks)
	}
}

func TestDevicesNotDefined(t *testing.T) {
	_, _, err := spec.Build(spec.Input{ID: "x", CDI: New(t.TempDir()), Request: spec.Request{Args: []string{"sh"}, CDIDevices: []string{"vendor.com/device=first"}}})
	if !errors.Is(err, errdefs.ErrNotFound) || !strings.Contains(err.Error(), "vendor.com/device=first") {
		t.Errorf("got %v", err)
	}
}

func TestBrokenFileIsNamed(t *testing.T) {
	dir := write(t, "broken.json", `{"cdiVersion": "0.6.0", "kind": "nonsense"}`)
	_, _, err := spec.Build(spec.Input{ID: "x", CDI: New(dir), Request: spec.Request{Args: []string{"sh"}, CDIDevices: []string{"vendor.com/device=first"}}})
	if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), "broken.json") {
		t.Errorf("got %v", err)
	}
}

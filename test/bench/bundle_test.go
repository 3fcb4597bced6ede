//go:build bench

package bench

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/client"
)

// bundle is an OCI bundle of busybox for runc, whose process is true.
func bundle(t *testing.T) string {
	t.Helper()
	testenv.Need(t, "runc", "busybox")
	dir := testenv.Dir(t)
	bin := filepath.Join(dir, "rootfs/bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	testenv.Run(t, "cp", "/bin/busybox", filepath.Join(bin, "true"))
	testenv.Run(t, "runc", "spec", "--bundle", dir)
	config := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(data), `"sh"`, `"true"`, 1)
	text = strings.Replace(text, `"terminal": true`, `"terminal": false`, 1)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// sameBundle is a bundle for runc with the very configuration that minid gives to a container of true: with the same
// namespaces, mounts, masked paths, capabilities and seccomp profile. runc spec's own has no seccomp profile.
func sameBundle(t *testing.T, native *client.Client, image string, request []byte) string {
	t.Helper()
	dir := bundle(t)
	const id = "same-configuration"
	if _, err := native.Containers.Create(t.Context(), &api.CreateContainerRequest{Id: id, Image: image, Request: request}); err != nil {
		t.Fatal(err)
	}
	made, err := native.Containers.Get(t.Context(), &api.ContainerRequest{Id: id, Spec: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := native.Containers.Delete(t.Context(), &api.DeleteContainerRequest{Id: id}); err != nil {
		t.Fatal(err)
	}
	var config specs.Spec
	if err := json.Unmarshal(made.Spec, &config); err != nil {
		t.Fatal(err)
	}
	config.Root.Path, config.Linux.CgroupsPath = "rootfs", ""
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

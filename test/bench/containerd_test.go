//go:build bench

package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/client"
)

// containerd is Debian's, with directories and a socket of its own.
type containerd struct {
	t      *testing.T
	dir    string
	socket string
	pid    int
}

func startContainerd(t *testing.T) *containerd {
	t.Helper()
	testenv.Need(t, "containerd", "ctr", "runc")
	dir := testenv.Dir(t)
	c := &containerd{t: t, dir: dir, socket: filepath.Join(dir, "containerd.sock")}
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n[ttrpc]\naddress = %q\n",
		filepath.Join(dir, "root"), filepath.Join(dir, "state"), c.socket, c.socket+".ttrpc")
	file := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "containerd.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("containerd", "--config", file)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.pid = cmd.Process.Pid
	t.Cleanup(func() {
		c.removeContainers()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = log.Close()
		unmountBelow(dir)
	})
	testenv.Eventually(t, 20*time.Second, "containerd answers", func() bool { return c.try("version") == nil })
	return c
}

func (c *containerd) command(args ...string) *exec.Cmd {
	return exec.Command("ctr", append([]string{"--address", c.socket}, args...)...)
}

func (c *containerd) try(args ...string) error { return c.command(args...).Run() }

func (c *containerd) ctr(args ...string) string {
	c.t.Helper()
	out, err := c.command(args...).CombinedOutput()
	if err != nil {
		c.t.Fatalf("ctr %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (c *containerd) removeContainers() {
	out, err := c.command("containers", "ls", "-q").Output()
	if err != nil {
		c.t.Logf("ctr containers ls: %v", err)
	}
	for _, id := range strings.Fields(string(out)) {
		_ = c.try("tasks", "kill", "-s", "KILL", id)
		_ = c.try("tasks", "rm", "-f", id)
		_ = c.try("containers", "rm", id)
	}
}

// unmountBelow unmounts what containerd left in its directories.
func unmountBelow(dir string) {
	data, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			_ = syscall.Unmount(fields[1], syscall.MNT_DETACH)
		}
	}
}

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

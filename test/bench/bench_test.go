//go:build bench

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/client"
)

// TestBench measures everything and writes the tables to the standard output and to .cache/bench.md.
func TestBench(t *testing.T) {
	registry := testenv.Registry(t, testenv.RegistryOptions{})
	minid := testenv.Daemon(t, testenv.DaemonOptions{})
	theirs := testenv.StartContainerd(t, testenv.ContainerdOptions{})
	native := dial(t, minid)

	busybox, large := registry.Ref("busybox"), registry.Ref("large")
	minid.Minictr("images", "pull", busybox)
	theirs.Ctr("images", "pull", "--plain-http", busybox)

	rounds, pulls := setting(t, "BENCH_ROUNDS", 25), setting(t, "BENCH_PULLS", 5)
	lines := append([]string{about(t, minid), "", header}, startNative(t, native, busybox, rounds)...)
	lines = append(lines,
		startCLI(t, minid, theirs, busybox, rounds).run(t),
		pull(t, minid, theirs, large, pulls).run(t),
		"",
	)
	// The memory is that of daemons that have done nothing else: what a pull leaves in the heap would hide it.
	minid.Stop()
	lines = append(lines, memory(t, testenv.Daemon(t, testenv.DaemonOptions{}), testenv.StartContainerd(t, testenv.ContainerdOptions{}), busybox)...)
	text := strings.Join(lines, "\n") + "\n"
	fmt.Print("\n", text)
	out := filepath.Join(testenv.Repository(t), ".cache/bench.md")
	if err := os.WriteFile(out, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func dial(t *testing.T, minid *testenv.DaemonProcess) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), client.Options{Address: minid.Address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func about(t *testing.T, minid *testenv.DaemonProcess) string {
	kernel := testenv.Run(t, "uname", "-r")
	return fmt.Sprintf("Kernel %s, %s, %s; minid %s. Medians (fastest to slowest), measured in turn.", strings.TrimSpace(kernel),
		firstLine(testenv.Run(t, "runc", "--version")), firstLine(testenv.Run(t, "containerd", "--version")),
		versionOf(minid.Minictr("version")))
}

// startNative is create, start, exit and remove through the native API against runc run: of runc spec's own
// configuration, which confines less (no seccomp profile), and of the configuration that minid makes.
func startNative(t *testing.T, native *client.Client, image string, rounds int) []string {
	request, err := json.Marshal(spec.Request{Args: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	plain, same := bundle(t), sameBundle(t, native, image, request)
	var lines []string
	for _, theirs := range []struct{ what, bundle string }{
		{"create, start, exit, remove; against runc spec's configuration", plain},
		{"the same; against the same configuration", same},
	} {
		lines = append(lines, comparison{
			what: theirs.what, goal: 0.6, rounds: rounds,
			a: contender{name: "native API", once: func(round int) {
				if err := oneContainer(t.Context(), native, fmt.Sprintf("native-%d", round), image, request); err != nil {
					t.Fatal(err)
				}
			}},
			b: contender{name: "runc run", once: func(round int) {
				testenv.Run(t, "runc", "run", "--bundle", theirs.bundle, fmt.Sprintf("mini-bench-%d-%d", os.Getpid(), round))
			}},
		}.run(t))
	}
	return lines
}

func oneContainer(ctx context.Context, c *client.Client, id, image string, request []byte) error {
	_, err := c.Containers.Create(ctx, &api.CreateContainerRequest{Id: id, Image: image, Request: request, Log: &api.LogConfig{Driver: "none"}})
	if err != nil {
		return err
	}
	if _, err := c.Containers.Start(ctx, &api.ContainerRequest{Id: id}); err != nil {
		return err
	}
	exit, err := c.Processes.Wait(ctx, &api.ProcessRequest{Id: id})
	if err != nil {
		return err
	}
	if exit.Code != 0 {
		return fmt.Errorf("container %s exited with %d %s", id, exit.Code, exit.Reason)
	}
	_, err = c.Containers.Delete(ctx, &api.DeleteContainerRequest{Id: id})
	return err
}

// startCLI is the whole of both command lines.
func startCLI(t *testing.T, minid *testenv.DaemonProcess, theirs *testenv.Containerd, image string, rounds int) comparison {
	return comparison{
		what: "run --rm of true", goal: 0.3, rounds: rounds,
		a: contender{name: "minictr", once: func(round int) {
			minid.Minictr("run", "--rm", image, fmt.Sprintf("cli-%d", round), "true")
		}},
		b: contender{name: "ctr", once: func(round int) {
			theirs.Ctr("run", "--rm", image, fmt.Sprintf("cli-%d", round), "true")
		}},
	}
}

// pull is the download and the unpacking of 400 MB in 30 layers, with nothing of it there before.
func pull(t *testing.T, minid *testenv.DaemonProcess, theirs *testenv.Containerd, image string, rounds int) comparison {
	return comparison{
		what: "pull and unpack 400 MB in 30 layers", goal: 0.6, rounds: rounds,
		a: contender{
			name: "minictr",
			prepare: func(int) {
				minid.Try("images", "rm", "--sync", image)
				settle(t)
			},
			once: func(int) { minid.Minictr("images", "pull", image) },
		},
		b: contender{
			name: "ctr",
			prepare: func(int) {
				_ = theirs.Try("images", "rm", "--sync", image)
				settle(t)
			},
			once: func(int) { theirs.Ctr("images", "pull", "--plain-http", image) },
		},
	}
}

// settle writes back what the round before left in memory, so that nobody pays for the other.
func settle(t *testing.T) {
	t.Helper()
	if err := exec.Command("sync").Run(); err != nil {
		t.Fatal(err)
	}
}

package classes

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "classes.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestBlockIO loads classes, finds those of containers, and keeps them when the next file is no good.
func TestBlockIO(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	c := &Classes{}
	pod := map[string]string{"blockio.resources.beta.kubernetes.io/pod": "slow", "blockio.resources.beta.kubernetes.io/container.b": "fast"}
	if _, err := c.BlockIO("a", nil, pod); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "blockio_config_file") {
		t.Errorf("without classes: %v", err)
	}
	if limits, err := c.BlockIO("a", nil, nil); limits != nil || err != nil {
		t.Errorf("no class: %v, %v", limits, err)
	}
	if err := c.Load(Config{BlockIOFile: file(t, "Classes:\n  slow:\n  - Weight: 20\n  fast:\n  - Weight: 900\n")}, log); err != nil {
		t.Fatal(err)
	}
	for container, want := range map[string]uint16{"a": 20, "b": 900} {
		if limits, err := c.BlockIO(container, nil, pod); err != nil || *limits.Weight != want {
			t.Errorf("container %s: %+v, %v", container, limits, err)
		}
	}
	if _, err := c.BlockIO("a", map[string]string{"io.kubernetes.cri.blockio-class": "none"}, pod); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "fast") {
		t.Errorf("an unknown class: %v", err)
	}
	if err := c.Load(Config{BlockIOFile: file(t, "Classes:\n  slow:\n  - Wieght: 20\n")}, log); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a misspelt file: %v", err)
	}
	if limits, err := c.BlockIO("b", nil, pod); err != nil || *limits.Weight != 900 {
		t.Errorf("after a file that is no good: %+v, %v", limits, err)
	}
	if err := c.Load(Config{BlockIOFile: "/no/such/file"}, log); !errdefs.IsNotFound(err) {
		t.Errorf("a file that is not there: %v", err)
	}
	if err := c.Load(Config{IgnoreBlockIO: true}, log); err != nil {
		t.Fatal(err)
	}
	if limits, err := c.BlockIO("a", nil, pod); limits != nil || err != nil {
		t.Errorf("where it is ignored: %v, %v", limits, err)
	}
}

// TestRDT: this is for hosts without it.
func TestRDT(t *testing.T) {
	if _, err := os.Stat("/sys/fs/resctrl/schemata"); err == nil {
		t.Skip("this host has RDT, and its classes are not the test's to change")
	}
	log := slog.New(slog.DiscardHandler)
	c := &Classes{}
	own := map[string]string{"io.kubernetes.cri.rdt-class": "gold"}
	if class, err := c.RDT("a", nil, nil); class != "" || err != nil {
		t.Errorf("no class: %q, %v", class, err)
	}
	if _, err := c.RDT("a", own, nil); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "gold") {
		t.Errorf("a class without RDT: %v", err)
	}
	if err := c.Load(Config{RDTFile: file(t, "partitions: {}\n")}, log); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("classes without RDT: %v", err)
	}
	if err := c.Load(Config{IgnoreRDT: true}, log); err != nil {
		t.Fatal(err)
	}
	if class, err := c.RDT("a", own, nil); class != "" || err != nil {
		t.Errorf("where it is ignored: %q, %v", class, err)
	}
}

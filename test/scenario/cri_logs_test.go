package scenario_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// TestCRIReopenLog rotates the log of a container that writes as fast as it can, as the kubelet does: rename, then
// reopen. No line is lost, none comes twice, and they are in order.
func TestCRIReopenLog(t *testing.T) {
	const rotations, lines = 10, 200_000
	s := testenv.StartCRI(t, testenv.CRIOptions{})
	pod := s.RunPod("logs")
	id := pod.Run("main", "sh", "-c", fmt.Sprintf("n=0; while [ $n -lt %d ]; do echo line $n; n=$((n+1)); done", lines))
	name := filepath.Join(pod.Config.LogDirectory, "main.log")
	var files []string
	for n := range rotations {
		time.Sleep(50 * time.Millisecond)
		if s.Status(id).State != runtimeapi.ContainerState_CONTAINER_RUNNING {
			break
		}
		rotated := fmt.Sprintf("%s.%d", name, n)
		check(t, os.Rename(name, rotated))
		files = append(files, rotated)
		_, err := s.Runtime.ReopenContainerLog(t.Context(), &runtimeapi.ReopenContainerLogRequest{ContainerId: id})
		check(t, err)
		if _, err := os.Stat(name); err != nil {
			t.Fatalf("after the reopening there is no new file: %v", err)
		}
	}
	if len(files) == 0 {
		t.Fatal("the container ended before its log could be rotated")
	}
	testenv.Eventually(t, time.Minute, "the container has written everything", func() bool {
		return s.Status(id).State == runtimeapi.ContainerState_CONTAINER_EXITED
	})
	next := 0
	for _, file := range append(files, name) {
		data, err := os.ReadFile(file)
		check(t, err)
		for line := range strings.Lines(string(data)) {
			// TIME stdout F line N
			fields := strings.Fields(line)
			if len(fields) != 5 || fields[1] != "stdout" || fields[2] != "F" || fields[4] != fmt.Sprint(next) {
				t.Fatalf("%s: %q, want line %d", filepath.Base(file), line, next)
			}
			next++
		}
	}
	if next != lines {
		t.Errorf("%d lines of %d in %d files", next, lines, len(files)+1)
	}
	// A container that does not run: an error, and no file (api.proto).
	check(t, os.Remove(name))
	_, err := s.Runtime.ReopenContainerLog(t.Context(), &runtimeapi.ReopenContainerLogRequest{ContainerId: id})
	if _, statErr := os.Stat(name); err != nil && statErr == nil {
		t.Errorf("the reopening was refused (%v), and a file was made", err)
	}
	_, err = s.Runtime.ReopenContainerLog(t.Context(), &runtimeapi.ReopenContainerLogRequest{ContainerId: "no-such-container"})
	declined(t, "an unknown container", err, codes.NotFound, "no-such-container")
}

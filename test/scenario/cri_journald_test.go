package scenario_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// TestCRILogToJournald has the lines of a pod's container in its log and in the journal, each once, over the log's rotation
// and the daemon's death, and before there is a journal.
func TestCRILogToJournald(t *testing.T) {
	noJournal(t)
	s := testenv.StartCRI(t, testenv.CRIOptions{Runtime: "minid", Config: "[cri]\nlog_to_journald = true\n"})
	pod := s.RunPod("logs", testenv.HostNetwork)
	config := testenv.ContainerConfig("main", testenv.SuiteBusybox, "sh", "-c", "i=0; while [ $i -lt 100 ]; do i=$((i+1)); echo line $i.; sleep 0.05; done; sleep 600")
	id := pod.Create(config)
	s.Start(id)
	testenv.Eventually(t, 10*time.Second, "lines before there is a journal", func() bool { return strings.Contains(pod.Log("main"), "line 3.") })
	got := journal(t)
	testenv.Eventually(t, 20*time.Second, "lines in the journal", func() bool { return got.has("MESSAGE=line 20.\n") })
	path := filepath.Join(pod.Config.LogDirectory, "main.log")
	check(t, os.Rename(path, path+".20261126-000000"))
	_, err := s.Runtime.ReopenContainerLog(t.Context(), &runtimeapi.ReopenContainerLogRequest{ContainerId: id})
	check(t, err)
	s.Daemon.Kill9()
	s.Daemon.Start()
	testenv.Eventually(t, 30*time.Second, "the last line", func() bool { return got.has("MESSAGE=line 100.\n") })
	again := 0
	for i := 1; i <= 100; i++ {
		n := 0
		for _, entry := range got.all() {
			if strings.Contains(entry, fmt.Sprintf("MESSAGE=line %d.\n", i)) {
				n++
			}
		}
		if n == 0 {
			t.Errorf("line %d did not come", i)
		}
		again += n - 1
	}
	if again > 1 { // the one under way when the daemon was killed may come twice
		t.Errorf("%d lines came again", again)
	}
	if !got.has("CONTAINER_ID_FULL=" + id + "\n") {
		t.Errorf("it is not told whose lines they are: %.300q", got.all())
	}
	pod.Remove()
}

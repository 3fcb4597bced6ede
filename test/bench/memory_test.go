//go:build bench

package bench

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
	"github.com/minirt/mini/oci/spec"
	"github.com/minirt/mini/runtime/api"
	"github.com/minirt/mini/runtime/client"
)

// theirContainers is how many containerd runs: each has a shim, and they take their time to start.
const theirContainers = 20

// memory is the proportional set size (PSS, KiB) of the daemons and what they keep running for their containers, without
// the containers' own processes.
func memory(t *testing.T, minid *testenv.DaemonProcess, theirs *testenv.Containerd, image string) []string {
	native := dial(t, minid)
	for _, pull := range []func(...string) string{minid.Minictr, theirs.Ctr} {
		pull("images", "pull", "--plain-http", image)
		pull("run", "--rm", image, "first", "true")
	}
	n := setting(t, "BENCH_CONTAINERS", 200)
	ours := func() (daemon, parents int64) { return testenv.PSS(minid.PID()), sumPSS(minid.Supervisors()) }
	daemon0, parents0 := ours()
	began := time.Now()
	startMany(t, native, image, n)
	took := time.Since(began)
	time.Sleep(2 * time.Second) // the memory of an idle daemon is what counts
	daemon1, parents1 := ours()
	perOurs := float64(daemon1+parents1-daemon0-parents0) / float64(n)

	cDaemon0 := testenv.PSS(theirs.PID())
	for i := range theirContainers {
		theirs.Ctr("run", "-d", image, fmt.Sprintf("memory-%d", i), "sleep", "3600")
	}
	time.Sleep(2 * time.Second)
	cDaemon1, shims := testenv.PSS(theirs.PID()), sumPSS(theirs.Shims())
	perTheirs := float64(cDaemon1-cDaemon0+shims) / theirContainers
	verdict := "met"
	if perOurs > 0.3*1024 {
		verdict = "missed"
	}
	return []string{
		"| PSS, MiB | daemon at rest | supervisors at rest | daemon, full | supervisors, shims, full | containers | each |",
		"|---|---|---|---|---|---|---|",
		fmt.Sprintf("| minid | %s | %s | %s | %s | %d (started in %s) | %s (goal 0.3: %s) |", mib(daemon0), mib(parents0),
			mib(daemon1), mib(parents1), n, took.Round(10*time.Millisecond), mib(int64(perOurs)), verdict),
		fmt.Sprintf("| containerd | %s | | %s | %s | %d | %s |", mib(cDaemon0), mib(cDaemon1), mib(shims), theirContainers, mib(int64(perTheirs))),
	}
}

func mib(kib int64) string { return fmt.Sprintf("%.2f", float64(kib)/1024) }

// startMany starts containers that sleep, eight at a time.
func startMany(t *testing.T, native *client.Client, image string, n int) {
	t.Helper()
	request, err := json.Marshal(spec.Request{Args: []string{"sleep", "3600"}})
	if err != nil {
		t.Fatal(err)
	}
	ids := make(chan string)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for id := range ids {
				_, err := native.Containers.Create(t.Context(), &api.CreateContainerRequest{Id: id, Image: image, Request: request})
				if err == nil {
					_, err = native.Containers.Start(t.Context(), &api.ContainerRequest{Id: id})
				}
				if err != nil {
					t.Errorf("container %s: %v", id, err)
				}
			}
		})
	}
	for i := range n {
		ids <- fmt.Sprintf("memory-%d", i)
	}
	close(ids)
	group.Wait()
}

func sumPSS(pids []int) int64 {
	var sum int64
	for _, pid := range pids {
		sum += testenv.PSS(pid)
	}
	return sum
}

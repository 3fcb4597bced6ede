//go:build bench

package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

const (
	statsPods  = 30 // of ListContainerStats and of the memory
	burstPods  = 20 // at once
	burstTurns = 3
)

// The goals of the CRI, as ratios in the same run, and in MiB.
const (
	goalReady, goalBurst, goalExec, goalStop, goalStats = 0.15, 1.0 / 6, 0.30, 0.20, 0.10
	goalPerPod, goalAtRest                              = 0.5, 40
)

// side is one runtime with its pods of the moment.
type side struct {
	*testenv.CRIServer
	t   *testing.T
	pod *testenv.CRIPod
	id  string // of its container
}

// TestBenchCRI measures minid against Debian's containerd with runc and the CNI bridge, over CRI, in turn, and writes the
// tables to the standard output and to .cache/bench-cri.md. With MINI_CRI=containerd both sides are containerd, which
// shows how much two runs of the same differ.
func TestBenchCRI(t *testing.T) {
	testenv.Network(t)
	registry := testenv.Registry(t, testenv.RegistryOptions{})
	start := func(runtime string, net int) *side {
		o := testenv.CRIOptions{Runtime: runtime, InNetwork: true, Registry: registry}
		if runtime == "containerd" {
			o.CNI = []testenv.CNIPlugin{testenv.CNIBridge(t, net), testenv.CNIPortmap()}
		}
		return &side{CRIServer: testenv.StartCRI(t, o), t: t}
	}
	began := time.Now()
	ours, theirs := start(testenv.CRIRuntime(t), 66), start("containerd", 67)
	memory := memoryOfPods(ours, theirs)
	rounds := setting(t, "BENCH_ROUNDS", 25)
	var lines []string
	for _, c := range []comparison{
		listStats(ours, theirs, rounds), podReady(ours, theirs, rounds), burst(ours, theirs),
		execTrue(ours, theirs, rounds), stopAndRemove(ours, theirs, rounds),
	} {
		lines = append(lines, c.run(t))
		for _, s := range []*side{ours, theirs} { // listStats begins with those of the memory
			s.RemoveAll()
			s.pod = nil
		}
	}
	text := strings.Join(append([]string{
		fmt.Sprintf("CRI. Kernel %s; %s; %s. Medians (fastest to slowest), measured in turn.", strings.TrimSpace(testenv.Run(t, "uname", "-r")),
			firstLine(testenv.Run(t, "runc", "--version")), firstLine(testenv.Run(t, "containerd", "--version"))), "", header,
	}, append(append(lines, ""), memory...)...), "\n") + "\n"
	fmt.Printf("\n%s\n%s\n", text, time.Since(began).Round(time.Second))
	if err := os.WriteFile(filepath.Join(testenv.Repository(t), ".cache/bench-cri.md"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// run runs a pod with one container, and keeps it as the side's.
func (s *side) run(name string) {
	s.t.Helper()
	s.pod = s.RunPod(name)
	s.id = s.pod.Run("main", "sleep", "3600")
}

func (s *side) remove() {
	s.t.Helper()
	if s.pod != nil {
		s.pod.Remove()
		s.pod = nil
	}
}

// contender makes a side's part of a comparison.
func (s *side) contender(prepare, once func(s *side, round int)) contender {
	c := contender{name: s.Name(), once: func(round int) { once(s, round) }}
	if prepare != nil {
		c.prepare = func(round int) { prepare(s, round) }
	}
	return c
}

func podReady(ours, theirs *side, rounds int) comparison {
	clear := func(s *side, _ int) { s.remove() }
	once := func(s *side, round int) { s.run(fmt.Sprintf("ready-%d", round)) }
	return comparison{
		what: "pod ready (run pod, create, start)", goal: goalReady, rounds: rounds,
		a: ours.contender(clear, once), b: theirs.contender(clear, once),
	}
}

func burst(ours, theirs *side) comparison {
	pods := map[*side][]string{}
	clear := func(s *side, _ int) {
		s.remove()
		together(len(pods[s]), func(n int) error { return s.RemovePod(context.Background(), pods[s][n]) }, s.t)
		pods[s] = nil
	}
	once := func(s *side, round int) {
		ids := make([]string, burstPods)
		together(burstPods, func(n int) (err error) {
			ids[n], err = s.make(fmt.Sprintf("burst-%d-%d", round, n))
			return err
		}, s.t)
		pods[s] = ids
	}
	c := comparison{
		what: fmt.Sprintf("%d pods at once", burstPods), goal: goalBurst, rounds: burstTurns, count: burstPods,
		a: ours.contender(clear, once), b: theirs.contender(clear, once),
	}
	return c
}

// make runs a pod with one container; unlike run it may be called by many at once.
func (s *side) make(name string) (pod string, err error) {
	ctx := context.Background()
	config := s.PodConfig(name)
	p, err := s.Runtime.RunPodSandbox(ctx, &runtimeapi.RunPodSandboxRequest{Config: config})
	if err != nil {
		return "", err
	}
	container, err := s.Runtime.CreateContainer(ctx, &runtimeapi.CreateContainerRequest{
		PodSandboxId: p.PodSandboxId, SandboxConfig: config, Config: testenv.ContainerConfig("main", testenv.SuiteBusybox, "sleep", "3600"),
	})
	if err != nil {
		return p.PodSandboxId, err
	}
	_, err = s.Runtime.StartContainer(ctx, &runtimeapi.StartContainerRequest{ContainerId: container.ContainerId})
	return p.PodSandboxId, err
}

// together calls f for 0 to count-1, all at once.
func together(count int, f func(n int) error, t *testing.T) {
	var group sync.WaitGroup
	for n := range count {
		group.Go(func() {
			if err := f(n); err != nil {
				t.Errorf("pod %d: %v", n, err)
			}
		})
	}
	group.Wait()
}

func execTrue(ours, theirs *side, rounds int) comparison {
	prepare := func(s *side, _ int) {
		if s.pod == nil {
			s.run("exec")
		}
	}
	once := func(s *side, _ int) { s.Exec(s.id, "true") }
	return comparison{
		what: "ExecSync of true", goal: goalExec, rounds: rounds,
		a: ours.contender(prepare, once), b: theirs.contender(prepare, once),
	}
}

func stopAndRemove(ours, theirs *side, rounds int) comparison {
	prepare := func(s *side, round int) {
		s.remove()
		s.run(fmt.Sprintf("stop-%d", round))
	}
	once := func(s *side, _ int) {
		if _, err := s.Runtime.StopContainer(s.t.Context(), &runtimeapi.StopContainerRequest{ContainerId: s.id}); err != nil {
			s.t.Fatal(err)
		}
		s.remove()
	}
	return comparison{
		what: "stop (0 s), stop and remove pod", goal: goalStop, rounds: rounds,
		a: ours.contender(prepare, once), b: theirs.contender(prepare, once),
	}
}

// listStats uses the pods that memoryOfPods has left.
func listStats(ours, theirs *side, rounds int) comparison {
	once := func(s *side, _ int) {
		answer, err := s.Runtime.ListContainerStats(s.t.Context(), &runtimeapi.ListContainerStatsRequest{})
		if err != nil {
			s.t.Fatal(err)
		}
		if len(answer.Stats) != statsPods {
			s.t.Fatalf("stats of %d containers, want %d", len(answer.Stats), statsPods)
		}
	}
	return comparison{
		what: fmt.Sprintf("ListContainerStats with %d pods", statsPods), goal: goalStats, rounds: rounds,
		a: ours.contender(nil, once), b: theirs.contender(nil, once),
	}
}

// memoryOfPods is the proportional set size of the daemons and their helpers at rest, after one pod has come and gone, and
// what each of many pods adds to it beside a first one, which brings back what an idle daemon has let go of.
func memoryOfPods(ours, theirs *side) []string {
	lines := []string{
		"| PSS, MiB | at rest | goal | | with one pod | with many | each of the others | goal | |",
		"|---|---|---|---|---|---|---|---|---|",
	}
	for _, s := range []*side{ours, theirs} {
		s.run("first")
		s.remove()
		time.Sleep(2 * time.Second) // the memory of an idle daemon is what counts
		rest := testenv.PSS(s.PID()) + sumPSS(s.Parents())
		if _, err := s.make("memory-0"); err != nil {
			s.t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		one := testenv.PSS(s.PID()) + sumPSS(s.Parents())
		for n := range statsPods - 1 {
			if _, err := s.make(fmt.Sprintf("memory-%d", n+1)); err != nil {
				s.t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Second)
		full := testenv.PSS(s.PID()) + sumPSS(s.Parents())
		each := float64(full-one) / (statsPods - 1) / 1024
		judged := func(value, goal float64) string {
			if s != ours {
				return " | "
			}
			if value > goal {
				return fmt.Sprintf("≤ %g | missed", goal)
			}
			return fmt.Sprintf("≤ %g | met", goal)
		}
		lines = append(lines, fmt.Sprintf("| %s | %s | %s | %s | %s (%d) | %.2f | %s |", s.Name(), mib(rest), judged(float64(rest)/1024, goalAtRest),
			mib(one), mib(full), statsPods, each, judged(each, goalPerPod)))
	}
	return lines
}

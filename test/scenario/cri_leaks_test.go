package scenario_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	rpc "google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/minirt/mini/internal/testenv"
)

// podsEnv is how many pods TestCRINothingLeaks makes.
const podsEnv = "MINI_CRI_PODS"

// TestCRINothingLeaks makes and removes many pods, twenty at a time, with a tenth of the calls given up at any moment.
// Afterwards everything that can leak is where it was after the first few.
func TestCRINothingLeaks(t *testing.T) {
	count := 500
	if text := os.Getenv(podsEnv); text != "" {
		var err error
		count, err = strconv.Atoi(text)
		check(t, err)
	}
	metrics := filepath.Join(testenv.Dir(t), "metrics.sock")
	s := testenv.StartCRI(t, testenv.CRIOptions{Config: fmt.Sprintf("[metrics]\naddress = %q\n", metrics)})
	churn(t, s, "warm", 40)
	before := settled(t, s, metrics, nil)
	began := time.Now()
	given := churn(t, s, "leak", count)
	took := time.Since(began)
	after := settled(t, s, metrics, before)
	for _, what := range slices.Sorted(maps.Keys(after)) {
		allowed := before[what]
		switch what {
		case "memory, KiB":
			allowed += allowed/4 + 4096
		case spareNamespaces: // on a busy machine the store of them was not full yet
			allowed = max(allowed, spares)
		case "descriptors of [pidfd]": // libcontainer leaves its processes' to the garbage collector
			allowed += 32
		case "goroutines": // some begin when they are first needed; what leaks does so with each pod, or each that is given up
			allowed += 4
		case "links": // each of them has one
			allowed += max(0, after[spareNamespaces]-before[spareNamespaces])
		}
		if after[what] > allowed {
			t.Errorf("%s: %d before, %d after %d pods", what, before[what], after[what], count)
		}
	}
	nothingLeft(t, s)
	testenv.Measured(t, "%s: %d pods made and removed, 20 at a time, %d of them given up, in %.1f s (%.1f pods/s); memory %d KiB before, %d after",
		s.Name(), count, given, took.Seconds(), float64(count)/took.Seconds(), before["memory, KiB"], after["memory, KiB"])
}

// churn makes and removes pods, and returns how many were given up.
func churn(t *testing.T, s *testenv.CRIServer, name string, count int) int64 {
	t.Helper()
	var given atomic.Int64
	each(count, 20, func(n int) {
		config := s.PodConfig(fmt.Sprintf("%s-%d", name, n))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if n%10 == 9 {
			given.Add(1)
			ctx, cancel = context.WithTimeout(ctx, time.Duration(rand.IntN(300))*time.Millisecond)
			defer cancel()
		}
		pod, _, err := tryPod(ctx, s.CRI, config)
		// The daemon may see the end of the time before this side does.
		if _, limited := ctx.Deadline(); err != nil && ctx.Err() == nil && !(limited && rpc.Code(err) == codes.DeadlineExceeded) {
			t.Errorf("pod %d: %v", n, err)
		}
		if pod != "" {
			err = s.RemovePod(t.Context(), pod)
		} else {
			err = removeByName(t.Context(), s.CRI, config.Metadata)
		}
		if err != nil {
			t.Errorf("pod %d: %v", n, err)
		}
	})
	return given.Load()
}

// removeByName removes a pod that a call was given up for, as the kubelet finds it: in the list. It may come into it a
// little later.
func removeByName(ctx context.Context, c *testenv.CRI, of *runtimeapi.PodSandboxMetadata) error {
	for range 5 {
		list, err := c.Runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
		if err != nil {
			return err
		}
		for _, pod := range list.Items {
			if pod.Metadata.Uid != of.Uid {
				continue
			}
			if err := c.RemovePod(ctx, pod.Id); err != nil {
				return err
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil
}

// settled counts what can leak; with a goal it waits until the counts are down to it, for ten seconds at most.
func settled(t *testing.T, s *testenv.CRIServer, metrics string, goal map[string]int64) map[string]int64 {
	t.Helper()
	var now map[string]int64
	deadline := time.Now().Add(10 * time.Second)
	for {
		now = countAll(t, s, metrics)
		reached := goal != nil
		for what, n := range goal {
			reached = reached && now[what] <= n
		}
		if reached || time.Now().After(deadline) || goal == nil && time.Now().After(deadline.Add(-7*time.Second)) {
			return now
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// spareNamespaces are the network namespaces that the daemon keeps for pods to come: at most so many (network.spares).
const (
	spareNamespaces = "descriptors of net"
	spares          = 8
)

// descriptor is the kind of an open file: "descriptors of socket", "descriptors of net", "descriptors of /memfd", …
func descriptor(link string) string {
	target, err := os.Readlink(link)
	if err != nil {
		return "descriptors just closed"
	}
	kind, _, _ := strings.Cut(strings.TrimPrefix(target, "anon_inode:"), ":")
	if strings.HasPrefix(kind, "/") && kind != "/memfd" {
		kind = "files"
	}
	return "descriptors of " + kind
}

func countAll(t *testing.T, s *testenv.CRIServer, metrics string) map[string]int64 {
	t.Helper()
	pids := []int{s.PID()}
	mark := filepath.Base(filepath.Dir(s.Socket))
	if s.Daemon != nil {
		pids = append(pids, s.Daemon.Supervisors()...)
		mark = s.Daemon.Name
	}
	counts := map[string]int64{
		"links": int64(strings.Count(testenv.Run(t, "ip", "-o", "link"), "\n")),
		"rules": int64(strings.Count(testenv.Run(t, "nft", "list", "ruleset"), "\n")),
	}
	for _, pid := range pids {
		proc := fmt.Sprintf("/proc/%d/", pid)
		if files, err := filepath.Glob(proc + "fd/*"); err == nil {
			for _, f := range files {
				counts[descriptor(f)]++
			}
		}
		if threads, err := os.ReadDir(proc + "task"); err == nil {
			counts["threads"] += int64(len(threads))
		}
		counts["memory, KiB"] += testenv.PSS(pid)
	}
	// Threads come as they are needed and stay; only very many of them are a leak.
	counts["threads"] = counts["threads"] / 64
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", s.PID()))
	check(t, err)
	for line := range strings.Lines(string(mounts)) { // pinned namespaces too
		if strings.Contains(line, mark) {
			counts["mounts"]++
		}
	}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(name, mark) {
			counts["cgroups"]++
		}
		return nil // a group that goes meanwhile is no error
	})
	counts["processes"] = int64(testenv.ProcessesIn(mark))
	if s.Daemon != nil {
		counts["goroutines"] = goroutines(t, metrics)
	}
	return counts
}

// goroutines reads the number from minid's metrics.
func goroutines(t *testing.T, socket string) int64 {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	answer, err := client.Get("http://minid/metrics")
	check(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	check(t, err)
	var value float64
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "go_goroutines "); ok {
			value, err = strconv.ParseFloat(strings.TrimSpace(rest), 64)
			check(t, err)
		}
	}
	if value == 0 {
		t.Fatal("the metrics do not have go_goroutines")
	}
	return int64(value)
}

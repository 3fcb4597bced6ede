package scenario_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/minirt/mini/internal/testenv"
)

// corner is one setting in which the suite is run.
type corner struct {
	websocket, cni bool
	scope          string
}

func (c corner) String() string {
	transport, network := "spdy", "builtin"
	if c.websocket {
		transport = "websocket"
	}
	if c.cni {
		network = "cni"
	}
	return transport + ", " + network + ", " + c.scope
}

// leftOut are the specs that are not run, and why.
func leftOut() map[string]string {
	return map[string]string{
		`public image with digest should be pulled and removed`: "it names an image by the digest that upstream's build of it has",
		`runtime should support MaskedPaths`:                    "it wants a shell that executes ls, and Debian's busybox has it built in; TestCRIMaskedPaths is in its place",
	}
}

// lacking are the reasons for which a spec may leave itself out: what the machine has not.
func lacking() []string { return []string{"AppArmor is disabled on this host"} }

// TestConformance runs upstream's CRI suite in every setting: both transports of streams, both networks, both scopes of
// supervisors. With MINI_CRI=containerd it shows what the suite says of Debian's containerd, with the same images.
func TestConformance(t *testing.T) {
	if testenv.CRIRuntime(t) == "containerd" {
		t.Run("containerd", func(t *testing.T) { runCorner(t, corner{cni: true, scope: "shim"}) })
		return
	}
	for _, websocket := range []bool{false, true} {
		for _, cni := range []bool{false, true} {
			for _, scope := range []string{"node", "pod"} {
				c := corner{websocket: websocket, cni: cni, scope: scope}
				t.Run(strings.ReplaceAll(c.String(), ", ", "-"), func(t *testing.T) {
					t.Parallel()
					runCorner(t, c)
				})
			}
		}
	}
}

func runCorner(t *testing.T, c corner) {
	o := testenv.CRIOptions{Scope: c.scope}
	if c.cni {
		o.CNI = []testenv.CNIPlugin{testenv.CNIBridge(t, 66), testenv.CNIPortmap()}
	}
	s := testenv.StartCRI(t, o)
	names := make([]string, 0, len(leftOut()))
	for name := range leftOut() {
		names = append(names, name)
	}
	report := testenv.Suite(t, testenv.SuiteOptions{Socket: s.Socket, Websocket: c.websocket, Parallel: 8, Skip: names})
	testenv.Measured(t, "critest (%s, %s): %d passed, %d failed, %d skipped, in %s", s.Name(), c, len(report.Passed()),
		len(report.Failed()), len(report.Skipped())+len(names), report.Took.Round(time.Second))
	judge(t, report, len(names))
}

// judge fails the test for a spec that failed or was left out for a reason that is not known.
func judge(t *testing.T, report testenv.SuiteReport, byName int) {
	for _, s := range report.Failed() {
		t.Errorf("%s (%s, %s):\n%s", s.Name, s.State, s.Took.Round(time.Millisecond), s.Message)
	}
	reasons := map[string]int{}
	for _, s := range report.Skipped() {
		reasons[s.Message]++
	}
	for reason, count := range reasons {
		t.Logf("%d specs skipped themselves: %s", count, reason)
	}
	for _, s := range report.Skipped() {
		if !known(s.Message) {
			t.Errorf("%s was skipped: %s", s.Name, s.Message)
		}
	}
	found := 0
	for _, s := range report.LeftOut() {
		if reason := reasonOf(s.Name); reason != "" {
			found++
			t.Logf("left out: %s: %s", s.Name, reason)
		} else if !strings.Contains(s.Name, "benchmark") { // critest leaves its benchmarks out
			t.Errorf("%s was left out, and nobody said why", s.Name)
		}
	}
	if found != byName {
		t.Errorf("%d specs were left out by name, want %d: the suite has changed", found, byName)
	}
}

func known(reason string) bool {
	for _, l := range lacking() {
		if strings.Contains(reason, l) {
			return true
		}
	}
	return false
}

func reasonOf(spec string) string {
	for name, reason := range leftOut() {
		if regexp.MustCompile(name).MatchString(spec) {
			return reason
		}
	}
	return ""
}

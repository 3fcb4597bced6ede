package testenv

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// SuiteOptions says how the conformance suite is run.
type SuiteOptions struct {
	Socket    string   // the runtime's
	Websocket bool     // streams over websocket instead of SPDY
	Focus     []string // regular expressions of the specs to run; none: all
	Skip      []string // and of those to leave out
	Parallel  int      // specs at once
}

// Spec is the result of one of the suite's specs.
type Spec struct {
	Name    string
	State   string // passed, failed, skipped, …
	Message string // why it failed, or skipped itself; empty for one that was left out
	Took    time.Duration
}

// SuiteReport is the result of the suite.
type SuiteReport struct {
	Specs  []Spec
	Took   time.Duration
	Output string
}

// Passed, Failed and Skipped are the specs of that result; LeftOut are those that Focus or Skip left out.
func (r SuiteReport) Passed() []Spec { return r.of(func(s Spec) bool { return s.State == "passed" }) }

// Failed are the specs that did not end well: failed, panicked, interrupted, timed out.
func (r SuiteReport) Failed() []Spec {
	return r.of(func(s Spec) bool { return s.State != "passed" && s.State != "skipped" && s.State != "pending" })
}

// Skipped are the specs that found something missing.
func (r SuiteReport) Skipped() []Spec {
	return r.of(func(s Spec) bool { return s.State == "skipped" && s.Message != "" || s.State == "pending" })
}

// LeftOut are the specs that Focus or Skip named.
func (r SuiteReport) LeftOut() []Spec {
	return r.of(func(s Spec) bool { return s.State == "skipped" && s.Message == "" })
}

func (r SuiteReport) of(match func(Spec) bool) []Spec {
	var found []Spec
	for _, s := range r.Specs {
		if match(s) {
			found = append(found, s)
		}
	}
	return found
}

// Suite runs upstream's CRI conformance suite (critest) against a runtime. The test is skipped where it is not built.
func Suite(t testing.TB, o SuiteOptions) SuiteReport {
	t.Helper()
	tools := filepath.Join(Repository(t), ".cache/conformance")
	critest := filepath.Join(tools, "critest")
	if !executable(critest) || !executable(filepath.Join(tools, "ginkgo")) {
		t.Skip("needs critest, which is not built (make conformance-tools)")
	}
	dir := Dir(t)
	report := filepath.Join(dir, "report.json")
	args := []string{
		"-runtime-endpoint=unix://" + o.Socket, "-image-endpoint=unix://" + o.Socket, "-config=/dev/null",
		"-ginkgo.json-report=" + report, "-ginkgo.no-color", fmt.Sprintf("-parallel=%d", max(1, o.Parallel)),
	}
	if o.Websocket {
		args = append(args, "-websocket-exec", "-websocket-attach", "-websocket-portforward")
	}
	for _, f := range o.Focus {
		args = append(args, "-ginkgo.focus="+f)
	}
	for _, s := range o.Skip {
		args = append(args, "-ginkgo.skip="+s)
	}
	cmd := exec.CommandContext(t.Context(), critest, args...)
	cmd.Dir = dir
	// critest calls ginkgo, from the path, to run specs in parallel.
	cmd.Env = append(os.Environ(), "PATH="+tools+":"+os.Getenv("PATH"), "TMPDIR="+dir)
	began := time.Now()
	out, err := cmd.CombinedOutput()
	specs, parseErr := readSuite(report)
	if parseErr != nil {
		t.Fatalf("critest: %v (%v)\n%s", parseErr, err, tail(string(out), 60))
	}
	return SuiteReport{Specs: specs, Took: time.Since(began), Output: string(out)}
}

// readSuite reads ginkgo's JSON report (ginkgo/v2/types.Report).
func readSuite(file string) ([]Spec, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var reports []struct {
		SpecReports []struct {
			ContainerHierarchyTexts []string
			LeafNodeText            string
			LeafNodeType            string
			State                   string
			RunTime                 time.Duration
			Failure                 struct{ Message string }
		}
	}
	if err := json.Unmarshal(data, &reports); err != nil {
		return nil, fmt.Errorf("ginkgo's report: %w", err)
	}
	var specs []Spec
	for _, r := range reports {
		for _, s := range r.SpecReports {
			name := strings.Join(append(slices.Clone(s.ContainerHierarchyTexts), s.LeafNodeText), " ")
			if s.LeafNodeType != "It" {
				if s.State == "passed" {
					continue
				}
				name = s.LeafNodeType // BeforeSuite
			}
			specs = append(specs, Spec{Name: strings.TrimPrefix(name, "[k8s.io] "), State: s.State, Message: s.Failure.Message, Took: s.RunTime})
		}
	}
	if len(specs) == 0 {
		return nil, fmt.Errorf("ginkgo's report has no spec")
	}
	return specs, nil
}

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// event is a line of `go test -json` (go doc test2json).
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

// report collects the events of all commands.
type report struct {
	out     io.Writer
	quiet   bool
	output  map[string][]string // by package and test
	running map[string]bool     // tests that began and did not end
	passed  int
	failed  []failedTest
	skipped []string
	notes   []string // what tests that passed say they have measured
	failure []string // packages and builds that failed, and commands that broke

	unsteady []string // tests that failed, and passed when they were run again
}

// failedTest is a test that failed, or a part of one, and the command that ran it.
type failedTest struct {
	pkg, test string
	command   []string
	cut       bool // by a panic or a timeout: the package's other tests did not run
}

func (f failedTest) String() string { return short(f.pkg) + " " + f.test }

// topTest is the name of the whole test.
func (f failedTest) topTest() string {
	top, _, _ := strings.Cut(f.test, "/")
	return top
}

func (f failedTest) top() string { return short(f.pkg) + " " + f.topTest() }

func newReport(out io.Writer, quiet bool) *report {
	return &report{out: out, quiet: quiet, output: map[string][]string{}, running: map[string]bool{}}
}

func (r *report) problems() int { return len(r.failed) + len(r.failure) }

func (r *report) broken(command string, err error) {
	r.failure = append(r.failure, fmt.Sprintf("%s: %v", command, err))
}

func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) == nil && e.Action != "" {
				r.take(e)
			} else {
				fmt.Fprint(r.out, line)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *report) take(e event) {
	if e.Package == "" {
		e.Package = e.ImportPath
	}
	key := e.Package + " " + e.Test
	switch e.Action {
	case "run":
		r.running[key] = true
	case "output", "build-output":
		r.output[key] = append(r.output[key], e.Output)
	case "build-fail":
		r.fail(e.Package+" does not build", key)
	case "pass", "skip", "fail":
		r.end(e, key)
		delete(r.output, key)
		delete(r.running, key)
	}
}

func (r *report) end(e event, key string) {
	if e.Test == "" {
		r.endPackage(e, key)
		return
	}
	switch e.Action {
	case "pass":
		r.passed++
		r.notes = append(r.notes, measured(r.output[key])...)
	case "skip":
		r.skipped = append(r.skipped, short(e.Package)+" "+e.Test+": "+reason(r.output[key]))
	case "fail":
		r.failed = append(r.failed, failedTest{pkg: e.Package, test: e.Test})
		fmt.Fprintf(r.out, "--- %s %s failed:\n%s", e.Package, e.Test, strings.Join(r.output[key], ""))
	}
}

// endPackage reports a package; one that fails without a failed test panicked, timed out or did not build.
func (r *report) endPackage(e event, key string) {
	switch {
	case e.Action == "pass" && !r.quiet:
		fmt.Fprintf(r.out, "ok    %-50s %6.1fs\n", short(e.Package), e.Elapsed)
	case e.Action != "fail":
	case e.FailedBuild != "":
		r.failure = append(r.failure, short(e.Package)+" does not build")
	default:
		fmt.Fprintf(r.out, "FAIL  %-50s %6.1fs\n", short(e.Package), e.Elapsed)
		r.endAbandoned(e.Package)
		if !r.failedIn(e.Package) {
			r.fail(short(e.Package)+": failed outside of its tests", key)
		}
	}
}

// endAbandoned counts the tests that a panic or a timeout cut off as failed.
func (r *report) endAbandoned(pkg string) {
	for key := range r.running {
		of, test, _ := strings.Cut(key, " ")
		if of != pkg {
			continue
		}
		r.failed = append(r.failed, failedTest{pkg: pkg, test: test, cut: true})
		fmt.Fprintf(r.out, "--- %s %s was cut off:\n%s", pkg, test, strings.Join(r.output[key], ""))
		delete(r.running, key)
	}
}

func (r *report) failedIn(pkg string) bool {
	for _, f := range r.failed {
		if f.pkg == pkg {
			return true
		}
	}
	return false
}

// failedTests counts the tests that failed, each with its parts as one.
func (r *report) failedTests() int {
	found := map[string]bool{}
	for _, f := range r.failed {
		found[f.top()] = true
	}
	return len(found)
}

func (r *report) fail(what, key string) {
	r.failure = append(r.failure, what)
	fmt.Fprintf(r.out, "--- %s\n%s", what, strings.Join(r.output[key], ""))
}

// summary prints the lists and the count, and says whether all is well.
func (r *report) summary() bool {
	list := func(title string, items []string) {
		if len(items) == 0 {
			return
		}
		fmt.Fprintf(r.out, "\n%s:\n", title)
		for _, item := range items {
			fmt.Fprintln(r.out, "  "+item)
		}
	}
	list("measured", r.notes)
	list("skipped", r.skipped)
	list("unsteady: failed, and passed when run again", r.unsteady)
	failed := make([]string, 0, len(r.failed))
	for _, f := range r.failed {
		failed = append(failed, f.String())
	}
	list("failed", failed)
	list("failed outside of a test", r.failure)
	if r.passed+len(r.failed)+len(r.skipped) == 0 {
		fmt.Fprintln(r.out, "no test ran")
	}
	fmt.Fprintf(r.out, "\n%d passed, %d failed, %d skipped\n", r.passed+len(r.unsteady), len(r.failed), len(r.skipped))
	return r.problems() == 0 && r.passed > 0
}

// measured finds the texts of testenv.Measured.
func measured(output []string) []string {
	var found []string
	for _, line := range output {
		if at, text, ok := strings.Cut(strings.TrimSpace(line), ": measured: "); ok && strings.Contains(at, ".go:") {
			found = append(found, text)
		}
	}
	return found
}

// reason finds the text of t.Skip: the last line of the form "file.go:12: text" before "--- SKIP".
func reason(output []string) string {
	found := "no reason"
	for _, line := range output {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "---") || strings.HasPrefix(line, "===") {
			continue
		}
		if _, text, ok := strings.Cut(line, ".go:"); ok {
			if _, text, ok = strings.Cut(text, ": "); ok {
				found = text
			}
		}
	}
	return found
}

// short cuts a package's path to the part within its module.
func short(pkg string) string {
	if i := strings.Index(pkg, "/mini/"); i >= 0 {
		return pkg[i+len("/mini/"):]
	}
	return pkg
}

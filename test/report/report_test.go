package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	const pass = `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p"}
`
	tests := []struct {
		name, events string
		ok           bool
		want         string
	}{
		{"pass", pass, true, "1 passed, 0 failed, 0 skipped"},
		{"nothing", "", false, "no test ran"},
		{"skip", pass + `{"Action":"output","Package":"p","Test":"TestS","Output":"    s_test.go:9: needs root\n"}
{"Action":"skip","Package":"p","Test":"TestS"}
`, true, "p TestS: needs root"},
		{"measured", `{"Action":"output","Package":"p","Test":"TestM","Output":"    m_test.go:9: measured: 7 ms\n"}
{"Action":"pass","Package":"p","Test":"TestM"}
`, true, "measured:\n  7 ms\n"},
		{"fail", pass + `{"Action":"output","Package":"p","Test":"TestF","Output":"    f_test.go:9: got 1\n"}
{"Action":"fail","Package":"p","Test":"TestF"}
{"Action":"fail","Package":"p"}
`, false, "f_test.go:9: got 1"},
		{"cut off", pass + `{"Action":"run","Package":"p","Test":"TestP"}
{"Action":"output","Package":"p","Test":"TestP","Output":"panic: x\n"}
{"Action":"fail","Package":"p"}
`, false, "1 passed, 1 failed, 0 skipped"},
		{"build", pass + `{"ImportPath":"q","Action":"build-output","Output":"q.go:1: undefined: x\n"}
{"ImportPath":"q","Action":"build-fail"}
{"Action":"fail","Package":"q","FailedBuild":"q"}
`, false, "q.go:1: undefined: x"},
		{"main", pass + `{"Action":"output","Package":"q","Output":"TestMain: no\n"}
{"Action":"fail","Package":"q"}
`, false, "failed outside of its tests"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			r := newReport(&out, true)
			if err := r.read(strings.NewReader(test.events)); err != nil {
				t.Fatal(err)
			}
			if ok := r.summary(); ok != test.ok {
				t.Errorf("ok is %v, want %v", ok, test.ok)
			}
			if !strings.Contains(out.String(), test.want) {
				t.Errorf("no %q in:\n%s", test.want, out.String())
			}
		})
	}
}

func TestParse(t *testing.T) {
	f, err := parse([]string{"-quiet", "-again", "2", "--", "a", "b", "--", "c"})
	if err != nil || !f.quiet || f.again != 2 || len(f.commands) != 2 || len(f.commands[0]) != 2 || f.commands[1][0] != "c" {
		t.Errorf("got %+v, error %v", f, err)
	}
	for _, args := range [][]string{{"a"}, {"-again", "x", "--", "a"}, {"a", "--", "b"}, {"-quiet", "--"}, nil} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}

// TestAgain runs tests again that fail the first time, and one that always does.
func TestAgain(t *testing.T) {
	run := func(second string, cut bool) (ok bool, out string) {
		script := filepath.Join(t.TempDir(), "go")
		if err := os.WriteFile(script, []byte("#!/bin/sh\n"+second), 0o755); err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		r := newReport(&text, true)
		r.passed = 1
		command := []string{script, "test", "-json", "-tags", "x", "./a/...", "m/mini/b"}
		r.failed = []failedTest{{pkg: "m/mini/b", test: "TestF", command: command, cut: cut}, {pkg: "m/mini/b", test: "TestF/part", command: command, cut: cut}}
		again(t.Context(), r)
		return r.summary(), text.String()
	}
	const event = `echo "{\"Action\":\"%s\",\"Package\":\"m/mini/b\",\"Test\":\"TestF\"}"` + "\n"
	const wanted = `[ "$*" = 'test -json -tags x -count=1 -run ^TestF$ m/mini/b' ] || exit 1` + "\n"
	ok, out := run(wanted+fmt.Sprintf(event, "pass"), false)
	if !ok || !strings.Contains(out, "unsteady: failed, and passed when run again:\n  b TestF\n  b TestF/part\n") || !strings.Contains(out, "3 passed, 0 failed") {
		t.Errorf("one that passes: %v\n%s", ok, out)
	}
	if ok, out := run(fmt.Sprintf(event, "fail")+"exit 1", false); ok || !strings.Contains(out, "1 passed, 2 failed") {
		t.Errorf("one that fails again: %v\n%s", ok, out)
	}
	if ok, out := run(fmt.Sprintf(event, "pass"), true); ok || strings.Contains(out, "once more") {
		t.Errorf("one that cut off its package: %v\n%s", ok, out)
	}
	if ok, out := run("exit 0", false); ok {
		t.Errorf("one that is not found: %v\n%s", ok, out)
	}
}

package main

import (
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
	quiet, commands, err := parse([]string{"-quiet", "--", "a", "b", "--", "c"})
	if err != nil || !quiet || len(commands) != 2 || len(commands[0]) != 2 || commands[1][0] != "c" {
		t.Errorf("got %v %v, error %v", quiet, commands, err)
	}
	if _, _, err := parse([]string{"a"}); err == nil {
		t.Error("a command without -- was accepted")
	}
}

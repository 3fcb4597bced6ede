package failpoint

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for _, c := range []struct{ text, wrong string }{
		{"a=kill", ""},
		{"a=error;b=2*sleep:1ms;c=error:no space", ""},
		{"a", "not name=action"},
		{"=kill", "not name=action"},
		{"a=explode", "none of"},
		{"a=0*kill", "count"},
		{"a=x*kill", "count"},
		{"a=sleep:long", "duration"},
		{"a=kill;", "not name=action"},
	} {
		_, err := parse(c.text)
		if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("parse(%q): %v, want %q", c.text, err, c.wrong)
		}
	}
}

func TestHit(t *testing.T) {
	s, err := parse("always=error;third=3*error:no space;slow=sleep:20ms")
	if err != nil {
		t.Fatal(err)
	}
	if s.hit("other") != nil {
		t.Error("a place that is not named failed")
	}
	for i := range 2 {
		if s.hit("always") == nil {
			t.Errorf("always, hit %d: no error", i)
		}
	}
	for i := 1; i <= 4; i++ {
		if err := s.hit("third"); (err != nil) != (i == 3) {
			t.Errorf("third, hit %d: %v", i, err)
		}
	}
	start := time.Now()
	if s.hit("slow") != nil || time.Since(start) < 20*time.Millisecond {
		t.Error("slow did not sleep")
	}
}

// TestEnv runs the test binary again, since the variable is read once per process.
func TestEnv(t *testing.T) {
	if os.Getenv("FAILPOINT_CHILD") != "" {
		if err := Hit("here"); err != nil {
			os.Stdout.WriteString(err.Error())
		}
		os.Exit(0)
	}
	for _, c := range []struct {
		env, out string
		killed   bool
	}{
		{"", "", false},
		{"here=kill", "", true},
		{"here=error:on purpose", "on purpose", false},
		{"elsewhere=kill", "", false},
		{"here=kil", "none of", false},
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestEnv$")
		cmd.Env = append(os.Environ(), "FAILPOINT_CHILD=1", Env+"="+c.env)
		out, _ := cmd.Output()
		killed := cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
		if killed != c.killed || !strings.Contains(string(out), c.out) || c.out == "" && len(out) > 0 {
			t.Errorf("%q: killed %v, output %q", c.env, killed, out)
		}
	}
}

func BenchmarkHitUnset(b *testing.B) {
	for b.Loop() {
		_ = Hit("here")
	}
}

// Package failpoint stops, fails or delays the program at a named place, for the tests that kill it there. It does
// nothing unless the environment variable MINI_FAILPOINT says so, and then costs one atomic load.
//
//	MINI_FAILPOINT=name=action[;name=action…]
//	action: [N*]kill | [N*]error[:text] | [N*]sleep:duration     N: only the Nth time, counted from 1
//
// A place is a call of Hit with a literal name: grep finds them all, there is no registry.
package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Env is the environment variable that is read, once, at the first Hit.
const Env = "MINI_FAILPOINT"

// Hit does what MINI_FAILPOINT says for name: kill sends SIGKILL to the process itself and does not return, error
// returns an error, sleep delays. A MINI_FAILPOINT that cannot be understood makes every Hit fail, lest a test with a
// typing error passes.
func Hit(name string) error {
	s := fromEnv()
	if s == nil {
		return nil
	}
	return s.hit(name)
}

var fromEnv = sync.OnceValue(func() *set {
	text := os.Getenv(Env)
	if text == "" {
		return nil
	}
	s, err := parse(text)
	if err != nil {
		return &set{broken: err}
	}
	return s
})

type set struct {
	points map[string]*point
	broken error
}

type point struct {
	nth  int64 // 0: every time
	hits atomic.Int64
	act  func() error
}

func (s *set) hit(name string) error {
	if s.broken != nil {
		return s.broken
	}
	p := s.points[name]
	if p == nil {
		return nil
	}
	if n := p.hits.Add(1); p.nth != 0 && n != p.nth {
		return nil
	}
	return p.act()
}

func parse(text string) (*set, error) {
	s := &set{points: map[string]*point{}}
	for _, one := range strings.Split(text, ";") {
		name, action, ok := strings.Cut(one, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%s: %q is not name=action", Env, one)
		}
		p, err := parsePoint(name, action)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", Env, name, err)
		}
		s.points[name] = p
	}
	return s, nil
}

func parsePoint(name, action string) (*point, error) {
	p := &point{}
	if count, rest, ok := strings.Cut(action, "*"); ok {
		n, err := strconv.ParseInt(count, 10, 64)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is not a count from 1", count)
		}
		p.nth, action = n, rest
	}
	verb, arg, _ := strings.Cut(action, ":")
	switch verb {
	case "kill":
		p.act = kill
	case "error":
		if arg == "" {
			arg = "asked for by " + Env
		}
		p.act = func() error { return fmt.Errorf("failpoint %s: %s", name, arg) }
	case "sleep":
		d, err := time.ParseDuration(arg)
		if err != nil {
			return nil, err
		}
		p.act = func() error { time.Sleep(d); return nil }
	default:
		return nil, fmt.Errorf("action %q is none of kill, error, sleep:duration", action)
	}
	return p, nil
}

// kill dies as if the kernel had killed the process: no deferred function, no buffer is flushed.
func kill() error {
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		return err
	}
	select {} // the signal is on its way
}

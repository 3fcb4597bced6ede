package testenv

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Network gives the test a network namespace of its own, with nothing but lo: its links, addresses, rules and ports are
// nobody else's, and go with it. It holds for the goroutine that calls it and for every program that this starts, so
// that a registry, a runtime and their clients are all in it. A subtest is another goroutine: only Unix sockets reach
// from there.
func Network(t testing.TB) {
	t.Helper()
	Root(t)
	Need(t, "ip")
	// The thread is never unlocked: it ends with the goroutine, and with the last program the namespace is gone.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("a network namespace for the test: %v", err)
	}
	Run(t, "ip", "link", "set", "lo", "up")
}

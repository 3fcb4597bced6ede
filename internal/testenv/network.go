package testenv

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"

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

// Get asks a web server at an address (host:port) for its main page, from the network namespace of the calling
// goroutine, and returns the page, or why there is none.
func Get(address string) (string, error) {
	// An address that needs no resolver is dialled by the calling goroutine itself, whose thread has the namespace.
	conn, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.0\r\nHost: %s\r\n\r\n", address); err != nil {
		return "", err
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", address, answer.Status)
	}
	page, err := io.ReadAll(answer.Body)
	return string(page), err
}

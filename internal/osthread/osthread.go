// Package osthread runs functions that change what belongs to a thread alone: its namespaces, its credentials. Namespaces
// themselves are the callers' business.
package osthread

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Run calls do on a thread that runs nothing else meanwhile, and waits. When do returns false, or does not return, the
// thread ends with it; true says that the thread is as it was. The first thread of the program is never used: it does
// not end, and it is the one that /proc/self tells of.
func Run(do func() (asBefore bool)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			Run(do) // while this one is held, the next goroutine gets another
			return
		}
		if do() {
			runtime.UnlockOSThread()
		}
	}()
	<-done
}

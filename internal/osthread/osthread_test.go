package osthread

import (
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRunIsNeverOnTheFirstThread(t *testing.T) {
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			Run(func() bool {
				if unix.Gettid() == unix.Getpid() {
					t.Error("on the first thread")
				}
				return true
			})
		})
	}
	wg.Wait()
}

func TestAThreadThatChangedEnds(t *testing.T) {
	tid := 0
	Run(func() bool {
		tid = unix.Gettid()
		return false
	})
	for range 1000 {
		if err := unix.Tgkill(unix.Getpid(), tid, 0); err == unix.ESRCH {
			return
		}
		runtime.Gosched()
		unix.Nanosleep(&unix.Timespec{Nsec: 1e6}, nil)
	}
	t.Errorf("thread %d lives on", tid)
}

func TestRunSurvivesGoexit(t *testing.T) {
	Run(func() bool {
		runtime.Goexit()
		return true
	})
}

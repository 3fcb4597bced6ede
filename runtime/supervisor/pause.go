package supervisor

import (
	"errors"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// Pause is the first process of a PID namespace that several containers share: it reaps what comes to it, and ends on
// TERM or INT.
func Pause() error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGCHLD, unix.SIGTERM, unix.SIGINT)
	for sig := range signals {
		if sig != unix.SIGCHLD {
			return nil
		}
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if err != nil && !errors.Is(err, unix.EINTR) || pid == 0 {
				break
			}
		}
	}
	return nil
}

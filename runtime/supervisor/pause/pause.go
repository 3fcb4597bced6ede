// Package pause makes the program that imports it the first process of a PID namespace that several containers share,
// when its one argument is "pause": it reaps what comes to it, and ends on TERM or INT. That happens in a constructor,
// before the Go runtime starts, so that each such process costs some 100 KiB and not some megabytes. There is nothing
// to call.
//
// Called docker-init, with -- and a command, it is the small first process of a container: it runs the command, forwards
// every signal to it, reaps what comes to it, and ends with the exit code of the command.
package pause

// #cgo CFLAGS: -O2 -Wall
import "C"

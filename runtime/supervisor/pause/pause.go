// Package pause makes the program that imports it the first process of a PID namespace that several containers share,
// when its one argument is "pause": it reaps what comes to it, and ends on TERM or INT. That happens in a constructor,
// before the Go runtime starts, so that each such process costs some 100 KiB and not some megabytes. There is nothing
// to call.
package pause

// #cgo CFLAGS: -O2 -Wall
import "C"

package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"
)

// dumpStacks writes the stacks of all goroutines into the state directory with each signal: for a daemon that does not
// answer any more.
func dumpStacks(asked <-chan os.Signal, state string, log *slog.Logger) {
	for range asked {
		path := filepath.Join(state, fmt.Sprintf("stacks-%s.txt", time.Now().UTC().Format("20060102T150405.000")))
		if err := writeStacks(path); err != nil {
			log.Error("write the stacks of all goroutines", "error", err)
			continue
		}
		log.Info("the stacks of all goroutines are written", "file", path)
	}
}

func writeStacks(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	return pprof.Lookup("goroutine").WriteTo(f, 2)
}

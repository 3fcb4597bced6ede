//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command minid-supervisor is the parent of container processes. The daemon starts it; nobody else needs to.
//
// Its modes: serve (the supervisor), init (libcontainer's half inside the container), pause (the first process of a
// shared PID namespace: it reaps, and ends on TERM or INT), seccomp-compile (a filter is compiled ahead),
// features (what libcontainer can do, as JSON of the runtime specification), version.
package main

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // a cgo constructor that joins namespaces before Go begins

	"github.com/minirt/mini/runtime/supervisor"
	"github.com/minirt/mini/runtime/supervisor/confine"
	_ "github.com/minirt/mini/runtime/supervisor/pause" // another one, which never lets Go begin
)

// version is set by the linker.
var version string

// init keeps the mode of that name on the thread that the process began with: SELinux takes the label of keys from no
// other, and only before main does Go stay there.
func init() {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		runtime.LockOSThread()
	}
}

func main() {
	mode := ""
	if len(os.Args) > 1 {
		mode = os.Args[1]
	}
	var err error
	switch mode {
	case "init":
		if err = confine.Arm(); err == nil {
			libcontainer.Init() // does not return
		}
	case "seccomp-compile":
		err = confine.Compile(os.Stdin, os.Stdout)
	case "serve":
		err = serve(os.Args[2:])
	case "features":
		err = supervisor.Features(os.Stdout, build())
	case "version":
		fmt.Println(build())
	default:
		err = fmt.Errorf("usage: %s serve|init|pause|seccomp-compile|features|version (the daemon starts it)", os.Args[0])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "minid-supervisor:", err)
		os.Exit(1)
	}
}

func serve(args []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	dir := flags.String("dir", "", "directory of the socket and the lock")
	verbose := flags.Bool("debug", false, "log more")
	ready := flags.Int("ready-fd", -1, "descriptor to close when the socket is there")
	resume := flags.Int("resume-fd", -1, "descriptor of the state of the program before this one")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *dir == "" {
		return fmt.Errorf("serve: --dir is missing")
	}
	// libcontainer's init gets this variable, and needs no second processor.
	if err := os.Setenv("GOMAXPROCS", "1"); err != nil {
		return err
	}
	runtime.GOMAXPROCS(max(2, min(runtime.NumCPU(), maxProcs)))
	debug.SetGCPercent(gcPercent)
	level := slog.LevelInfo
	if *verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	return supervisor.Main(supervisor.Options{Dir: *dir, Build: build(), Log: log, Debug: *verbose}, *ready, *resume)
}

const (
	maxProcs  = 8  // it copies bytes and waits; more threads would only cost memory
	gcPercent = 50 // small over fast
)

// build is the program's version and the commit it was built of.
func build() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version
	}
	v := version
	if v == "" {
		v = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v += " " + s.Value
		}
	}
	return v
}

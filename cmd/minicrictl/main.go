// Command minicrictl inspects and drives any CRI runtime: pods, containers, images, logs and statistics, with crictl's
// commands and output. It speaks CRI alone; the few verbs that CRI does not have (debug, load, save, tag, cp) use minid's
// native API and say so elsewhere.
package main

import (
	"os"

	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
)

const program = "minicrictl"

// version is set by the linker.
var version string // the linker's -X wants a variable

func main() {
	app, finish := newApp()
	code := icli.Run(app, os.Args, nil)
	finish()
	os.Exit(code)
}

// newApp returns the application, and what ends its profiles and traces.
func newApp() (app *cli.App, finish func()) {
	app = icli.NewBareApp(program, "inspect and drive the pods, containers and images of a CRI runtime", icli.Version(version))
	app.Flags = globalFlags()
	var o observation
	app.Before = o.begin
	app.Commands = []*cli.Command{
		runpCommand(), podsCommand(), inspectpCommand(), stoppCommand(), rmpCommand(),
		runCommand(), createCommand(), startCommand(), psCommand(), inspectCommand(), stopCommand(), rmCommand(),
		updateCommand(), checkpointCommand(),
		execCommand(), attachCommand(), portForwardCommand(), logsCommand(), debugCommand(), cpCommand(),
		pullCommand(), imagesCommand(), inspectiCommand(), rmiCommand(), imagefsinfoCommand(), loadCommand(), saveCommand(), tagCommand(),
		statsCommand(), statspCommand(), metricspCommand(), metricdescsCommand(), eventsCommand(),
		versionCommand(), infoCommand(), runtimeConfigCommand(), updateRuntimeConfigCommand(), configCommand(),
		icli.CompletionCommand(), icli.ManCommand(),
	}
	return app, func() { o.end(app.ErrWriter) }
}

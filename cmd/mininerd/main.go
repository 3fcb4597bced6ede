// Command mininerd is the everyday command line of minid, with docker's verbs, flags, output and exit codes. It is a thin
// client of the native API: what a container is and becomes is the daemon's to know.
package main

import (
	"os"

	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
)

const program = "mininerd"

// version is set by the linker.
var version string // the linker's -X wants a variable

func main() {
	app := newApp()
	os.Exit(icli.Main(app, icli.Posix(app, os.Args, literal()...)))
}

// literal are the commands whose arguments are another program's command line.
func literal() []string {
	return []string{"run", "create", "exec", "top", "container run", "container create", "container exec", "container top"}
}

func newApp() *cli.App {
	cli.HelpFlag = &cli.BoolFlag{Name: "help", Usage: "print help"} // -h is the host's name, as docker has it
	app := icli.NewBareApp(program, "run containers and work with images, as docker does", icli.Version(version))
	app.DisableSliceFlagSeparator = true // a mount has commas
	app.Flags = globalFlags()
	app.Before = readSettings
	app.Commands = append(containerVerbs(), imageVerbs()...)
	app.Commands = append(app.Commands,
		imagesCommand("images"), removeImagesCommand("rmi"), inspectCommand(), loginCommand(), logoutCommand(),
		eventsCommand(), infoCommand(), versionCommand(), searchCommand(), manifestCommand(), checkpointCommand(), apparmorCommand(),
		&cli.Command{Name: "container", Usage: "work with containers", Subcommands: append(containerVerbs(), containerInspectCommand(), containerPruneCommand())},
		&cli.Command{Name: "image", Usage: "work with images", Subcommands: append(imageVerbs(),
			append(refusedImageCommands(), imagesCommand("ls", "list"), removeImagesCommand("rm", "remove"), imageInspectCommand(), imagePruneCommand(),
				imageEncryptCommand(), imageDecryptCommand())...)},
		networkCommand(), volumeCommand(), namespaceCommand(), systemCommand(), icli.CompletionCommand(), icli.ManCommand(),
	)
	app.Commands = append(app.Commands, refusedCommands()...)
	wrongFlags(app)
	completeNames(app.Commands)
	return app
}

// containerVerbs stand at the top and below "container".
func containerVerbs() []*cli.Command {
	return []*cli.Command{
		runCommand(), createCommand(), startCommand(), stopCommand(), restartCommand(), killCommand(), removeCommand(), pauseCommand(),
		unpauseCommand(), waitCommand(), renameCommand(), updateCommand(), execCommand(), attachCommand(), logsCommand(), listCommand(),
		topCommand(), statsCommand(), healthcheckCommand(), portCommand(), copyCommand(), diffCommand(), exportCommand(), commitCommand(),
	}
}

// imageVerbs stand at the top and below "image".
func imageVerbs() []*cli.Command {
	return []*cli.Command{
		pullCommand(), pushCommand(), tagCommand(), saveCommand(), loadCommand(), importCommand(), historyCommand(),
	}
}

// wrongFlags gives a wrong flag docker's exit code, whatever the command.
func wrongFlags(app *cli.App) {
	coded := func(c *cli.Context, err error, sub bool) error {
		return icli.CodedError{Err: icli.UsageError(c, err, sub), Code: icli.CodeDaemon}
	}
	app.OnUsageError = coded
	var walk func([]*cli.Command)
	walk = func(commands []*cli.Command) {
		for _, c := range commands {
			c.OnUsageError = coded
			walk(c.Subcommands)
		}
	}
	walk(app.Commands)
}

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
	app := newApp(os.Args)
	os.Exit(icli.Main(app, icli.Posix(app, os.Args, literal()...)))
}

// literal are the commands whose arguments are another program's command line.
func literal() []string {
	return []string{"run", "create", "exec", "top", "container run", "container create", "container exec", "container top"}
}

// newApp is the program for a command line, or whole without one.
func newApp(args []string) *cli.App {
	cli.HelpFlag = &cli.BoolFlag{Name: "help", Usage: "print help"} // -h is the host's name, as docker has it
	app := icli.NewBareApp(program, "run containers and work with images, as docker does", icli.Version(version))
	app.DisableSliceFlagSeparator = true // a mount has commas
	app.Flags = globalFlags()
	app.Before = readSettings
	if called := daily()[icli.Called(app.Flags, args)]; called != nil {
		app.Commands = []*cli.Command{called()}
	} else {
		app.Commands = allCommands()
	}
	wrongFlags(app)
	completeNames(app.Commands)
	return app
}

// daily are the commands that people and scripts call all day. Each is made alone for a command line that has it: to make
// all of them is a tenth of a short command's time.
func daily() map[string]func() *cli.Command {
	return map[string]func() *cli.Command{
		"run": runCommand, "create": createCommand, "start": startCommand, "stop": stopCommand, "kill": killCommand, "rm": removeCommand,
		"exec": execCommand, "logs": logsCommand, "ps": listCommand, "inspect": inspectCommand, "wait": waitCommand,
		"images": func() *cli.Command { return imagesCommand("images") },
	}
}

func allCommands() []*cli.Command {
	all := append(containerVerbs(), imageVerbs()...)
	all = append(all,
		imagesCommand("images"), removeImagesCommand("rmi"), inspectCommand(), loginCommand(), logoutCommand(),
		eventsCommand(), infoCommand(), versionCommand(), searchCommand(), manifestCommand(), checkpointCommand(), apparmorCommand(),
		&cli.Command{Name: "container", Usage: "work with containers", Subcommands: append(containerVerbs(), containerInspectCommand(), containerPruneCommand())},
		&cli.Command{Name: "image", Usage: "work with images", Subcommands: append(imageVerbs(),
			append(refusedImageCommands(), imagesCommand("ls", "list"), removeImagesCommand("rm", "remove"), imageInspectCommand(), imagePruneCommand(),
				imageEncryptCommand(), imageDecryptCommand())...)},
		networkCommand(), volumeCommand(), namespaceCommand(), systemCommand(), icli.CompletionCommand(), icli.ManCommand(),
	)
	return append(all, refusedCommands()...)
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

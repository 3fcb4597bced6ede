// Command minictr is the low-level command line of minid: images, content, snapshots, leases, containers and their
// processes, each as it is. For the everyday one see mininerd.
package main

import (
	"os"

	"github.com/urfave/cli/v2"

	icli "github.com/minirt/mini/cmd/internal/cli"
)

// version is set by the linker.
var version string // the linker's -X wants a variable

func main() {
	os.Exit(icli.Main(newApp(), os.Args))
}

func newApp() *cli.App {
	app := icli.NewApp("minictr", "work with minid's images, containers and snapshots as they are", icli.Version(version))
	app.Commands = []*cli.Command{
		versionCommand(), infoCommand(), pluginsCommand(), runCommand(), execCommand(), logsCommand(),
		imagesCommand(), containersCommand(), tasksCommand(), contentCommand(), snapshotsCommand(), leasesCommand(),
		namespacesCommand(), eventsCommand(), checkCommand(), ociCommand(), pprofCommand(), icli.CompletionCommand(), icli.ManCommand(),
	}
	return app
}

package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// absent are the flags and commands of docker and nerdctl that there are not, by "COMMAND --FLAG" or "COMMAND", with the
// reason.
func absent() map[string]string {
	const (
		layers = "a layer is compressed by gzip, zstd or not at all"
		links  = "links are the container's own, and go with it"
	)
	return map[string]string{
		"rm --link": links, "container rm --link": links,
		"commit --estargz": layers, "commit --zstdchunked": layers,
		"network connect --gw-priority": "the default routes go by the first network that leads out",
	}
}

// TestAudit compares the commands and flags with those of docker 20.10 and 28 together, and of nerdctl 2.3: each is there
// (a flag that is refused with its reason is), or has its reason in the list above.
func TestAudit(t *testing.T) {
	for _, file := range []string{"testdata/docker.txt", "testdata/nerdctl.txt"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			path, flags, _ := strings.Cut(strings.TrimSpace(line), ":")
			if absent()[path] != "" {
				continue
			}
			c := commandAt(newApp(nil).Commands, strings.Fields(path))
			if c == nil {
				t.Errorf("%s: there is no command %s", file, path)
				continue
			}
			for _, flag := range strings.Fields(flags) {
				name, letter, _ := strings.Cut(flag, "/")
				if !c.SkipFlagParsing && !hasFlag(c, name, letter) && absent()[path+" --"+name] == "" {
					t.Errorf("%s: %s has no --%s (-%s)", file, path, name, letter)
				}
			}
		}
	}
}

func commandAt(commands []*cli.Command, path []string) *cli.Command {
	i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(path[0]) })
	if i < 0 {
		return nil
	}
	if len(path) == 1 {
		return commands[i]
	}
	return commandAt(commands[i].Subcommands, path[1:])
}

func hasFlag(c *cli.Command, name, letter string) bool {
	return slices.ContainsFunc(c.Flags, func(f cli.Flag) bool {
		return slices.Contains(f.Names(), name) && (letter == "" || slices.Contains(f.Names(), letter))
	})
}

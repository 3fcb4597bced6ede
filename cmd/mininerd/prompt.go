package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
)

func forceFlag() cli.Flag {
	return &cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "do not ask"}
}

// confirmed asks before much is removed, unless -f was given. What is not a yes is a no.
func confirmed(c *cli.Context, what string) (bool, error) {
	if c.Bool("force") {
		return true, nil
	}
	fmt.Fprintf(c.App.Writer, "WARNING! %s\nAre you sure you want to continue? [y/N] ", what)
	in := c.App.Reader
	if in == nil {
		in = os.Stdin
	}
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && line == "" {
		fmt.Fprintln(c.App.Writer)
		return false, nil // nobody answers
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", nil
}

func writesToTerminal(c *cli.Context) bool {
	f, ok := c.App.Writer.(*os.File)
	return ok && isTerminal(f)
}

// Package builtin runs a command that the shell has built in, for those who run it without a shell.
package builtin

import (
	"context"
	"errors"
	"fmt"
	"os"

	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// Main runs the builtin with the program's arguments and ends with its status; 2 if it could not be run.
func Main(name string) {
	file := &syntax.File{Stmts: []*syntax.Stmt{{Cmd: call(append([]string{name}, os.Args[1:]...))}}}
	runner, err := interp.New(interp.StdIO(os.Stdin, os.Stdout, os.Stderr))
	if err == nil {
		err = runner.Run(context.Background(), file)
	}
	var status interp.ExitStatus
	switch {
	case errors.As(err, &status):
		os.Exit(int(status))
	case err != nil:
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(2)
	}
}

// call is a command of words that are taken as they are.
func call(args []string) *syntax.CallExpr {
	c := &syntax.CallExpr{}
	for _, arg := range args {
		c.Args = append(c.Args, &syntax.Word{Parts: []syntax.WordPart{&syntax.SglQuoted{Value: arg}}})
	}
	return c
}

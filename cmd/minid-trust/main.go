//go:build containers_image_openpgp

// Command minid-trust answers one question of minid's: whether a policy allows an image, or with which keys layers are
// encrypted. It reads the question from its standard input, and is not meant to be run by hand.
package main

import (
	"os"

	"github.com/minirt/mini/runtime/trust/program"
)

func main() { os.Exit(program.Main(os.Stdin, os.Stdout, os.Stderr)) }

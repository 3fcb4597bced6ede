// Command sha512sum prints or checks (-c) SHA-512 sums.
package main

import (
	"crypto/sha512"
	"os"

	"github.com/minirt/mini/toolbox/internal/digest"
)

func main() { os.Exit(digest.Main(sha512.New, os.Args[1:])) }

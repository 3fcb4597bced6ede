// Command sha1sum prints or checks (-c) SHA-1 sums.
package main

import (
	"crypto/sha1"
	"os"

	"github.com/minirt/mini/toolbox/internal/digest"
)

func main() { os.Exit(digest.Main(sha1.New, os.Args[1:])) }

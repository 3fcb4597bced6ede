// Command sha256sum prints or checks (-c) SHA-256 sums.
package main

import (
	"crypto/sha256"
	"os"

	"github.com/minirt/mini/toolbox/internal/digest"
)

func main() { os.Exit(digest.Main(sha256.New, os.Args[1:])) }

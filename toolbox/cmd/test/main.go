// Command test is the shell's own test, for those who run it without a shell.
package main

import "github.com/minirt/mini/toolbox/internal/builtin"

func main() { builtin.Main("test") }

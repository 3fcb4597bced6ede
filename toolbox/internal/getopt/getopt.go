// Package getopt reads a command's flags as POSIX has them (Utility Syntax Guidelines 5 to 10): letters in one word, a
// value in the same word or the next, "--" ends them.
package getopt

import (
	"fmt"
	"strings"
)

// Option is one flag that was given.
type Option struct {
	Letter byte
	Value  string
}

// Parse splits args by spec: each letter is a flag, and takes a value when a colon follows it.
func Parse(spec string, args []string) (options []Option, rest []string, err error) {
	for len(args) > 0 {
		word := args[0]
		if len(word) < 2 || word[0] != '-' {
			break
		}
		args = args[1:]
		if word == "--" {
			break
		}
		for i := 1; i < len(word); i++ {
			at := strings.IndexByte(spec, word[i])
			if at < 0 || word[i] == ':' {
				return nil, nil, fmt.Errorf("-%c: not an option; there are %s", word[i], list(spec))
			}
			o := Option{Letter: word[i]}
			if at+1 < len(spec) && spec[at+1] == ':' {
				o.Value = word[i+1:]
				if o.Value == "" {
					if len(args) == 0 {
						return nil, nil, fmt.Errorf("-%c: its value is missing", word[i])
					}
					o.Value, args = args[0], args[1:]
				}
				i = len(word)
			}
			options = append(options, o)
		}
	}
	return options, args, nil
}

func list(spec string) string {
	var names []string
	for _, letter := range strings.ReplaceAll(spec, ":", "") {
		names = append(names, "-"+string(letter))
	}
	return strings.Join(names, " ")
}

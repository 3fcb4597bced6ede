// Command cut prints parts of lines: cut -f LIST [-d C] [-s] | -c LIST | -b LIST [FILE…].
package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/minirt/mini/toolbox/internal/getopt"
)

type span struct{ from, to int } // counted from 1, both included

type options struct {
	list      string
	fields    bool
	delimiter string
	only      bool
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cut:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	given, files, err := getopt.Parse("f:c:b:d:s", args)
	if err != nil {
		return err
	}
	o := options{delimiter: "\t"}
	for _, g := range given {
		switch g.Letter {
		case 'd':
			o.delimiter = g.Value
		case 's':
			o.only = true
		default:
			o.list, o.fields = g.Value, g.Letter == 'f'
		}
	}
	list, err := parse(o.list)
	if err != nil {
		return err
	}
	return each(files, func(line string) { o.print(line, list) })
}

func (o options) print(line string, list []span) {
	switch {
	case !o.fields:
		fmt.Println(strings.Join(choose(strings.Split(line, ""), list), ""))
	case strings.Contains(line, o.delimiter):
		fmt.Println(strings.Join(choose(strings.Split(line, o.delimiter), list), o.delimiter))
	case !o.only:
		fmt.Println(line)
	}
}

func parse(list string) ([]span, error) {
	var spans []span
	for item := range strings.SplitSeq(list, ",") {
		from, to, dash := strings.Cut(item, "-")
		s := span{1, math.MaxInt}
		var err error
		if from != "" {
			s.from, err = strconv.Atoi(from)
		}
		if !dash {
			s.to = s.from
		} else if to != "" && err == nil {
			s.to, err = strconv.Atoi(to)
		}
		if err != nil || s.from < 1 || item == "" {
			return nil, fmt.Errorf("list %q: want numbers and ranges, as in 1,3-5", list)
		}
		spans = append(spans, s)
	}
	return spans, nil
}

func choose(parts []string, list []span) []string {
	var chosen []string
	for i, part := range parts {
		for _, s := range list {
			if i+1 >= s.from && i+1 <= s.to {
				chosen = append(chosen, part)
				break
			}
		}
	}
	return chosen
}

func each(names []string, do func(string)) error {
	if len(names) == 0 {
		return lines(os.Stdin, do)
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = lines(f, do)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func lines(r io.Reader, do func(string)) error {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		do(s.Text())
	}
	return s.Err()
}

// Command grep prints lines that match: grep [-EFGivcnlqshHowxr] [-m COUNT] [-e PATTERN | PATTERN] [FILE…]. Patterns are
// RE2's syntax with -E and without; a basic pattern's \( \) \{ \} \| \+ \? are understood as what they mean there.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/minirt/mini/toolbox/internal/getopt"
)

func main() {
	g, files, err := parse(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "grep:", err)
		os.Exit(2)
	}
	os.Exit(g.run(files))
}

// grep is what one call looks for, and how it tells.
type grep struct {
	set     map[byte]bool // the flags without a value
	pattern *regexp.Regexp
	most    int // lines of a file; 0: all
	named   bool
	out     *bufio.Writer
	errs    io.Writer
	in      io.Reader
	found   bool
	failed  bool
}

func parse(args []string) (*grep, []string, error) {
	given, rest, err := getopt.Parse("EFGivcnlqshHowxre:m:", args)
	if err != nil {
		return nil, nil, err
	}
	g := &grep{set: map[byte]bool{}, out: bufio.NewWriter(os.Stdout), errs: os.Stderr, in: os.Stdin}
	var patterns []string
	for _, o := range given {
		switch o.Letter {
		case 'e':
			patterns = append(patterns, o.Value)
		case 'm':
			if g.most, err = strconv.Atoi(o.Value); err != nil || g.most < 1 {
				return nil, nil, fmt.Errorf("-m %s: give a number of lines above 0", o.Value)
			}
		default:
			g.set[o.Letter] = true
		}
	}
	if len(patterns) == 0 {
		if len(rest) == 0 {
			return nil, nil, errors.New("the pattern is missing: grep [-EFivcnlqr…] PATTERN [FILE…]")
		}
		patterns, rest = rest[:1], rest[1:]
	}
	if g.pattern, err = g.compile(patterns); err != nil {
		return nil, nil, err
	}
	if g.set['r'] && len(rest) == 0 {
		rest = []string{"."}
	}
	g.named = (len(rest) > 1 || g.set['r'] || g.set['H']) && !g.set['h']
	return g, rest, nil
}

// compile joins the patterns, and each line of them, to one.
func (g *grep) compile(patterns []string) (*regexp.Regexp, error) {
	var parts []string
	for line := range strings.SplitSeq(strings.Join(patterns, "\n"), "\n") {
		switch {
		case g.set['F']:
			line = regexp.QuoteMeta(line)
		case !g.set['E']:
			line = extended(line)
		}
		parts = append(parts, "(?:"+line+")")
	}
	all := strings.Join(parts, "|")
	if g.set['w'] {
		all = `\b(?:` + all + `)\b`
	}
	if g.set['x'] {
		all = "^(?:" + all + ")$"
	}
	if g.set['i'] {
		all = "(?i)" + all
	}
	return regexp.Compile(all)
}

// extended turns a basic pattern into an extended one: what is special with a backslash is so without one, and the other
// way round (POSIX, "Basic Regular Expressions").
func extended(basic string) string {
	var b strings.Builder
	set := false // inside [ ], where a backslash is itself
	for i := 0; i < len(basic); i++ {
		c := basic[i]
		switch {
		case set:
			if c == '\\' {
				b.WriteByte('\\')
			}
			set = c != ']'
		case c == '[':
			set = true
			if rest := strings.TrimPrefix(basic[i+1:], "^"); strings.HasPrefix(rest, "]") {
				b.WriteString(basic[i : i+len(basic[i+1:])-len(rest)+1])
				b.WriteString(`\`)
				i += len(basic[i+1:]) - len(rest) + 1
				c = ']'
			}
		case c == '\\' && i+1 < len(basic):
			i++
			if c = basic[i]; !strings.ContainsRune("(){}|+?", rune(c)) {
				b.WriteByte('\\')
			}
		case strings.ContainsRune("(){}|+?", rune(c)):
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String()
}

// run gives the exit code: 0 when a line was found, 1 when none was, 2 after an error.
func (g *grep) run(files []string) int {
	if len(files) == 0 {
		g.look("(standard input)", g.in)
	}
	for _, name := range files {
		g.each(name)
		if g.found && g.set['q'] {
			break
		}
	}
	g.out.Flush()
	switch {
	case g.found && (g.set['q'] || !g.failed):
		return 0
	case g.failed:
		return 2
	}
	return 1
}

// each looks into a file, or with -r into all below a directory.
func (g *grep) each(name string) {
	if name == "-" {
		g.look("(standard input)", g.in)
		return
	}
	if !g.set['r'] {
		g.open(name)
		return
	}
	err := filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			g.fail(err)
		case d.Type().IsRegular() || path == name && !d.IsDir():
			g.open(path)
		}
		return nil
	})
	if err != nil {
		g.fail(err)
	}
}

func (g *grep) open(name string) {
	f, err := os.Open(name)
	if err != nil {
		g.fail(err)
		return
	}
	defer f.Close()
	g.look(name, f)
}

func (g *grep) fail(err error) {
	g.failed = true
	if !g.set['s'] {
		fmt.Fprintln(g.errs, "grep:", err)
	}
}

// look prints what is to be said of one file.
func (g *grep) look(name string, r io.Reader) {
	in := bufio.NewReader(r)
	count := 0
	for number := 1; g.most == 0 || count < g.most; number++ {
		line, err := in.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			g.fail(err)
			break
		}
		if err != nil && line == "" {
			break
		}
		line = strings.TrimSuffix(line, "\n")
		if g.pattern.MatchString(line) == g.set['v'] {
			continue
		}
		g.found = true
		count++
		if g.set['q'] || g.set['l'] {
			break
		}
		if !g.set['c'] {
			g.tell(name, number, line)
		}
	}
	switch {
	case g.set['q']:
	case g.set['l'] && count > 0:
		fmt.Fprintln(g.out, name)
	case g.set['c'] && !g.set['l']:
		g.tell(name, 0, strconv.Itoa(count))
	}
}

// tell prints a line, or with -o each part of it that matches; number 0 is not told.
func (g *grep) tell(name string, number int, line string) {
	before := ""
	if g.named {
		before = name + ":"
	}
	if g.set['n'] && number > 0 {
		before += strconv.Itoa(number) + ":"
	}
	if !g.set['o'] || number == 0 {
		fmt.Fprintln(g.out, before+line)
		return
	}
	if g.set['v'] {
		return
	}
	for _, part := range g.pattern.FindAllString(line, -1) {
		if part != "" {
			fmt.Fprintln(g.out, before+part)
		}
	}
}

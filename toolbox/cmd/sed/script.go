package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// address chooses lines: a number, $ or /RE/.
type address struct {
	line int
	last bool
	re   *regexp.Regexp
}

func (a address) matches(number int, line string, last bool) bool {
	switch {
	case a.re != nil:
		return a.re.MatchString(line)
	case a.last:
		return last
	default:
		return number == a.line
	}
}

// command is one of the script, with the state of its range.
type command struct {
	addresses []address
	inside    bool
	negate    bool
	verb      byte
	re        *regexp.Regexp
	text      string
	global    bool
	print     bool
}

type script []command

func (c *command) applies(number int, line string, last bool) bool {
	return c.selected(number, line, last) != c.negate
}

func (c *command) selected(number int, line string, last bool) bool {
	switch {
	case len(c.addresses) == 0:
		return true
	case len(c.addresses) == 1:
		return c.addresses[0].matches(number, line, last)
	case c.inside:
		c.inside = !c.addresses[1].matches(number, line, last)
		return true
	case c.addresses[0].matches(number, line, last):
		end := c.addresses[1]
		c.inside = end.re != nil || end.last && !last || end.line > number
		return true
	default:
		return false
	}
}

func (c *command) run(line string) (result string, print, deleted, quit bool) {
	switch c.verb {
	case 'p':
		return line, true, false, false
	case 'd':
		return line, false, true, false
	case 'q':
		return line, false, false, true
	}
	found := c.re.FindStringSubmatchIndex(line)
	if found == nil {
		return line, false, false, false
	}
	if c.global {
		return c.re.ReplaceAllString(line, c.text), c.print, false, false
	}
	middle := c.re.ExpandString(nil, c.text, line, found)
	return line[:found[0]] + string(middle) + line[found[1]:], c.print, false, false
}

// compile reads a whole script; commands are parted by ; or a new line.
func compile(text string) (script, error) {
	var p script
	rest := text
	for {
		rest = strings.TrimLeft(rest, "; \n\t")
		if rest == "" {
			return p, nil
		}
		var c command
		var err error
		if rest, err = c.parse(rest); err != nil {
			return nil, fmt.Errorf("script %q: %w", text, err)
		}
		p = append(p, c)
	}
}

func (c *command) parse(s string) (rest string, err error) {
	for len(c.addresses) < 2 {
		var a address
		var ok bool
		if a, s, ok, err = parseAddress(s); err != nil {
			return "", err
		}
		if !ok {
			break
		}
		c.addresses = append(c.addresses, a)
		if !strings.HasPrefix(s, ",") {
			break
		}
		s = s[1:]
	}
	if s = strings.TrimLeft(s, " "); strings.HasPrefix(s, "!") {
		c.negate, s = true, strings.TrimLeft(s[1:], " ")
	}
	if s == "" {
		return "", fmt.Errorf("a command is missing")
	}
	c.verb = s[0]
	switch c.verb {
	case 'p', 'd', 'q':
		return s[1:], nil
	case 's':
		return c.substitution(s[1:])
	default:
		return "", fmt.Errorf("command %q: only s, p, d and q are known", s[:1])
	}
}

func (c *command) substitution(s string) (rest string, err error) {
	if s == "" {
		return "", fmt.Errorf("s: what is to be replaced?")
	}
	mark := s[0]
	pattern, s, ok := until(s[1:], mark)
	text, s, ok2 := until(s, mark)
	if !ok || !ok2 {
		return "", fmt.Errorf("s: the closing %q is missing", string(mark))
	}
	flags := ""
	for ; s != "" && strings.IndexByte("gip", s[0]) >= 0; s = s[1:] {
		switch s[0] {
		case 'g':
			c.global = true
		case 'p':
			c.print = true
		case 'i':
			flags = "(?i)"
		}
	}
	c.re, err = regexp.Compile(flags + pattern)
	c.text = replacement(text)
	return s, err
}

// replacement turns \1 and & into Go's ${1} and ${0}.
func replacement(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text):
			i++
			switch {
			case text[i] >= '0' && text[i] <= '9':
				fmt.Fprintf(&b, "${%c}", text[i])
			case text[i] == 'n':
				b.WriteByte('\n')
			default:
				b.WriteByte(text[i])
			}
		case text[i] == '&':
			b.WriteString("${0}")
		case text[i] == '$':
			b.WriteString("$$")
		default:
			b.WriteByte(text[i])
		}
	}
	return b.String()
}

// until cuts s at the next mark that has no backslash before it.
func until(s string, mark byte) (before, after string, found bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && s[i+1] == mark:
			i++
			b.WriteByte(mark)
		case s[i] == '\\' && i+1 < len(s):
			b.WriteString(s[i : i+2])
			i++
		case s[i] == mark:
			return b.String(), s[i+1:], true
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), "", false
}

func parseAddress(s string) (a address, rest string, ok bool, err error) {
	digits := 0
	for digits < len(s) && s[digits] >= '0' && s[digits] <= '9' {
		digits++
	}
	switch {
	case digits > 0:
		a.line, err = strconv.Atoi(s[:digits])
		return a, s[digits:], true, err
	case strings.HasPrefix(s, "$"):
		a.last = true
		return a, s[1:], true, nil
	case strings.HasPrefix(s, "/"):
		pattern, rest, found := until(s[1:], '/')
		if !found {
			return a, "", false, fmt.Errorf("address /%s: the closing / is missing", pattern)
		}
		a.re, err = regexp.Compile(pattern)
		return a, rest, true, err
	default:
		return a, s, false, nil
	}
}
